"""Scales of affine transformers, far out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.transformers.support import (
    smooth_bound,
)
from tfp_flows import transformers


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


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_slope_of_tanh_far_out_is_not_that_of_a_rounded_value(dtype, jit):
    """To relative precision, up to 80, where it is 1e-35; of a higher order far out."""
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
    # Near 0, where the slope is 1, a rounding of 1.
    rounding = {True: dict(atol=np.finfo(dtype).eps), False: {}}
    for near in (True, False):
        i = (np.abs(u) < 0.3) == near
        options = {**close, **rounding[near]}
        np.testing.assert_allclose(log_det[i], 2 * np.tanh(u[i]), **options)
        bend = -np.tanh(u[i]) / np.cosh(u[i]) ** 2
        np.testing.assert_allclose(second[i], bend, **options)
    np.testing.assert_allclose(slope, 1 / np.cosh(u) ** 2, **close)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.Affine("softplus"), "'exp', 'tanh', 'sigmoid'"),
        (
            lambda: transformers.Affine("exp", max_log_scale=0.0),
            "max_log_scale must be above 0, got 0.0",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
