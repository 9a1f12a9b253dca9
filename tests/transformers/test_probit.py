"""From log-odds to normal quantiles, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tfp_flows import transformers

FAR = np.array([0.0, 1e-3, 0.1, 1.0, 5, 12, 40, 70, 80, 200, 650, 700, 1e4, 1e15])
X = np.concatenate([-FAR[:0:-1], FAR])
NO_PARAMETERS = tf.zeros([0, len(X)])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)]
)
@pytest.mark.parametrize("jit", [False, True])
def test_it_is_the_quantile_of_the_probability(dtype, tolerance, jit):
    probit = tf.function(transformers.Probit().forward_and_log_det, jit_compile=jit)
    y, log_det = probit(tf.constant(X, dtype), NO_PARAMETERS)
    log_p = -np.logaddexp(0.0, np.abs(X))
    want = -np.sign(X) * special.ndtri_exp(log_p)
    np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance)
    # Of the slope, which falls as 1 / y.
    log_mills = np.log(special.erfcx(np.abs(want) / np.sqrt(2)) * np.sqrt(np.pi / 2))
    want = log_mills - np.logaddexp(0.0, -np.abs(X))
    np.testing.assert_allclose(log_det, want, rtol=30 * tolerance, atol=30 * tolerance)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)]
)
def test_log_odds_of_a_quantile(dtype, tolerance):
    y = tf.constant(np.linspace(-30, 30, 61), dtype)
    x, _ = transformers.Probit().inverse_and_log_det(y, tf.zeros([0, 61]))
    want = special.log_ndtr(y.numpy()) - special.log_ndtr(-y.numpy())
    np.testing.assert_allclose(x, want, rtol=tolerance, atol=tolerance)


def test_derivatives_of_the_second_order_by_differences():
    x = tf.constant([-30.0, -2.0, 0.5, 4.0, 1e3], "float64")

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, _ = transformers.Probit().forward_and_log_det(x, NO_PARAMETERS)
        return tape.gradient(y, x)

    with tf.GradientTape() as tape:
        tape.watch(x)
        first = slope(x)
    found = tape.gradient(first, x)
    step = 1e-5
    want = (slope(x + step) - slope(x - step)) / (2 * step)
    np.testing.assert_allclose(found, want, rtol=1e-6)
