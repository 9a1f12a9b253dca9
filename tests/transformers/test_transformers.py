"""Every transformer: slopes, inverses, edges, far out and in single precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BPoly, CubicHermiteSpline

from tests.support import fast_and_slow
from tfp_flows import bijectors as B
from tfp_flows import transformers
from tfp_flows.core.roots import monotone_root

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
    transformers.Stacked(
        [transformers.RationalQuadratic(4), transformers.Affine("exp", 1.0)]
    ),
]
every = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
# Whose values stay in the range of single precision, both ways.
LINES = [
    t
    for t in TRANSFORMERS
    if not getattr(t, "circular", False) and not isinstance(t, transformers.SoftLog)
]
lines = pytest.mark.parametrize("transformer", LINES, ids=repr)


def parameters_of(transformer, n, scale=1.0, seed=0, dtype="float64"):
    draw = np.random.default_rng(seed)
    shape = (transformer.num_parameters, n)
    return tf.constant(scale * draw.standard_normal(shape), dtype)


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


@every
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


def smooth_bound(x, bound):
    return 2 * bound / np.pi * np.arctan(np.pi * x / (2 * bound))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_log_scale", [None, 3.0])
def test_sigmoid_scale_of_large_numbers(dtype, max_log_scale):
    raw = tf.constant([-1e4, -50.0, -3.0, 30.0, 1e4], dtype)
    expected = -np.logaddexp(0, -(raw.numpy().astype("float64") + 2))
    if max_log_scale is None:
        expected = np.maximum(expected, -np.log(float(np.finfo(dtype).max) / 8))
    else:
        expected = smooth_bound(expected, max_log_scale)
    transformer = transformers.Affine("sigmoid", max_log_scale)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        parameters = tf.stack([tf.zeros_like(raw), raw])
        values, log_det = transformer.inverse_and_log_det(tf.ones_like(raw), parameters)
        loss = tf.reduce_sum(values) + tf.reduce_sum(log_det)
    close = dict(rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(log_det, expected, **close)
    # A logarithm of 90 in single precision leaves its exponential five digits.
    np.testing.assert_allclose(values, np.exp(expected), rtol=1e-5)
    assert np.isfinite(tape.gradient(loss, raw)).all()
    back, log_det = transformer.forward_and_log_det(values, parameters)
    np.testing.assert_allclose(back, tf.ones_like(raw), rtol=1e-6)
    np.testing.assert_allclose(log_det, -expected, **close)


@pytest.mark.parametrize(
    ("transformer", "which", "bound"),
    [
        (transformers.Affine("exp", 3.0), 1, 3.0),
        (transformers.Affine("sigmoid", 3.0), 1, 3.0),
        (transformers.LogisticMixture(1), 3, 2.0),
        (transformers.LogisticMixture(1), 2, 5.0),
    ],
    ids=["exp", "sigmoid", "mixture", "component"],
)
def test_bounds_are_reached_by_no_number_and_stop_none(transformer, which, bound):
    """Log-scales stay inside their bound, and no raw one loses its gradient."""
    raw = tf.constant([-1e4, -60.0, -6.0, 0.0, 6.0, 60.0], "float32")
    if getattr(transformer, "scale", "") == "sigmoid":
        # Its other end is that of the sigmoid itself.
        raw = raw[:4]
    with tf.GradientTape() as tape:
        tape.watch(raw)
        theta = tf.stack(
            [
                raw if i == which else tf.zeros_like(raw)
                for i in range(transformer.num_parameters)
            ]
        )
        _, log_det = transformer.forward_and_log_det(tf.zeros_like(raw), theta)
    gradient = tape.gradient(log_det, raw)
    assert (np.abs(log_det) < bound + 2).all()
    if which == 1:
        assert (np.abs(log_det) < bound).all()
    assert (np.abs(gradient) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_widths_of_a_mixture_have_a_bound_on_each_side(dtype):
    mixture = transformers.LogisticMixture(1, 2.0, 0.5, -3.0)
    raw = tf.constant([-1e4, -0.01, 0.0, 0.01, 1e4], dtype)
    theta = tf.stack([0 * raw, 0 * raw, raw, 0 * raw, 0 * raw])
    # A single logistic has the log-odds (x - mu) e^-s.
    _, log_det = mixture.forward_and_log_det(tf.zeros_like(raw), theta)
    np.testing.assert_allclose(-log_det, [-3.0, -0.01, 0.0, 0.01, 0.5], atol=1e-3)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_slope_of_tanh_far_out_is_not_that_of_a_rounded_value(dtype, jit):
    """To full relative precision, up to 80, where it is 1e-35; and of any order."""
    values = [-80.0, -60.0, -9.0, -2.0, -1.0, -1e-3, 0.0, 0.5, 2.0, 60.0, 80.0]
    raw = tf.constant(values, dtype)

    @tf.function(jit_compile=jit)
    def derivatives(raw):
        with tf.GradientTape() as outer:
            outer.watch(raw)
            with tf.GradientTape() as inner:
                inner.watch(raw)
                theta = tf.stack([tf.zeros_like(raw), raw])
                transformer = transformers.Affine("tanh", 2.0)
                _, log_det = transformer.forward_and_log_det(raw, theta)
            slope = inner.gradient(log_det, raw)
        return log_det, slope, outer.gradient(slope, raw)

    log_det, slope, second = derivatives(raw)
    u = np.array(values) / 2
    close = dict(rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(log_det, 2 * np.tanh(u), **close)
    np.testing.assert_allclose(slope, 1 / np.cosh(u) ** 2, **close)
    np.testing.assert_allclose(second, -np.tanh(u) / np.cosh(u) ** 2, **close)


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


def knots_of(spline, theta):
    """Knots (x, y), slopes at them, and the phase, from the definition of each."""
    k, bound = spline.bins, spline.bound

    def positions(raw):
        shares = tf.nn.softmax(raw, 0)
        shares = spline.min_bin + (1 - k * spline.min_bin) * shares
        inner = tf.cumsum(shares[:-1], 0) * (2 * bound) - bound
        end = tf.fill(inner[:1].shape, tf.constant(bound, raw.dtype))
        return tf.concat([-end, inner, end], 0)

    offset = np.log(np.expm1(1 - spline.min_slope))
    last = 3 * k if spline.circular else 3 * k - 1
    slopes = spline.min_slope + tf.nn.softplus(theta[2 * k : last] + offset)
    if spline.circular:
        slopes, phase = tf.concat([slopes, slopes[:1]], 0), theta[3 * k]
    else:
        ends, phase = tf.ones_like(slopes[:1]), 0.0
        slopes = tf.concat([ends, slopes, ends], 0)
    return (positions(theta[:k]), positions(theta[k : 2 * k]), slopes), phase


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("circular", [False, True])
def test_splines_at_their_knots(circular, scale, dtype):
    spline = transformers.RationalQuadratic(6, bound=2.0, circular=circular)
    theta = parameters_of(spline, 1, scale, dtype=dtype)
    (x_knots, y_knots, slopes), phase = knots_of(spline, theta)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    x, y = x_knots[:-1, 0], spline._wrap(y_knots[:-1, 0] + phase)
    with tf.GradientTape() as tape:
        tape.watch([x, theta])
        got, log_det = spline.forward_and_log_det(x, theta)
        total = tf.reduce_sum(got) + tf.reduce_sum(log_det)
    np.testing.assert_allclose(got, y, atol=tolerance)
    # Rounding moves a point within the steepest bins by a visible part of them.
    nudge = 8 * np.finfo(dtype).eps * spline.bound
    exact = [
        spline.forward_and_log_det(tf.cast(x, "float64") + n, tf.cast(theta, "float64"))
        for n in (-nudge, 0.0, nudge)
    ]
    exact = [np.log(slopes[:-1, 0]), *(log_det.numpy() for _, log_det in exact)]
    assert (log_det > np.min(exact, 0) - 20 * tolerance).numpy().all()
    assert (log_det < np.max(exact, 0) + 20 * tolerance).numpy().all()
    assert all(np.isfinite(g).all() for g in tape.gradient(total, [x, theta]))
    if circular:
        return
    with tf.GradientTape() as tape:
        tape.watch([y, theta])
        back, log_det = spline.inverse_and_log_det(y_knots[:, 0], theta)
        total = tf.reduce_sum(back) + tf.reduce_sum(log_det)
    low, high = (
        spline.inverse_and_log_det(
            tf.cast(y_knots[:, 0], "float64") + n, tf.cast(theta, "float64")
        )[0]
        for n in (-nudge, nudge)
    )
    back = tf.cast(back, "float64")
    assert (back > low - tolerance).numpy().all()
    assert (back < high + tolerance).numpy().all()
    np.testing.assert_allclose(back, x_knots[:, 0], atol=1e-3)
    assert np.isfinite(tape.gradient(total, theta)).all()
    # The ends belong to the spline and to the line alike.
    ends = tf.constant([-2.0, 2.0], dtype)
    y, log_det = spline.forward_and_log_det(ends, theta)
    np.testing.assert_allclose(y, ends, atol=tolerance)
    np.testing.assert_allclose(log_det, [0, 0], atol=20 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("circular", [False, True])
def test_slopes_of_inverse_splines_at_and_beside_their_knots(circular, dtype):
    for seed in range(10):
        spline = transformers.RationalQuadratic(8, bound=3.0, circular=circular)
        theta = parameters_of(spline, 1, 5.0, seed, dtype)
        (_, knots, _), phase = knots_of(spline, theta)
        knots = knots[1:-1, 0].numpy()
        beside = [np.nextafter(knots, np.array(n, dtype)) for n in (-9, 9)]
        y = tf.constant(np.concatenate([knots, *beside])) + phase
        with tf.GradientTape() as tape:
            tape.watch(y)
            x, log_det = spline.inverse_and_log_det(y, theta)
        # Rounding moves a point within the steepest bins by a visible part of them.
        np.testing.assert_allclose(np.log(tape.gradient(x, y)), log_det, atol=1e-2)


def test_a_spline_is_tfps():
    spline = transformers.RationalQuadratic(5, bound=2.0)
    theta = parameters_of(spline, 3, seed=4)
    (x_knots, y_knots, slopes), _ = knots_of(spline, theta)
    theirs = tfb.RationalQuadraticSpline(
        tf.transpose(x_knots[1:] - x_knots[:-1]),
        tf.transpose(y_knots[1:] - y_knots[:-1]),
        tf.transpose(slopes[1:-1]),
        range_min=-2.0,
    )
    x = tf.constant(np.random.default_rng(1).uniform(-3, 3, (50, 3)))
    y, log_det = spline.forward_and_log_det(x, theta)
    np.testing.assert_allclose(y, theirs.forward(x), atol=1e-12)
    np.testing.assert_allclose(
        log_det, theirs.forward_log_det_jacobian(x, 0), atol=1e-10
    )
    np.testing.assert_allclose(
        spline.inverse_and_log_det(x, theta)[0], theirs.inverse(x), atol=1e-10
    )


def test_a_circle_has_no_seam():
    spline = transformers.RationalQuadratic(5, circular=True)
    theta = parameters_of(spline, 1, seed=2)
    near = tf.constant([-math.pi + 1e-9, math.pi - 1e-9])
    near = tf.cast(near, tf.float64)
    y, log_det = spline.forward_and_log_det(near, theta)
    gap = (y[0] - y[1]) % (2 * math.pi)
    assert min(gap, 2 * math.pi - gap) < 1e-6
    np.testing.assert_allclose(log_det[0], log_det[1], atol=1e-5)
    # An angle and the same angle a turn further are one point.
    x = tf.constant([0.3, 2.0, -3.0], tf.float64)
    for a, b in zip(
        spline.forward_and_log_det(x, theta),
        spline.forward_and_log_det(x + 4 * math.pi, theta),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert np.abs(y).max() <= math.pi


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_seam_of_a_circle_many_turns_out(dtype):
    spline = transformers.RationalQuadratic(5, circular=True)
    theta = parameters_of(spline, 1, 1.0, dtype=dtype)
    (_, _, slopes), phase = knots_of(spline, theta)
    seam = (np.pi * np.arange(-201, 202, 2)).astype(dtype)
    beside = [np.nextafter(seam, np.array(n, dtype)) for n in (-1e9, 1e9)]
    x = tf.constant(np.concatenate([seam, *beside]))
    want = np.log(slopes[0, 0]) * np.ones(len(x))
    for method, value, sign in (
        (spline.forward_and_log_det, x, 1),
        (spline.inverse_and_log_det, x + phase, -1),
    ):
        out, log_det = method(value, theta)
        np.testing.assert_allclose(log_det, sign * want, atol=2e-3)
        assert np.abs(out).max() <= np.array(np.pi, dtype)
    out, log_det = spline.forward_and_log_det(tf.constant([-1e6, 1e6], dtype), theta)
    assert np.abs(out).max() <= np.array(np.pi, dtype)
    assert np.isfinite(log_det).all()


def test_a_density_on_the_circle_integrates_to_one():
    spline = transformers.RationalQuadratic(5, circular=True)
    theta = parameters_of(spline, 1)
    angles = tf.constant(np.linspace(-math.pi, math.pi, 20_000, endpoint=False))
    _, log_det = spline.inverse_and_log_det(angles, theta)
    assert abs(np.mean(np.exp(log_det)) - 1) < 1e-4


def test_the_mixture_is_its_formula():
    mixture = transformers.LogisticMixture(3)
    theta = parameters_of(mixture, 1)
    logits, means, scales = (theta[3 * i : 3 * i + 3, 0].numpy() for i in range(3))
    weights = np.exp(logits) / np.exp(logits).sum()
    means += np.array([-1.0, 0.0, 1.0])
    scales = np.exp(smooth_bound(scales, 5))
    a, b = smooth_bound(theta[9, 0], 2), theta[10, 0]
    x = np.linspace(-4, 4, 30)
    f = (weights / (1 + np.exp(-(x[:, None] - means) / scales))).sum(1)
    want = np.exp(a) * np.log(f / (1 - f)) + b
    got, _ = mixture.forward_and_log_det(tf.constant(x), theta)
    np.testing.assert_allclose(got, want, rtol=1e-9)


def values(transformer, x, theta):
    return transformer.forward_and_log_det(tf.constant(x), theta)[0]


def softplus(x):
    return np.log1p(np.exp(x))


def widths_and_heights(spline, theta):
    """Ends of bins along both axes, from the definition."""
    k, ends = spline.bins, []
    for raw in (theta[:k, 0].numpy(), theta[k : 2 * k, 0].numpy()):
        share = spline.min_bin + (1 - k * spline.min_bin) * np.exp(raw) / np.exp(
            raw
        ).sum(0)
        ends.append(np.append(0, np.cumsum(share)) * 2 * spline.bound - spline.bound)
    return ends


def test_a_linear_rational_spline_is_its_algorithm():
    """Dolatabadi et al. 2020, algorithm 1, with values at both ends of each bin."""
    spline = transformers.LinearRational(5, bound=2.0)
    theta = parameters_of(spline, 1)
    x, y = widths_and_heights(spline, theta)
    raw = theta[10:14, 0].numpy() + np.log(np.expm1(1 - spline.min_slope))
    d = np.concatenate([[1], spline.min_slope + softplus(raw), [1]])
    meet = 0.025 + 0.95 / (1 + np.exp(-theta[14:, 0].numpy()))
    inputs, want = [], []
    for k in range(5):
        phi = np.linspace(0.01, 0.99, 7)
        w0, w1 = 1.0, np.sqrt(d[k] / d[k + 1])
        wm = meet[k] * w0 * d[k] + (1 - meet[k]) * w1 * d[k + 1]
        wm *= (x[k + 1] - x[k]) / (y[k + 1] - y[k])
        ym = (1 - meet[k]) * w0 * y[k] + meet[k] * w1 * y[k + 1]
        ym /= (1 - meet[k]) * w0 + meet[k] * w1
        left = w0 * y[k] * (meet[k] - phi) + wm * ym * phi
        left /= w0 * (meet[k] - phi) + wm * phi
        right = wm * ym * (1 - phi) + w1 * y[k + 1] * (phi - meet[k])
        right /= wm * (1 - phi) + w1 * (phi - meet[k])
        inputs.append(x[k] + phi * (x[k + 1] - x[k]))
        want.append(np.where(phi <= meet[k], left, right))
    got = values(spline, np.concatenate(inputs), theta)
    np.testing.assert_allclose(got, np.concatenate(want), atol=1e-12)


def test_a_cubic_spline_has_steffens_slopes():
    spline = transformers.Cubic(6, bound=2.0)
    theta = parameters_of(spline, 1, 2.0, seed=57)
    x, y = widths_and_heights(spline, theta)
    w = np.diff(x)
    s = np.diff(y) / w
    p = (s[:-1] * w[1:] + s[1:] * w[:-1]) / (w[:-1] + w[1:])
    inner = 2 * np.minimum(np.minimum(s[:-1], s[1:]), 0.5 * p)
    assert s[0] < 1 / 3 < s[-1] < 1
    want = CubicHermiteSpline(x, y, np.concatenate([[3 * s[0]], inner, [1.0]]))
    grid = np.linspace(-2, 2, 101)
    np.testing.assert_allclose(values(spline, grid, theta), want(grid), atol=1e-12)


def test_a_bernstein_polynomial_is_scipys():
    polynomial = transformers.Bernstein(6, bound=2.0)
    theta = parameters_of(polynomial, 1)
    raw = theta[1:, 0].numpy() + np.log(np.expm1(0.999))
    steps = (0.001 + softplus(raw)) * 4 / 6
    alpha = np.append(0, np.cumsum(steps)) - steps.sum() / 2 + theta[0, 0].numpy()
    want = BPoly(alpha[:, None], [-2, 2])
    grid = np.linspace(-2, 2, 31)
    np.testing.assert_allclose(values(polynomial, grid, theta), want(grid), atol=1e-12)
    # Beyond, the line that touches it at its end.
    line = want(2.0) + 5 * want(2.0, 1)
    got, log_det = polynomial.forward_and_log_det(tf.constant([7.0], "float64"), theta)
    np.testing.assert_allclose(got[0], line, rtol=1e-12)
    np.testing.assert_allclose(log_det[0], np.log(want(2.0, 1)), rtol=1e-12)


def test_a_sum_of_squares_is_its_integral():
    polynomial = transformers.SumOfSquares(2, 3, bound=2.0)
    theta = parameters_of(polynomial, 1)
    a = theta[:-1, 0].numpy().reshape(4, 2) + polynomial._start[..., 0]
    # At zero parameters, squares of the constants add up to one.
    assert abs((polynomial._start[0] ** 2).sum() + polynomial.min_slope - 1) < 1e-12
    want = sum(np.polynomial.Polynomial(p) ** 2 for p in a.T) + polynomial.min_slope
    want = 2 * want.integ() + theta[-1, 0].numpy()
    grid = np.linspace(-2, 2, 31)
    got = values(polynomial, grid, theta)
    np.testing.assert_allclose(got, want(grid / 2), atol=1e-12)


def test_a_sigmoid_network_is_its_formula():
    network = transformers.SigmoidNetwork(3)
    assert network.num_parameters == 2 * 3**2 + 5 * 3
    theta = parameters_of(network, 1)
    parts = np.split(theta[:, 0].numpy(), np.cumsum([9, 0, 3, 3, 3, 9, 3]))

    def softmax(rows):
        return np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)

    h = x = np.linspace(-4, 4, 9)
    h = h[None]
    for i, (own, inner) in enumerate([(2 * np.eye(3), 1), (0, 3)]):
        w, u, a, b = parts[4 * i : 4 * i + 4]
        w = softmax(w.reshape(-1, 3) + own)
        a = np.exp(smooth_bound(a, 3.0))[:, None]
        b = (b - np.linspace(-0.7, 0.7, 3))[:, None]
        u = softmax(u.reshape(3, inner)) if inner > 1 else np.ones([3, 1])
        f = w @ (1 / (1 + np.exp(-(a * (u @ h) + b))))
        h = np.log(f / (1 - f))
    np.testing.assert_allclose(values(network, x, theta), h[0], atol=1e-12)


def test_a_single_layer_is_a_mixture():
    """The deep sigmoidal flow (DSF) of one layer, in the other parametrisation."""
    network = transformers.SigmoidNetwork(4, 1, max_log_scale=5.0)
    theta = parameters_of(network, 1)
    w, a, b = tf.split(theta, 3)
    b -= np.linspace(-0.7, 0.7, 4)[:, None]
    means = -b * np.exp(-smooth_bound(a, 5.0)) - np.linspace(-1, 1, 4)[:, None]
    mixture = tf.concat([w, means, -a, tf.zeros([2, 1], "float64")], 0)
    x = np.linspace(-4, 4, 9)
    want = values(transformers.LogisticMixture(4), x, mixture)
    np.testing.assert_allclose(values(network, x, theta), want, atol=1e-12)


@pytest.mark.parametrize("kind", transformers.Analytic.kinds)
def test_an_analytic_bijection_is_its_formula(kind):
    analytic = transformers.Analytic(kind, 2)
    theta = parameters_of(analytic, 1, 2.0)
    centers, scales, amounts, (log_scale, shift) = np.split(theta[:, 0], [2, 4, 6])
    x, spread = np.linspace(-4, 4, 9), np.array([-2.0, 2.0])
    y = x
    for center, scale, raw in zip(centers + spread, scales, amounts, strict=True):
        scale = np.exp(smooth_bound(scale, 3.0))
        u = (y - center) / scale
        if kind == "cubic_rational":
            y = y + smooth_bound(raw, 7.92 if raw > 0 else 0.99) * scale * u / (
                1 + u**2
            )
        elif kind == "sinh":
            y = center + scale * np.arcsinh(np.sinh(u) + smooth_bound(raw, 10.0))
        else:
            moved = u + u**3 + smooth_bound(raw, 10.0)
            roots = [np.roots([1, 0, 1, -m]) for m in moved]
            root = [r[np.abs(r.imag).argmin()].real for r in roots]
            y = center + scale * np.array(root)
    want = np.exp(smooth_bound(log_scale, 2.0)) * y + shift
    np.testing.assert_allclose(values(analytic, x, theta), want, atol=1e-9)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_the_slope_of_a_cubic_rational_bijection_stays_above_zero(raw):
    """The least one is 1 + lambda at the center, or 1 - lambda / 8 beside it."""
    x = tf.constant(np.linspace(-4, 4, 4001))
    theta = tf.constant([[0.0], [0.0], [raw], [0.0], [0.0]], "float64")
    _, log_det = transformers.Analytic("cubic_rational", 1).forward_and_log_det(
        x, theta
    )
    assert abs(np.exp(log_det).min() - 0.01) < 1e-3


def test_soft_logarithms():
    soft = transformers.SoftLog(10.0)
    x = np.array([-1e30, -11.0, -9.0, 0.0, 5.0, 1e4])
    y, log_det = soft.forward_and_log_det(tf.constant(x), tf.zeros([1, 6], "float64"))
    beyond = np.log1p(np.maximum(np.abs(x) - 10, 0))
    np.testing.assert_allclose(y, np.sign(x) * (np.minimum(abs(x), 10) + beyond))
    np.testing.assert_allclose(log_det, -beyond)
    # Single precision ends before such a number does.
    far, _ = soft.inverse_and_log_det(tf.constant([120.0]), tf.zeros([1, 1]))
    assert np.isinf(far)


def test_stacked_is_one_after_the_other():
    first, second = transformers.Bernstein(3), transformers.Analytic("sinh", 1)
    both = transformers.Stacked([first, second])
    theta = parameters_of(both, 1)
    x = tf.constant(np.linspace(-4, 4, 9))
    y, one = first.forward_and_log_det(x, theta[:4])
    y, two = second.forward_and_log_det(y, theta[4:])
    got, log_det = both.forward_and_log_det(x, theta)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(log_det, one + two)
    assert not both.has_direct_inverse and both.is_increasing


@pytest.mark.parametrize("components", [1, 3, 16])
def test_slopes_of_a_mixture_far_out_in_single_precision(components):
    mixture = transformers.LogisticMixture(components)
    theta = parameters_of(mixture, 100)
    x = tf.constant(np.random.default_rng(1).choice([-1e6, -1e3, 1e3, 1e6], 100))
    for method in (mixture.forward_and_log_det, mixture.inverse_and_log_det):
        want, want_log_det = method(x, theta)
        got, log_det = method(tf.cast(x, "float32"), tf.cast(theta, "float32"))
        np.testing.assert_allclose(got, want, rtol=2e-6)
        np.testing.assert_allclose(log_det, want_log_det, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [1.0, 6.0, 20.0])
@pytest.mark.parametrize("raw_scale", fast_and_slow([-3.0, -10.0], -3.0))
def test_inverse_of_a_mixture_that_is_flat_in_its_middle(dtype, gap, raw_scale):
    """Between two narrow logistics the slope is zero to all digits."""
    mixture = transformers.LogisticMixture(2)
    theta = np.zeros((mixture.num_parameters, 1))
    theta[2:4, 0], theta[4:6] = [-gap, gap], raw_scale
    theta = tf.constant(theta, dtype)
    y = tf.constant(np.linspace(-3, 3, 13), dtype)
    with tf.GradientTape() as tape:
        tape.watch([y, theta])
        x, log_det = mixture.inverse_and_log_det(y, theta)
        total = tf.reduce_sum(x) + tf.reduce_sum(log_det)
    back, _ = mixture.forward_and_log_det(x, theta)
    tolerance = 1e-3 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(back, y, atol=tolerance)
    assert np.isfinite(log_det).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(total, [y, theta]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(0.1, 8.0),
    components=st.integers(1, 6),
    exponent=st.floats(-3, 6),
)
def test_the_inverse_of_any_mixture(seed, scale, components, exponent):
    mixture = transformers.LogisticMixture(components)
    theta = parameters_of(mixture, 5, scale, seed)
    draw = np.random.default_rng(seed)
    y = tf.constant(10**exponent * draw.standard_normal(5))
    x, log_det = mixture.inverse_and_log_det(y, theta)
    back, slope = mixture.forward_and_log_det(tf.constant(x), theta)
    np.testing.assert_allclose(back, y, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(log_det, -slope, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_a_root(order):
    """x^3 + a x = y: derivatives by y and a, of the first and second order."""
    a, y = tf.constant(0.7, tf.float64), tf.constant([0.3, -2.0, 5.0], tf.float64)

    def root(a, y):
        return monotone_root(
            lambda x: (x**3 + a * x, 3 * x**2 + a), y, -10 + 0 * y, 10 + 0 * y
        )

    x = root(a, y).numpy()
    np.testing.assert_allclose(x**3 + 0.7 * x, y, rtol=1e-14)
    with tf.GradientTape() as outer:
        outer.watch(a)
        with tf.GradientTape() as tape:
            tape.watch([a, y])
            value = tf.reduce_sum(root(a, y))
        by_a, by_y = tape.gradient(value, [a, y])
    slope = 3 * x**2 + 0.7
    if order == 1:
        np.testing.assert_allclose(by_y, 1 / slope, rtol=1e-12)
        np.testing.assert_allclose(by_a, (-x / slope).sum(), rtol=1e-12)
        return
    dx = -x / slope
    want = (-(dx * slope - x * (6 * x * dx + 1)) / slope**2).sum()
    np.testing.assert_allclose(outer.gradient(by_a, a), want, rtol=1e-10)


def test_a_root_does_not_depend_on_the_others():
    def root(y):
        return monotone_root(
            lambda x: (x + 0.9 * tf.sin(x), 1 + 0.9 * tf.cos(x)), y, y - 1, y + 1
        )

    y = tf.constant(np.random.default_rng(0).uniform(-20, 20, 50))
    alone = [root(y[i : i + 1])[0] for i in range(50)]
    np.testing.assert_array_equal(root(y), alone)


def test_third_derivative_and_flat_places_of_a_root():
    y = tf.constant([0.2, -1.5], tf.float64)
    with tf.GradientTape() as three:
        three.watch(y)
        with tf.GradientTape() as two:
            two.watch(y)
            with tf.GradientTape() as one:
                one.watch(y)
                x = monotone_root(
                    lambda x: (tf.sinh(x), tf.cosh(x)), y, -9 + 0 * y, 9 + 0 * y
                )
            first = one.gradient(x, y)
        second = two.gradient(first, y)
    np.testing.assert_allclose(x, np.arcsinh(y), rtol=1e-14)
    want = (2 * y**2 - 1) / (1 + y**2) ** 2.5
    np.testing.assert_allclose(three.gradient(second, y), want, rtol=1e-10)
    # A cubic has slope zero at its root, where Newton's method alone would crawl.
    zero = tf.zeros([1], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(zero)
        x = monotone_root(lambda x: (x**3, 3 * x**2), zero, zero - 1, zero + 2)
    assert np.abs(x) < 1e-5
    assert np.isfinite(tape.gradient(x, zero)).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.RationalQuadratic(1), "bins must be at least 2, got 1"),
        (
            lambda: transformers.RationalQuadratic(4, bound=0.0),
            "bound must be above 0, got 0.0",
        ),
        (lambda: transformers.RationalQuadratic(4, bound=-1.0), "bound"),
        (
            lambda: transformers.RationalQuadratic(4, min_bin=0.25),
            "min_bin.*0.25, got 0.25",
        ),
        (lambda: transformers.RationalQuadratic(4, min_bin=0.0), "min_bin"),
        (
            lambda: transformers.RationalQuadratic(4, min_slope=1.0),
            "min_slope.*got 1.0",
        ),
        (
            lambda: transformers.LogisticMixture(0),
            "components must be at least 1, got 0",
        ),
        (
            lambda: transformers.LogisticMixture(2, max_log_scale=0.0),
            "max_log_scale must be above 0",
        ),
        (
            lambda: transformers.LogisticMixture(2, max_component_log_scale=-1.0),
            "max_component_log_scale",
        ),
        (
            lambda: transformers.LogisticMixture(2, min_component_log_scale=1.0),
            "min_component_log_scale must be below 0",
        ),
        (lambda: transformers.Affine("softplus"), "'exp', 'tanh', 'sigmoid'"),
        (lambda: transformers.LinearRational(1), "bins must be at least 2, got 1"),
        (lambda: transformers.LinearRational(min_slope=0.0), "min_slope"),
        (lambda: transformers.Cubic(4, min_bin=0.25), "min_bin.*0.25, got 0.25"),
        (lambda: transformers.Bernstein(0), "degree must be at least 1, got 0"),
        (lambda: transformers.Bernstein(bound=-1.0), "bound must be above 0"),
        (lambda: transformers.SumOfSquares(0), "polynomials must be at least 1"),
        (lambda: transformers.SumOfSquares(2, 0), "degree must be at least 1"),
        (lambda: transformers.SigmoidNetwork(0), "width must be at least 1"),
        (lambda: transformers.SigmoidNetwork(layers=0), "layers must be at least 1"),
        (
            lambda: transformers.Analytic("tanh"),
            "kind must be one of 'cubic_rational', 'sinh', 'cubic'",
        ),
        (lambda: transformers.Analytic(count=0), "count must be at least 1"),
        (lambda: transformers.SoftLog(0.0), "threshold must be above 0"),
        (lambda: transformers.Stacked([]), "one or more, got none"),
        (lambda: transformers.PerEntry([]), "one for each entry, got none"),
        (
            lambda: transformers.Affine("exp", max_log_scale=0.0),
            "max_log_scale must be above 0, got 0.0",
        ),
        (
            lambda: B.Elementwise(transformers.Shift(), ()),
            "event_shape must have rank 1",
        ),
        (
            lambda: B.Elementwise(transformers.Shift(), (2,), context_shape=(2,)),
            "go together",
        ),
        (
            lambda: B.Elementwise(transformers.Affine(), (2,), lambda c: c, (2,)),
            r"\[batch, 4\].*2 parameter.*returned \[batch, 2\]",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


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
