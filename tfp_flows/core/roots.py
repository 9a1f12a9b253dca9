"""Roots of increasing functions, with the derivatives of the implicit function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

__all__ = ["monotone_root"]


def monotone_root(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    target: tf.Tensor,
    low: tf.Tensor,
    high: tf.Tensor,
    iterations: int = 120,
) -> tf.Tensor:
    """The `x` with `function(x) = target`, entry by entry.

    Newton's method inside a bracket: a step that would leave it, or is not half as
    long as the one before the last, is replaced by one to its middle. An entry stops
    once its next step would be lost in rounding, so that its root does not depend on
    what else is in the batch.

    The result has the derivatives of the implicit function with respect to `target`
    and all that `function` depends on, up to the third order: two Newton steps from
    the root change nothing in its value, and carry them. Where the function is flat to
    rounding, any `x` that rounding allows is a root; slopes below the square of the
    dtype's precision count as that in the derivatives, which stay finite.

    Args:
      function: maps `x` to its value and slope, both differentiable; increasing.
      target: values to reach, `[...]`.
      low: numbers at or below the roots, `[...]`.
      high: numbers at or above them.
      iterations: bound on the number of steps.

    Returns:
      The roots, `[...]`; NaN where the target is.
    """
    goal = tf.stop_gradient(target)
    low, high = tf.stop_gradient(low), tf.stop_gradient(high)
    eps = np.finfo(target.dtype.as_numpy_dtype).eps

    def body(x, low, high, last, before, moving):
        value, slope = function(x)
        error = value - goal
        low, high = tf.where(error <= 0, x, low), tf.where(error >= 0, x, high)
        newton = x - error / slope
        # NaN and infinity, of a slope of zero, compare as false.
        good = (newton >= low) & (newton <= high) & (2 * tf.abs(newton - x) <= before)
        # Halves add up to no more than the largest number, sums do.
        new = tf.where(good, newton, 0.5 * low + 0.5 * high)
        step = tf.abs(new - x)
        # Newton's steps shrink quadratically, and what is left is below this squared.
        short = eps**0.75 * (tf.abs(new) + tf.minimum(1.0 / slope, 1.0))
        exact = tf.equal(error, 0)
        settled = exact | tf.where(good, step <= short, step <= eps * tf.abs(x))
        new = tf.where(moving & ~exact, new, x)
        return new, low, high, step, last, moving & ~settled

    middle, width = 0.5 * low + 0.5 * high, 2 * (high - low)
    x, *_ = tf.while_loop(
        lambda *state: tf.reduce_any(state[-1]),
        body,
        (middle, low, high, width, width, tf.ones_like(low, tf.bool)),
        maximum_iterations=iterations,
    )
    x = tf.stop_gradient(x)
    for _ in range(2):
        value, slope = function(x)
        error = value - target
        # Rounding left an error of its own, for a target next to this one.
        x -= (error - tf.stop_gradient(error)) / tf.maximum(slope, eps**2)
    return x
