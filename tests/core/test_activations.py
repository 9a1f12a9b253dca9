"""Activations of planar and Sylvester flows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import bijectors as B


@pytest.mark.parametrize(
    "build", [B.Planar, lambda n, *a, **k: B.Sylvester(n, 2, *a, **k)]
)
def test_log_determinants_in_steps_have_a_gradient_of_zeros(build):
    bijector = build(2, activation="leaky_relu", dtype="float64")
    for method in ("forward_log_det_jacobian", "inverse_log_det_jacobian"):
        x = tf.constant([[0.5, -1.0], [-np.inf, 2.0], [3.0, np.inf]], "float64")
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_det = getattr(perturb(bijector, 0.5), method)(x, 1)
        np.testing.assert_array_equal(tape.gradient(log_det, x)[0], np.zeros(2))
        assert not np.isnan(log_det[0])
