"""The unit sphere, by the height and the angle of its points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["Sphere"]

# How far off the sphere data may be by rounding.
_OFF = 1e-3


class Sphere(JointBijector):
    r"""Points $(h, \varphi)$ of a cylinder on the unit sphere around it.

    $$ x = \left(\sqrt{1 - h^2} \cos\varphi,\; \sqrt{1 - h^2} \sin\varphi,\; h\right),
       \qquad h \in [-1, 1],\; \varphi \in [-\pi, \pi) $$

    keeps areas (Archimedes), so that its log-determinant is 0. Densities behind it are
    **per unit of the sphere's surface**, whose area is $4\pi$: the uniform one is that
    of uniform heights and angles. With splines of the height and circular splines of
    the angle in couplings, this is the flow on the sphere of Rezende et al. 2020,
    section 2.2; a `Permutation` of the axes between such pairs turns the poles, which
    all other points of one pair see as the same place.

    A point that is not on the sphere, by more than 0.001, has density 0: the
    log-determinant of the inverse is minus infinity. Heights of the inverse stay a few
    roundings below 1, where the angle of a pole is 0.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> sphere = bijectors.Sphere()
      >>> x, log_det = sphere.forward_and_log_det(tf.constant([[0.6, 0.0]]))
      >>> x.numpy().round(3)
      array([[0.8, 0. , 0.6]], dtype=float32)
      >>> sphere.inverse_event_shape((3,))
      TensorShape([2])

    Args:
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.
    """

    papers = ("rezende2020tori",)
    surface = "unit vectors"

    def __init__(self, dtype: Any = None, name: str = "sphere"):
        parameters = dict(locals())
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[2],
            output_event_shape=[3],
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    def _forward_and_log_det(self, x):
        height, angle = x[..., 0], x[..., 1]
        # At a pole, the slope of the root is infinite.
        square = tf.maximum((1.0 - height) * (1.0 + height), _tiny(x))
        radius = tf.sqrt(square)
        y = [radius * tf.cos(angle), radius * tf.sin(angle), height]
        return tf.stack(y, -1), tf.zeros_like(height)

    def _inverse_and_log_det(self, y):
        a, b, c = tf.unstack(y, axis=-1)
        size = tf.sqrt(a * a + b * b + c * c)
        off = tf.abs(size - 1.0) > _OFF
        limit = 1.0 - _tiny(y)
        height = tf.clip_by_value(
            c / tf.where(off, tf.ones_like(c), size), -limit, limit
        )
        at_pole = tf.maximum(tf.abs(a), tf.abs(b)) < _tiny(y)
        angle = tf.atan2(
            tf.where(at_pole, tf.zeros_like(b), b),
            tf.where(at_pole, tf.ones_like(a), a),
        )
        # A half turn to the left is one to the right.
        angle = tf.where(angle >= math.pi, -angle, angle)
        ildj = tf.where(off, tf.constant(-np.inf, y.dtype), tf.zeros_like(c))
        return tf.stack([height, angle], -1), ildj


def _tiny(x):
    return 16.0 * float(np.finfo(x.dtype.as_numpy_dtype).eps)
