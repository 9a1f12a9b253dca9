"""Initial value problems: steps that compile, and gradients by the adjoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.tf_internals import could_possibly_record, recording, stop_recording

__all__ = ["dormand_prince", "runge_kutta", "runge_kutta_with_adjoint"]

# `rates(t, state, *arguments)` gives the derivatives by time of the parts of a state.
Rates = Callable[..., Sequence[tf.Tensor]]


def runge_kutta(
    rates: Rates,
    state: Sequence[tf.Tensor],
    arguments: Sequence[tf.Tensor],
    start: float,
    stop: float,
    steps: int,
) -> list[tf.Tensor]:
    r"""Solves $\dot s = r(t, s, a)$ by the classical Runge-Kutta method of order 4.

    With the step $h$ and the rates $k_1 = r(t, s)$, $k_2 = r(t + h/2, s + h k_1/2)$,
    $k_3 = r(t + h/2, s + h k_2/2)$ and $k_4 = r(t + h, s + h k_3)$,

    $$ s' = s + \tfrac{h}{6} (k_1 + 2 k_2 + 2 k_3 + k_4), $$

    whose error after all steps is of order $h^4$.

    Args:
      rates: $r$.
      state: the parts of $s$ at `start`, floating tensors of one dtype.
      arguments: tensors $a$.
      start: time of `state`.
      stop: time of the result; it may be before `start`.
      steps: number of steps of equal length.

    Returns:
      The parts of $s$ at `stop`.
    """
    state = list(state)
    dtype = state[0].dtype
    h = (stop - start) / steps

    def moved(state, by, rate):
        return [s + by * r for s, r in zip(state, rate, strict=True)]

    def body(i, *state):
        t = start + h * tf.cast(i, dtype)
        one = rates(t, state, *arguments)
        two = rates(t + h / 2, moved(state, h / 2, one), *arguments)
        three = rates(t + h / 2, moved(state, h / 2, two), *arguments)
        four = rates(t + h, moved(state, h, three), *arguments)
        total = [
            a + 2.0 * (b + c) + d
            for a, b, c, d in zip(one, two, three, four, strict=True)
        ]
        new = moved(state, h / 6, total)
        return i + 1, *map(_with_shape, new, state)

    found = tf.while_loop(
        lambda i, *_: i < steps, body, (0, *state), maximum_iterations=steps
    )
    return list(found[1:])


def runge_kutta_with_adjoint(
    rates: Rates,
    state: Sequence[tf.Tensor],
    arguments: Sequence[tf.Tensor],
    start: float,
    stop: float,
    steps: int,
) -> list[tf.Tensor]:
    r"""The same, with a gradient that keeps nothing but the result.

    The rates may depend on the first part $x$ of the state alone; the others are
    integrals along its path. With $\lambda$ the gradient of the result, the gradient
    of the state solves

    $$ \dot a = -\lambda^\top \frac{\partial r}{\partial x} $$

    back in time, beside $x$ itself (Chen et al. 2018, algorithm 1), and those of
    arguments and variables are integrals along the same path. The result is the
    gradient of the exact solution, up to an error of order $h^4$, not that of the
    steps.

    Args:
      rates: see `runge_kutta`; it may read variables, which get gradients.
      state: see there.
      arguments: see there; floating tensors.
      start: see there.
      stop: see there.
      steps: see there.

    Returns:
      The parts of $s$ at `stop`.
    """
    x, *integrals = state
    count = len(arguments)

    @tf.custom_gradient
    def solve(x, *arguments):
        with stop_recording():
            result = runge_kutta(rates, [x, *integrals], arguments, start, stop, steps)

        def gradient(*upstream, variables=None):
            variables = list(variables or ())
            end = result[0]
            if could_possibly_record():
                # The same number again, for a gradient of this gradient.
                end = solve(x, *arguments)[0]

            def back(t, state, *others):
                z, a = state[:2]
                others, slopes = others[:count], others[count:]
                with recording(), tf.GradientTape() as tape:
                    tape.watch([z, *others])
                    found = rates(t, [z, *integrals], *others)
                of_z, of_others, of_variables = tape.gradient(
                    found,
                    [z, list(others), variables],
                    [a, *slopes],
                    tf.UnconnectedGradients.ZERO,
                )
                falls = [of_z, *of_others, *of_variables]
                return [found[0], *(-tf.convert_to_tensor(f) for f in falls)]

            a, *slopes = upstream
            zeros = [tf.zeros_like(v) for v in (*arguments, *variables)]
            _, *found = runge_kutta(
                back, [end, a, *zeros], [*arguments, *slopes], stop, start, steps
            )
            of_inputs, of_variables = found[: 1 + count], found[1 + count :]
            return (of_inputs, of_variables) if variables else of_inputs

        return result, gradient

    return list(solve(x, *arguments))


def dormand_prince(
    rates: Rates,
    state: Sequence[tf.Tensor],
    arguments: Sequence[tf.Tensor],
    start: float,
    stop: float,
    tolerance: float,
) -> list[tf.Tensor]:
    """The same by TFP's adaptive method of order 5, with TFP's own adjoint.

    The steps depend on the whole batch. Events that are not finite would stop it: they
    are replaced by zeros, and their results are NaN.

    Args:
      rates: see `runge_kutta`.
      state: see there; the first part has the batch shape of the others, in front.
      arguments: see there; floating tensors.
      start: see there.
      stop: see there.
      tolerance: bound on the relative and absolute error of a step.

    Returns:
      The parts of $s$ at `stop`.
    """
    x, *integrals = state
    axes = list(range(integrals[0].shape.rank, x.shape.rank))
    valid = tf.reduce_all(tf.math.is_finite(x), axes)
    shape = tf.concat([tf.shape(valid), [1] * len(axes)], 0)
    x = tf.where(tf.reshape(valid, shape), x, tf.zeros_like(x))
    names = [f"argument_{i}" for i in range(len(arguments))]
    length = stop - start

    def ode(t, state, **given):
        found = rates(start + length * t, state, *(given[name] for name in names))
        return tuple(length * rate for rate in found)

    zero = tf.zeros([], x.dtype)
    solver = tfp.math.ode.DormandPrince(rtol=tolerance, atol=tolerance)
    constants = dict(zip(names, arguments, strict=True))
    states = solver.solve(
        ode, zero, (x, *integrals), tf.ones([1], x.dtype), constants=constants
    ).states
    x, *integrals = (
        _with_shape(found[-1], part)
        for found, part in zip(states, (x, *integrals), strict=True)
    )
    nan = tf.constant(float("nan"), x.dtype)
    x = tf.where(tf.reshape(valid, shape), x, nan)
    return [x, *(tf.where(valid, part, nan) for part in integrals)]


def _with_shape(new, old):
    return tf.ensure_shape(new, old.shape)
