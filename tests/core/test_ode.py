"""Solvers against solutions that are known, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, fast_and_slow, normal
from tfp_flows.core import ode

START = normal(4, 3)
RUNGE_KUTTA = [ode.runge_kutta, ode.runge_kutta_with_adjoint]
both = pytest.mark.parametrize("solve", RUNGE_KUTTA)


def swing(t, state, rate):
    """`x exp(rate sin t)`; the integral of `x exp(...)` over the entries beside it."""
    (x, _) = state
    return [rate * x * tf.cos(t), tf.reduce_sum(rate * x * tf.cos(t), -1)]


def solution(start, stop, rate):
    x = START * tf.exp(rate * (np.sin(stop) - np.sin(start)))
    return x, tf.reduce_sum(x - START, -1)


def solve_swing(solve, start, stop, rate, limit, x=START):
    return solve(swing, [x, tf.zeros_like(x[:, 0])], [rate], start, stop, limit)


@both
@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.5), (1.5, 0.0)])
def test_the_error_is_of_fourth_order(solve, start, stop):
    rate = tf.constant(1.3, "float64")
    for part in (0, 1):
        expected = solution(start, stop, rate)[part]
        errors = [
            np.abs(solve_swing(solve, start, stop, rate, n)[part] - expected).max()
            for n in (4, 8, 16)
        ]
        assert errors[0] < 0.02
        orders = np.log2(np.divide(errors[:-1], errors[1:]))
        np.testing.assert_allclose(orders, 4.0, atol=0.5)


def gradients(solve, limit, rate):
    """Of both results, by the state, an argument and a variable."""
    scale = tf.Variable(0.7, dtype="float64")

    def rates(t, state, rate):
        x, _ = state
        speed = tf.sin(scale * x) * tf.cos(t) + rate * t
        return [speed, tf.reduce_sum(scale * x**2, -1)]

    @tf.function(autograph=False)
    def derivatives(start, rate):
        with tf.GradientTape() as tape:
            tape.watch([start, rate])
            zeros = tf.zeros_like(start[:, 0])
            x, total = solve(rates, [start, zeros], [rate], 0.2, 1.1, limit)
            weights = tf.range(1.0, 5.0, dtype=x.dtype)
            loss = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(total * weights)
        return tape.gradient(loss, [start, rate, scale])

    return derivatives(START, rate)


@pytest.mark.slow
def test_the_adjoint_nears_the_gradient_of_the_steps():
    rate = tf.constant(0.4, "float64")
    truth = gradients(ode.runge_kutta, 32, rate)
    errors = []
    for steps in (4, 8):
        found = gradients(ode.runge_kutta_with_adjoint, steps, rate)
        errors.append(
            max(np.abs(a - b).max() for a, b in zip(found, truth, strict=True))
        )
    assert errors[0] < 1e-3
    assert np.log2(errors[0] / errors[1]) > 3.5


def test_the_adjoint_keeps_no_steps():
    """No operation saves what happens in the loop."""

    def kept(solve):
        @tf.function(autograph=False)
        def derivative(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                found = solve_swing(solve, 0.0, 1.0, tf.constant(1.0, x.dtype), 4, x)
            return tape.gradient(found, x)

        graph = derivative.get_concrete_function(START).graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return sum(node.op == "TensorListPushBack" for node in nodes)

    assert kept(ode.runge_kutta) > 0
    assert kept(ode.runge_kutta_with_adjoint) == 0


@pytest.mark.parametrize("compiled", fast_and_slow([False, True], False))
def test_second_derivatives_by_the_adjoint(compiled):
    def second(solve, x):
        rate = tf.constant(0.9, x.dtype)

        def rates(t, state):
            return [tf.sin(rate * state[0]), tf.reduce_sum(state[0] ** 2, -1)]

        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y, total = solve(rates, [x, tf.zeros_like(x[:, 0])], [], 0.0, 1.0, 16)
                value = tf.reduce_sum(y**2) + tf.reduce_sum(total)
            slope = inner.gradient(value, x)
        return outer.gradient(slope, x)

    def by_adjoint(x):
        return second(ode.runge_kutta_with_adjoint, x)

    run = tf.function(by_adjoint, autograph=False) if compiled else by_adjoint
    close(run(START), second(ode.runge_kutta, START), 1e-5)


def adaptive(*arguments):
    """TFP's steps are slow one by one."""
    return tf.function(lambda: solve_swing(ode.dormand_prince, *arguments))()


def test_adaptive_steps():
    rate = tf.constant(1.3, "float64")
    found, expected = adaptive(1.5, 0.0, rate, 1e-10), solution(1.5, 0.0, rate)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-7)


@pytest.mark.slow
def test_gradients_of_adaptive_steps():
    rate = tf.constant(0.4, "float64")
    found = gradients(ode.dormand_prince, 1e-9, rate)
    truth = gradients(ode.runge_kutta, 64, rate)
    tf.nest.map_structure(lambda a, b: close(a, b, 1e-5), found, truth)


@pytest.mark.slow
def test_adaptive_steps_leave_out_what_is_not_finite():
    x = tf.concat([START[:2], [[1.0, np.nan, 0.0]]], 0)
    rate = tf.constant(1.3, "float64")
    found, total = adaptive(0.0, 1.5, rate, 1e-10, x)
    close(found[:2], solution(0.0, 1.5, rate)[0][:2], 1e-7)
    assert np.isnan(found[2]).all() and np.isnan(total[2])
    assert np.isfinite(total[:2]).all()
