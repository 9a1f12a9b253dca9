"""The simplex: positive numbers that add up to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["Simplex"]

# How far off one the sum of data may be by rounding.
_OFF = 1e-3


class Simplex(JointBijector):
    r"""Positive numbers that add up to one, by the logarithms of their ratios.

    $$ x_i = \frac{e^{z_i}}{1 + \sum_{j < K} e^{z_j}} \quad (i < K), \qquad
       x_K = 1 - \sum_{i < K} x_i, \qquad
       \log|\det| = \sum_{i=1}^{K} \log x_i + \tfrac12 \log K $$

    Densities behind it are **per unit of the simplex's surface** in $K$ dimensions,
    whose area is $\sqrt{K} / (K - 1)!$. Per unit of the first $K - 1$ numbers, as the
    density of a `tfd.Dirichlet` is, they are larger by the factor $\sqrt{K}$.

    Data with a zero, a negative number, or a sum that is off one by more than 0.001
    have density 0: the log-determinant of the inverse is minus infinity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> x, log_det = bijectors.Simplex(3).forward_and_log_det(tf.zeros([2]))
      >>> x.numpy().round(3)
      array([0.333, 0.333, 0.333], dtype=float32)

    Args:
      event_shape: `K` or `[K]`, the shape of the data: how many numbers add up to one,
        at least 2. The noise has one less.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is below 2 or not that of a vector.
      TypeError: if it holds no integer.
    """

    surface = "positive numbers that add up to one"

    def __init__(
        self,
        event_shape: int | Sequence[int],
        dtype: Any = None,
        name: str = "simplex",
    ):
        parameters = dict(locals())
        self._size = check_vector_shape("event_shape", event_shape, at_least=2)
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[self._size - 1],
            output_event_shape=[self._size],
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    def _forward_and_log_det(self, x):
        log_y = tf.nn.log_softmax(tf.concat([x, tf.zeros_like(x[..., :1])], -1))
        return tf.exp(log_y), tf.reduce_sum(log_y, -1) + 0.5 * math.log(self._size)

    def _inverse_and_log_det(self, y):
        total = tf.reduce_sum(y, -1)
        off = (tf.abs(total - 1.0) > _OFF) | tf.reduce_any(y <= 0.0, -1)
        log_y = tf.math.log(tf.where(off[..., None], tf.ones([], y.dtype), y))
        ildj = -tf.reduce_sum(log_y, -1) - 0.5 * math.log(self._size)
        ildj = tf.where(off, tf.constant(-np.inf, y.dtype), ildj)
        return log_y[..., :-1] - log_y[..., -1:], ildj
