"""Noise that Tweedie's formula takes off."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tests.support import normal
from tfp_flows import Flow, flows, latent


def test_the_mean_of_a_gaussian_behind_noise():
    """For x from N(0, s^2) it is y s^2 / (s^2 + sigma^2)."""
    scale, noise = np.array([1.0, 0.1]), 0.5
    base = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))
    deviation = tf.constant(np.sqrt(scale**2 + noise**2))
    y = normal(5, 2)
    found = latent.denoise(Flow(base, tfb.Scale(deviation)), y, noise)
    np.testing.assert_allclose(found, y * scale**2 / (scale**2 + noise**2))


def test_context_and_errors():
    flow = flows.real_nvp((2,), layers=2, width=8, context_shape=(3,), seed=0)
    y, context = normal(4, 2), normal(4, 3, seed=1)
    assert latent.denoise(flow, y, 0.1, context=context).shape == (4, 2)
    np.testing.assert_array_equal(
        latent.denoise(flow, y, 0.0, context=context), tf.cast(y, tf.float32)
    )
    with pytest.raises(ValueError, match="noise must be at least 0"):
        latent.denoise(flow, y, -0.1, context=context)
    with pytest.raises(ValueError, match="y must end in"):
        latent.denoise(flow, normal(4, 3), 0.1, context=context)
