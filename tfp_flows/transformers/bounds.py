"""Smooth bounds on raw parameters."""

from __future__ import annotations

import math

import tensorflow as tf

__all__ = ["smooth_bound"]


def smooth_bound(x: tf.Tensor, bound: float) -> tf.Tensor:
    r"""A number in $(-c, c)$: $\frac{2 c}{\pi} \arctan \frac{\pi x}{2 c}$.

    Near zero it is $x$. Its slope $1 / (1 + (\pi x / 2 c)^2)$ falls so slowly that no
    raw number which a network arrives at stops being trained, as it does behind a
    clip, and in rounding behind a tanh.

    Args:
      x: raw numbers.
      bound: $c$, a positive number.
    """
    return (2 * bound / math.pi) * tf.atan2(
        (math.pi / (2 * bound)) * x, tf.ones_like(x)
    )
