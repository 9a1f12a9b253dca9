"""Fixed points of contractions, with gradients that keep no iterates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["FixedPoint", "fixed_point", "gradients_of_arguments", "iterate"]


class FixedPoint(NamedTuple):
    """The result of an iteration.

    Attributes:
      value: the last iterate, `[batch, ...]`.
      iterations: int32 `[batch]`, how often each entry of the batch was updated.
      residual: `[batch]`, the size of its last update relative to its own.
      converged: boolean `[batch]`, whether the residual is within the tolerance.
    """

    value: tf.Tensor
    iterations: tf.Tensor
    residual: tf.Tensor
    converged: tf.Tensor


def default_tolerance(dtype: tf.DType) -> float:
    """The smallest residual that iterations reach despite rounding."""
    return 1e-12 if dtype == tf.float64 else 1e-5


def iterate(
    function: Callable,
    initial: tf.Tensor,
    tolerance: float | None = None,
    max_iterations: int = 1000,
    floor: float = 1.0,
) -> FixedPoint:
    r"""Iterates $z \leftarrow f(z)$ until it hardly changes.

    An entry of the batch stops being updated once
    $\max_i |f(z)_i - z_i| \le \text{tolerance}\,(\text{floor} + \max_i |f(z)_i|)$, so
    that its result does not depend on what else is in the batch. For a contraction
    with constant $c$, the distance to the fixed point is then at most
    $c / (1 - c)$ times as large in the norm of the contraction (Banach).

    Args:
      function: $f$, from `[batch, ...]` to the same shape.
      initial: where to start, `[batch, ...]`.
      tolerance: see above; 1e-5 in float32 and 1e-12 in float64 by default.
      max_iterations: when to give up.
      floor: see above; 0 makes the tolerance purely relative.

    Returns:
      A `FixedPoint`. Values that are not finite count as not converged.
    """
    if tolerance is None:
        tolerance = default_tolerance(initial.dtype)
    axes = list(range(1, initial.shape.rank))
    dtype = initial.dtype
    tiny = np.finfo(dtype.as_numpy_dtype).tiny
    batch = tf.shape(initial)[:1]

    def size(x):
        return tf.reduce_max(tf.abs(x), axes)

    def body(z, active, iterations, residual):
        new = function(z)
        change = size(new - z) / tf.maximum(floor + size(new), tiny)
        z = tf.where(tf.reshape(active, [-1] + [1] * len(axes)), new, z)
        residual = tf.where(active, change, residual)
        # NaN compares as false, so entries that diverged stop too.
        return (
            z,
            active & (change > tolerance),
            iterations + tf.cast(active, tf.int32),
            residual,
        )

    z, _, iterations, residual = tf.while_loop(
        lambda z, active, iterations, residual: tf.reduce_any(active),
        body,
        (
            initial,
            tf.fill(batch, True),
            tf.fill(batch, 0),
            tf.fill(batch, tf.constant(float("inf"), dtype)),
        ),
        maximum_iterations=max_iterations,
    )
    return FixedPoint(z, iterations, residual, residual <= tolerance)


def fixed_point(
    function: Callable,
    initial: tf.Tensor,
    arguments: Sequence[tf.Tensor] = (),
    tolerance: float | None = None,
    max_iterations: int = 1000,
    floor: float = 1.0,
    name: str = "fixed_point",
) -> tf.Tensor:
    r"""Solves $z = f(z, a)$ for a contraction $f(\cdot, a)$.

    The gradient is that of the implicit function: with $J = \partial f / \partial z$
    at the solution, an upstream gradient $v$ becomes $w$, the solution of

    $$ w = v + J^\top w, $$

    and the gradient of $a$ is $w^\top\, \partial f / \partial a$. The solution $w$ is
    again the fixed point of a contraction, which this function finds. So derivatives of
    any order are right, and no iterates are kept.

    Variables that `function` reads get gradients too.

    Args:
      function: $f$, called as `function(z, *arguments)`. Tensors that need a gradient
        must be among its arguments.
      initial: where to start, `[batch, ...]`; no gradient reaches it.
      arguments: tensors $a$; each entry of the batch may depend on its own part of them
        or on all.
      tolerance: see `iterate`.
      max_iterations: when to give up.
      floor: see `iterate`.
      name: name of the equation in error messages.

    Returns:
      The solution `[batch, ...]`. Inside a `tf.function`, entries that did not converge
      are NaN.

    Raises:
      ArithmeticError: in eager mode, if an entry with a finite start did not converge.
    """
    options = {"max_iterations": max_iterations, "name": name, "tolerance": tolerance}

    @tf.custom_gradient
    def solve(*arguments):
        # The iterations are not differentiated, so tapes need not record them.
        constants = [tf.stop_gradient(a) for a in arguments]
        found = iterate(
            lambda z: function(z, *constants),
            tf.stop_gradient(initial),
            tolerance,
            max_iterations,
            floor,
        )
        value = require_convergence(found, initial, max_iterations, name)

        def gradient(upstream, variables=None):
            # The same value again, now as a function of the arguments.
            z = fixed_point(function, value, arguments, floor=floor, **options)
            w = fixed_point(
                lambda w, v, z, *arguments: v + _pull_back(function, w, z, arguments),
                upstream,
                (upstream, z, *arguments),
                floor=0.0,
                **{**options, "name": f"the gradient of {name}"},
            )
            return gradients_of_arguments(
                lambda *arguments: function(z, *arguments), arguments, w, variables
            )

        return value, gradient

    return solve(*arguments)


def require_convergence(
    found: FixedPoint, initial: tf.Tensor, max_iterations: int, name: str
) -> tf.Tensor:
    """`found.value`, with NaN (in eager mode: an error) where it did not converge."""
    axes = list(range(1, initial.shape.rank))
    finite = tf.reduce_all(tf.math.is_finite(initial), axes)
    failed = finite & ~found.converged
    known: Any = failed.numpy() if tf.executing_eagerly() else None
    if known is not None:
        if known.any():
            raise ArithmeticError(
                f"{name}: {int(known.sum())} of {known.size} example(s) did not "
                f"converge in {max_iterations} iterations; the largest relative "
                f"residual is {float(tf.reduce_max(found.residual)):.3g}. Is the "
                "network's Lipschitz constant below 1? Otherwise allow more iterations "
                "or a larger tolerance."
            )
        return found.value
    nan = tf.constant(float("nan"), found.value.dtype)
    return tf.where(tf.reshape(failed, [-1] + [1] * len(axes)), nan, found.value)


def gradients_of_arguments(
    function: Callable,
    arguments: Sequence[tf.Tensor],
    upstream: Any,
    variables: Sequence[tf.Variable] | None = None,
) -> Any:
    """The gradients of `function(*arguments)`, as a custom gradient returns them.

    `function` runs when `upstream` is known. Otherwise a graph would run it as soon as
    it has the arguments, on the way there, and hold what it made until the way back.

    Args:
      function: a function of `arguments`, which may read `variables`.
      arguments: tensors; the gradient of an integer tensor is `None`.
      upstream: gradient of the result.
      variables: the variables that `tf.custom_gradient` found, or `None`.

    Returns:
      The list of the arguments' gradients; with variables, the pair of that list and
      the list of the variables' gradients.
    """
    variables = list(variables or ())
    with tf.control_dependencies(tf.nest.flatten(upstream)):
        arguments = [tf.identity(a) for a in arguments]
    inputs = [a for a in arguments if a.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = function(*arguments)
    of_inputs, of_variables = tape.gradient(
        out, [inputs, variables], upstream, tf.UnconnectedGradients.ZERO
    )
    of_inputs = iter(of_inputs)
    found = [next(of_inputs) if a.dtype.is_floating else None for a in arguments]
    return (found, of_variables) if variables else found


def _pull_back(function, w, z, arguments):
    """$J^T w$, with the Jacobian of `function` in its first argument."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        out = function(z, *arguments)
    return tape.gradient(out, z, w, unconnected_gradients=tf.UnconnectedGradients.ZERO)
