"""Rational-quadratic splines on the line and on the circle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.transformers.support import (
    parameters_of,
)
from tfp_flows import transformers

tfb = tfp.bijectors


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
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
