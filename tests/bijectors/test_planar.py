"""Planar flows: the formula, and inverses at the edge."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.bijectors.support import assign
from tests.support import close, normal, softplus
from tfp_flows import bijectors as B


@pytest.mark.parametrize(
    ("activation", "negative_slope"), [("tanh", 0.2), ("leaky_relu", 0.3)]
)
def test_planar_formula(activation, negative_slope):
    bijector = B.Planar(3, activation, negative_slope, dtype="float64")
    w, v, b = np.array([1.0, -2.0, 0.5]), np.array([-3.0, 1.0, 0.7]), 0.3
    assign(bijector, w=w, v=v, b=b)
    v = v / (1 + softplus(-w @ v))
    z = normal(6, 3).numpy()
    a = z @ w + b
    if activation == "tanh":
        h, slope = np.tanh(a), np.cosh(a) ** -2.0
    else:
        h = np.where(a > 0, a, negative_slope * a)
        slope = np.where(a > 0, 1.0, negative_slope)
    y, log_det = bijector.forward_and_log_det(z)
    close(y, z + v * h[:, None], 1e-12)
    close(log_det, np.log(1 + (w @ v) * slope), 1e-12)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("product", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_planar_round_trip_at_the_edge(activation, product):
    """w^T v from nearly -1 to ten thousand, also where the slope is the smallest."""
    w = np.array([0.6, 0.8])
    bijector = B.Planar(2, activation, dtype="float64")
    assign(bijector, w=w, v=product * w + [0.8, -0.6], b=0.3)
    z = np.concatenate(
        [
            normal(50, 2).numpy(),
            1e-6 * normal(50, 2, seed=1).numpy() - 0.3 * w,
            100 * normal(50, 2, seed=2).numpy(),
        ]
    )
    y, log_det = bijector.forward_and_log_det(z)
    assert np.isfinite(log_det).all()
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    close(back, z)
    close(inverse_log_det, -log_det, 1e-8)
    size = max(1.0, abs(product) / 100)
    close(bijector.forward(bijector.inverse(z)) / size, z / size)


@pytest.mark.parametrize("negative_slope", [0.0, 3.0])
def test_planar_leaky_relu_of_any_slope(negative_slope):
    w = np.array([0.6, 0.8])
    bijector = B.Planar(2, "leaky_relu", negative_slope, dtype="float64")
    assign(bijector, w=w, v=-50 * w, b=0.3)
    z = 3.0 * normal(50, 2)
    y, log_det = bijector.forward_and_log_det(z)
    assert np.isfinite(log_det).all()
    close(bijector.inverse(y), z)
    # The steeper side is the one that is nearly flattened.
    steep = (z.numpy() @ w + 0.3 < 0) == (negative_slope > 1)
    assert np.max(log_det.numpy()[steep]) < -3 < np.min(log_det.numpy()[~steep])


@pytest.mark.parametrize("product", np.linspace(-1e3, 1e3, 7))
def test_the_constraint_is_strict_and_reaches_everything(product):
    """The smallest slope of a planar layer is 1 + w^T v, at its hyperplane."""
    bijector = B.Planar(1, dtype="float64")
    assign(bijector, w=1.0, v=product)
    slope = np.exp(bijector.forward_log_det_jacobian([[0.0]], 1))
    close(slope, (1 + softplus(product)) / (1 + softplus(-product)), 1e-11)
    assert 0 < slope[0] < 2e3
    assert (slope[0] < 1) == (product < 0)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.Planar(3, conditioner=lambda c: c, context_shape=(None,)),
            r"context_shape\[0\] must be an integer",
        ),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Planar(0), "event_shape must be at least 1, got 0"),
        (lambda: B.Planar(3, "relu"), "tanh.*leaky_relu.*'relu'"),
        (lambda: B.Planar(3, "leaky_relu", -0.1), "negative_slope.*-0.1"),
        (lambda: B.Planar(3, context_shape=(2,)), "go together.*only context_shape"),
        (lambda: B.Planar(3, conditioner=tf.identity), "go together.*only conditioner"),
        (
            lambda: B.Planar(3, conditioner=tf.identity, context_shape=(2,)),
            r"batch, 7\] \(3 for w, 3 for v, 1 for b\).*\[batch, 2\]",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
