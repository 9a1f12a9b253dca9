"""The torus: angles in any unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_number, check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["Torus"]


class Torus(JointBijector):
    r"""Angles in radians as angles of which a full turn is $T$.

    $$ y = \frac{T}{2\pi}\, x, \qquad
       x = \left(\tfrac{2\pi}{T}\, y + \pi\right) \bmod 2\pi - \pi, \qquad
       \log|\det| = D \log \frac{T}{2\pi} $$

    The inverse takes an angle and the same one a turn later to the same number in
    $[-\pi, \pi)$, where circular splines are (Rezende et al. 2020). Densities are
    **per unit of the angles as given**, and integrate to one over a turn of each.

    An angle beyond $[-T, T]$ has density 0: the log-determinant of the inverse is minus
    infinity. Degrees that are taken for radians so do not pass for angles.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> compass = bijectors.Torus(1, period=360)
      >>> compass.inverse(tf.constant([[90.0], [-270.0]])).numpy().round(3)
      array([[1.571],
             [1.571]], dtype=float32)

    Args:
      event_shape: `D` or `[D]`, the number of angles.
      period: $T$, a full turn: $2\pi$ by default, 360 for degrees, 24 for hours.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is not that of a vector, or `period` not positive.
      TypeError: if one of them is no number.
    """

    papers = ("rezende2020tori",)

    def __init__(
        self,
        event_shape: int | Sequence[int],
        period: float = 2 * math.pi,
        dtype: Any = None,
        name: str = "torus",
    ):
        parameters = dict(locals())
        self._size = check_vector_shape("event_shape", event_shape)
        self._period = check_number("period", period, above=0.0)
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[self._size],
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def surface(self) -> str:
        """What data must be."""
        return f"angles from {-self._period:g} to {self._period:g}"

    def _forward_and_log_det(self, x):
        unit = self._period / (2 * math.pi)
        log_det = tf.fill(tf.shape(x)[:-1], tf.constant(math.log(unit), x.dtype))
        return unit * x, self._size * log_det

    def _inverse_and_log_det(self, y):
        unit = self._period / (2 * math.pi)
        most = self._period * (1.0 + 16.0 * np.finfo(y.dtype.as_numpy_dtype).eps)
        off, is_nan = (
            tf.reduce_any(wrong, -1) for wrong in (tf.abs(y) > most, tf.math.is_nan(y))
        )
        log_det = tf.constant(-self._size * math.log(unit), y.dtype)
        ildj = tf.where(off, tf.constant(-np.inf, y.dtype), log_det)
        ildj = tf.where(is_nan, tf.constant(np.nan, y.dtype), ildj)
        return tf.math.floormod(y / unit + math.pi, 2 * math.pi) - math.pi, ildj
