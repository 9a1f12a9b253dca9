"""Every transformer: slopes, inverses, edges, far out and in single precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow
from tests.transformers.support import parameters_of
from tfp_flows import transformers

tfb = tfp.bijectors

TRANSFORMERS = [
    transformers.Shift(),
    transformers.Affine("tanh"),
    transformers.Affine("exp"),
    transformers.Affine("exp", 1.5),
    transformers.Affine("sigmoid"),
    transformers.Affine("sigmoid", 3.0),
    transformers.RationalQuadratic(2),
    transformers.RationalQuadratic(8, bound=2.0),
    transformers.RationalQuadratic(5, circular=True),
    transformers.LogisticMixture(1),
    transformers.LogisticMixture(5),
    transformers.Inverted(transformers.LogisticMixture(3)),
    transformers.LinearRational(6, bound=2.0),
    transformers.Cubic(6, bound=2.0),
    transformers.Bernstein(8),
    transformers.SumOfSquares(2, 2),
    transformers.SigmoidNetwork(3),
    transformers.Analytic("cubic_rational", 1),
    transformers.Analytic("sinh", 3),
    transformers.Analytic("cubic", 2),
    transformers.SoftLog(2.0),
    transformers.Probit(),
    transformers.Stacked(
        [transformers.RationalQuadratic(4), transformers.Affine("exp", 1.0)]
    ),
]
every = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)


# Whose values stay in the range of single precision, both ways.
LINES = [
    t
    for t in TRANSFORMERS
    if not getattr(t, "circular", False)
    and not isinstance(t, (transformers.SoftLog, transformers.Probit))
]


lines = pytest.mark.parametrize("transformer", LINES, ids=repr)


def alike(transformer, n, *args, **kwargs):
    """The same parameters for all of `n` entries."""
    theta = parameters_of(transformer, 1, *args, **kwargs)
    return tf.broadcast_to(theta, [transformer.num_parameters, n])


def inputs(transformer, n=201, dtype="float64"):
    if getattr(transformer, "circular", False):
        return tf.constant(np.linspace(-math.pi, math.pi, n + 2)[1:-1], dtype)
    return tf.constant(np.linspace(-6, 6, n), dtype)


@every
@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_slopes_round_trips_and_order(transformer, scale):
    x = inputs(transformer)
    theta = alike(transformer, len(x), scale)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = transformer.forward_and_log_det(x, theta)
    np.testing.assert_allclose(
        log_det, np.log(tape.gradient(y, x)), rtol=1e-9, atol=1e-9
    )
    back, inverse_log_det = transformer.inverse_and_log_det(tf.constant(y), theta)
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)
    if not getattr(transformer, "circular", False):
        assert (np.diff(y) > 0).all()


@pytest.mark.parametrize(
    "transformer", [t for t in TRANSFORMERS if t.num_parameters], ids=repr
)
def test_zeros_are_nearly_the_identity(transformer):
    x = inputs(transformer, 100)
    if isinstance(transformer, transformers.SoftLog):
        x = x / 6 * transformer.threshold
    theta = alike(transformer, 100, 0.0)
    y, log_det = transformer.forward_and_log_det(x, theta)
    near = "LogisticMixture", "Inverted", "SigmoidNetwork", "SumOfSquares"
    exact = type(transformer).__name__ not in near
    exact = exact and getattr(transformer, "scale", None) != "sigmoid"
    tolerance = 1e-12 if exact else 0.2
    np.testing.assert_allclose(y, x, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(log_det, 0 * x, atol=tolerance)


@lines
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_large_numbers_in_single_precision(transformer, scale):
    """No NaN at 1e30, finite gradients, and exact where the function is a line."""
    far = [2.0, 50.0, 1e4, 1e6, 1e30]
    x = tf.constant([*(-f for f in far), 0.0, *far], "float32")
    theta = parameters_of(transformer, 1, scale, dtype="float32")
    for method in (transformer.forward_and_log_det, transformer.inverse_and_log_det):
        with tf.GradientTape() as tape:
            tape.watch([x, theta])
            out, log_det = method(x, theta)
            total = tf.reduce_sum(out / (1 + tf.abs(x))) + tf.reduce_sum(log_det)
        assert np.isfinite(out).all() and np.isfinite(log_det).all()
        for gradient in tape.gradient(total, [x, theta]):
            assert np.isfinite(gradient).all()
    y, _ = transformer.forward_and_log_det(x, theta)
    back, _ = transformer.inverse_and_log_det(tf.constant(y), theta)
    np.testing.assert_allclose(back, x, rtol=2e-5, atol=1e-3)


# Those that stand in the ready flows are traced in many tests.
@pytest.mark.parametrize(
    "transformer", fast_and_slow(TRANSFORMERS, *TRANSFORMERS[12:]), ids=repr
)
def test_nan_stays_and_reaches_no_other_number(transformer):
    """In a graph of unknown shapes, too, where numbers of Python have no dtype yet."""
    x, theta = tf.constant([math.nan, 1.0], "float64"), alike(transformer, 2)
    shapes = [None], [transformer.num_parameters, None]
    signature = [tf.TensorSpec(shape, "float64") for shape in shapes]
    for method in (transformer.forward_and_log_det, transformer.inverse_and_log_det):
        value, log_det = tf.function(method, signature, autograph=False)(x, theta)
        np.testing.assert_array_equal(np.isnan(value), [True, False])
        depends = not getattr(transformer, "has_constant_slope", False)
        np.testing.assert_array_equal(np.isnan(log_det), [depends, False])


@pytest.mark.slow
@pytest.mark.parametrize(
    "transformer", [t for t in LINES if t in TRANSFORMERS[12:]], ids=repr
)
def test_extreme_numbers_when_compiled(transformer):
    """As in double precision and not compiled."""
    x = tf.constant([-1e30, -1e4, 1.0, 1e4, 1e30], "float32")
    theta = parameters_of(transformer, 1, dtype="float32")
    for method in (transformer.forward_and_log_det, transformer.inverse_and_log_det):
        got = tf.function(method, jit_compile=True)(x, theta)
        want = method(tf.cast(x, "float64"), tf.cast(theta, "float64"))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "transformer",
    [
        pytest.param(
            t,
            id=repr(t),
            marks=() if isinstance(t, transformers.SumOfSquares) else pytest.mark.slow,
        )
        for t in TRANSFORMERS
    ],
)
def test_empty_batches_in_a_graph(transformer):
    """Constants of no entries killed the process, as TensorFlow folded them."""
    x, parameters = tf.zeros([0, 4]), tf.zeros([0, transformer.num_parameters, 4])
    for method in (transformer.forward_and_log_det, transformer.inverse_and_log_det):
        value, _ = tf.function(method, autograph=False)(x, parameters)
        assert value.shape == (0, 4)
