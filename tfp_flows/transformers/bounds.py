"""Smooth bounds on raw parameters."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

__all__ = ["raw_of_bounded", "smooth_bound"]


def smooth_bound(x: tf.Tensor, bound: float | tf.Tensor) -> tf.Tensor:
    r"""A number in $(-c, c)$: $\frac{2 c}{\pi} \arctan \frac{\pi x}{2 c}$.

    Near zero it is close to $x$. Its slope $1 / (1 + (\pi x / 2 c)^2)$ falls slowly, so
    that large raw numbers still get a gradient. A clip would stop their gradients, and
    a tanh too, by rounding.

    Args:
      x: raw numbers, of any shape.
      bound: $c$, a positive number, or a tensor of them.

    Returns:
      Tensor of the shape of `x`.
    """
    scale = math.pi / (2 * bound)
    # TensorFlow Lite has `atan2`, but no `atan`.
    return tf.atan2(scale * x, tf.ones_like(x)) / scale


def raw_of_bounded(y: np.ndarray, bound: float | np.ndarray) -> np.ndarray:
    r"""The inverse of `smooth_bound`, of numbers brought to within $0.95 c$."""
    share = np.clip(y / bound, -0.95, 0.95)
    return 2 * bound / math.pi * np.tan(0.5 * math.pi * share)
