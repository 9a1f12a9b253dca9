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
    scale = math.pi / (2 * bound)
    # TensorFlow Lite knows the function of two arguments alone.
    return tf.atan2(scale * x, tf.ones_like(x)) / scale
