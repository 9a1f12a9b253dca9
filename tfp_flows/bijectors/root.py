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

    Newton's method inside a bracket: where a step would leave it, or is not half as
    long as the one before the last, its middle is next. Where this ends before
    `iterations`, two more Newton steps bring all entries to the precision of their
    dtype. They also carry first and second derivatives, with respect to `target` and
    all that `function` depends on.

    Args:
      function: maps `x` to its value and slope; strictly increasing.
      target: values to reach, `[...]`.
      low: numbers at or below the roots, `[...]`.
      high: numbers at or above them.
      iterations: bound on the number of steps.

    Returns:
      The roots, `[...]`.
    """
    goal = tf.stop_gradient(target)
    # The Newton steps at the end square what is left of the error.
    limit = np.finfo(target.dtype.name).eps ** 0.75

    def body(x, low, high, last, before, _):
        value, slope = function(x)
        error = value - goal
        low = tf.where(error <= 0, x, low)
        high = tf.where(error >= 0, x, high)
        step = error / slope
        inside = (x - step >= low) & (x - step <= high)
        newton = inside & (2 * tf.abs(step) <= before)
        following = tf.where(newton, x - step, 0.5 * (low + high))
        length = tf.abs(following - x)
        moving = (length > limit * (1 + tf.abs(x))) & (error != 0)
        return following, low, high, length, last, moving

    low, high = tf.stop_gradient(low), tf.stop_gradient(high)
    width = 2 * (high - low)
    x, *_ = tf.while_loop(
        lambda *state: tf.reduce_any(state[-1]),
        body,
        (0.5 * (low + high), low, high, width, width, tf.ones_like(low, tf.bool)),
        maximum_iterations=iterations,
    )
    x = tf.stop_gradient(x)
    for _ in range(2):
        value, slope = function(x)
        x -= (value - target) / slope
    return x
