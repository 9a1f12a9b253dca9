"""Roots of increasing functions, differentiable like the inverse function."""

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
    """Solves `function(x) = target` for `x`, entry by entry.

    This is Newton's method inside a bracket. A step is replaced by one to the middle of
    the bracket if it would leave the bracket, or is longer than half of the step before
    the last one. An entry stops once its next step would be lost in rounding, so its
    root does not depend on the other entries.

    The result has derivatives up to the third order, with respect to `target` and all
    that `function` depends on, by the implicit function theorem. Two further Newton
    steps, which leave the value of the root as it is, provide them. Where the function
    is flat up to rounding, the result is one of many equally good roots. Derivatives
    stay finite there: slopes below the square of the dtype's precision count as that.

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
        # A slope of zero gives NaN or infinity, which compare as false.
        good = (newton >= low) & (newton <= high) & (2 * tf.abs(newton - x) <= before)
        # The sum of both could overflow; the sum of their halves cannot.
        new = tf.where(good, newton, 0.5 * low + 0.5 * high)
        step = tf.abs(new - x)
        # Newton's method converges quadratically: the error after such a short step is
        # lost in rounding.
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
        # The error in value comes from rounding and must not move the root: only its
        # derivatives count.
        x -= (error - tf.stop_gradient(error)) / tf.maximum(slope, eps**2)
    return x
