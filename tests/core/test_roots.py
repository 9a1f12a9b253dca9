"""Roots of monotone functions: derivatives, flat places, independence."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.core.roots import monotone_root


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
