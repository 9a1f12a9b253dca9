"""Radial flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.amortized import Amortized
from tfp_flows.core.arguments import check_vector_shape
from tfp_flows.core.seeds import generator

__all__ = ["Radial"]


class Radial(Amortized):
    r"""Pushes space away from one point, or draws it there.

    With a point $z_0$, $r = |z - z_0|$, $\alpha > 0$ and $\beta > -\alpha$, `forward`
    is (Rezende & Mohamed 2015, equation 14)

    $$ y = z + \frac{\beta}{\alpha + r} (z - z_0), \qquad
       \log|\det \partial y / \partial z| =
       (D - 1) \log\left(1 + \frac{\beta}{\alpha + r}\right) +
       \log\left(1 + \frac{\alpha\beta}{(\alpha + r)^2}\right). $$

    Space is stretched by $\gamma = 1 + \beta / \alpha$ at $z_0$ and not at all far
    away. $\alpha$ and $\gamma$ are softpluses of raw numbers, so that $\beta > -\alpha$
    always holds and no term above suffers from cancellation. The inverse has a closed
    form: with $\rho = |y - z_0|$, $r$ is the positive root of

    $$ r^2 + (\alpha\gamma - \rho)\, r - \alpha\rho = 0. $$

    At $z_0$ the bijector is only once differentiable; the second derivatives that
    TensorFlow returns there are finite but have no meaning.

    A new bijector is the identity: $\alpha = \gamma = 1$, and $z_0$ is drawn from a
    standard Gaussian.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> radial = bijectors.Radial(2, seed=0)
      >>> radial.inverse_log_det_jacobian(tf.ones([5, 2])).shape
      TensorShape([5])

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      conditioner: a callable `context -> [batch, D + 2]`, whose output is added to
        $z_0$ and the raw $\alpha$ and $\gamma$ of each example (amortised parameters):
        a Keras layer, a tf_keras layer, a `tf.Module` or a function. Needs
        `context_shape`.
      context_shape: shape of one context, or `None`.
      seed: integer seed of the initial $z_0$.
      dtype: dtype of values.
      name: name of the bijector.

    Raises:
      ValueError: on an `event_shape` that is not positive or not that of a vector, one
        of `conditioner` and `context_shape` without the other, or a conditioner that
        returns another shape.
      TypeError: if `event_shape` holds no integer.
    """

    papers = ("rezende2015variational",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: int | Sequence[int],
        conditioner: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "radial",
    ):
        parameters = dict(locals())
        size = check_vector_shape("event_shape", event_shape)
        self._size = size
        super().__init__(
            size,
            {
                "center": generator(seed).standard_normal(size),
                "alpha": np.zeros(()),
                "gamma": np.zeros(()),
            },
            conditioner,
            context_shape,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @staticmethod
    def num_parameters(event_shape: int | Sequence[int]) -> int:
        """Returns how many parameters a conditioner gives for each example.

        Args:
          event_shape: `D` or `[D]`.
        """
        return check_vector_shape("event_shape", event_shape) + 2

    def _parameters_of(self, context):
        center, alpha, gamma = self._raw_parameters(context)
        one = math.log(math.e - 1)
        return center, tf.nn.softplus(alpha + one), tf.nn.softplus(gamma + one)

    def _forward_and_log_det(self, x, context=None):
        center, alpha, gamma = self._parameters_of(context)
        radius = _norm(x - center)
        ratio, log_det = self._ratio_and_log_det(radius, alpha, gamma)
        return center + (x - center) * ratio[..., None], log_det

    def _inverse_and_log_det(self, y, context=None):
        center, alpha, gamma = self._parameters_of(context)
        distance = _norm(y - center)
        middle = alpha * gamma - distance
        root = tf.sqrt(tf.square(middle) + 4.0 * alpha * distance)
        # For either sign, the form of the quadratic formula without a difference.
        inside = middle > 0
        radius = tf.where(
            inside,
            2.0 * alpha * distance / tf.where(inside, middle + root, 1.0),
            0.5 * (root - middle),
        )
        ratio, log_det = self._ratio_and_log_det(radius, alpha, gamma)
        return center + (y - center) / ratio[..., None], -log_det

    def _ratio_and_log_det(self, radius, alpha, gamma):
        r"""$|y - z_0| / r$ and the log-determinant."""
        outer = alpha + radius
        ratio = (radius + alpha * gamma) / outer
        share = alpha / outer
        # (r^2 + 2 alpha r + alpha^2 gamma) / (alpha + r)^2, a sum of positive numbers.
        along = (1.0 - share) * (1.0 + share) + gamma * tf.square(share)
        log_det = (self._size - 1) * tf.math.log(ratio) + tf.math.log(along)
        return ratio, log_det


def _norm(x):
    """The Euclidean norm, with a gradient of zero at zero."""
    square = tf.reduce_sum(tf.square(x), -1)
    positive = square > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, square, 1.0)), 0.0)
