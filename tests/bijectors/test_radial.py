"""Radial flows: the formula, and inverses at the edge."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.bijectors.support import assign
from tests.support import close, normal, perturb, softplus
from tfp_flows import bijectors as B


@pytest.mark.parametrize("raw_gamma", [-2.0, 3.0])
def test_radial_formula(raw_gamma):
    bijector = B.Radial(3, seed=0, dtype="float64")
    assign(bijector, alpha=0.4, gamma=raw_gamma)
    one = np.log(np.e - 1)
    alpha, gamma = softplus(0.4 + one), softplus(raw_gamma + one)
    beta = alpha * (gamma - 1)
    z, center = normal(6, 3).numpy(), bijector.trainable_variables[0].numpy()
    r = np.linalg.norm(z - center, axis=1, keepdims=True)
    y, log_det = bijector.forward_and_log_det(z)
    close(y, z + beta / (alpha + r) * (z - center), 1e-12)
    expected = 2 * np.log1p(beta / (alpha + r)) + np.log1p(
        beta / (alpha + r) - beta * r / (alpha + r) ** 2
    )
    close(log_det, expected[:, 0], 1e-12)


@pytest.mark.parametrize("raw_gamma", [-14.0, -3.0, 5.0, 1e3])
def test_radial_round_trip_at_the_edge(raw_gamma):
    bijector = assign(B.Radial(3, seed=0, dtype="float64"), gamma=raw_gamma)
    center = bijector.trainable_variables[0].numpy()
    z = np.concatenate(
        [
            center + 1e-3 * normal(20, 3).numpy(),
            normal(20, 3, seed=1).numpy(),
            1e3 * normal(20, 3, seed=2).numpy(),
            [center],
        ]
    )
    y, log_det = bijector.forward_and_log_det(z)
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    close(back, z)
    # Close to the center, distances have lost digits before a bijector sees them.
    close(inverse_log_det, -log_det, 1e-8)
    close(bijector.forward(bijector.inverse(z)), z)


def test_radial_derivatives_at_its_center_are_finite():
    bijector = perturb(B.Radial(3, seed=0, dtype="float64"), 0.5)
    y = tf.convert_to_tensor(bijector.trainable_variables[0])[None]
    for function in (bijector.forward_and_log_det, bijector.inverse_and_log_det):
        with tf.GradientTape() as second:
            second.watch(y)
            with tf.GradientTape() as first:
                first.watch(y)
                value, log_det = function(y)
                value = tf.reduce_sum(tf.sin(value)) + tf.reduce_sum(log_det)
            gradient = first.gradient(value, y)
        assert np.isfinite(gradient).all()
        assert np.isfinite(second.gradient(gradient, y)).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Radial(-1), "event_shape must be at least 1, got -1"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
