"""Noise and priors of each level."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.bijectors.cases import multiscale
from tests.support import normal
from tfp_flows import bijectors as B

tfb = tfp.bijectors


def test_multiscale_splits_noise_by_level():
    bijector = multiscale("float64")
    assert bijector.part_shapes == [(2, 2, 4), (1, 1, 16)]
    y = normal(3, 4, 4, 2)
    z = bijector.inverse(y)
    parts = bijector.split_noise(z)
    assert [tuple(p.shape) for p in parts] == [(3, 2, 2, 4), (3, 1, 1, 16)]
    np.testing.assert_array_equal(bijector.join_noise(parts), z)


def test_multiscale_priors_standardise():
    """With a prior of mean 2 and log-scale 0.5 what leaves is (z - 2) exp(-0.5)."""
    constant = tf.concat([tf.fill([8], 2.0), tf.fill([8], 0.5)], 0)
    level = tfb.Invert(B.Squeeze(2))

    def prior(h):
        return tf.broadcast_to(constant[::2], (*h.shape[:-1], 8))

    plain = B.MultiScale([level, level], (4, 4, 2))
    with_prior = B.MultiScale([level, level], (4, 4, 2), [prior])
    y = normal(3, 4, 4, 2, dtype="float32")
    z, ildj = plain.inverse_and_log_det(y)
    e, ildj_prior = with_prior.inverse_and_log_det(y)
    np.testing.assert_allclose(e[:, :16], (z[:, :16] - 2) * np.exp(-0.5), rtol=1e-5)
    np.testing.assert_array_equal(e[:, 16:], z[:, 16:])
    np.testing.assert_allclose(ildj_prior - ildj, [-8.0] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.MultiScale([], (4, 4, 1)), "levels"),
        (
            lambda: B.MultiScale([B.Permutation([0]), B.Squeeze(2)], (4, 4, 1)),
            "one channel",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.MultiScale([B.Squeeze(2)], 4), "event_shape must be a sequence"),
        (lambda: B.MultiScale(4, (4, 4, 1)), "levels must be a list.* got 4"),
        (lambda: B.MultiScale(B.Squeeze(2), (4, 4, 1)), "levels must be a list"),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
