"""The protocol of elementwise transformers."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

__all__ = ["Transformer"]


class Transformer(Protocol):
    r"""A strictly monotonic function of one number, given its parameters.

    Both methods take a tensor `[..., n]` and unconstrained parameters `[...,
    num_parameters, n]`, and return the result and the elementwise $\log|dy/dx|$
    ($\log|dx/dy|$), both `[..., n]`. All these dimensions may be unknown. Parameters of
    zero give the identity, or nearly.

    A class of your own needs `num_parameters` and the two methods. It may also have
    these attributes:

    * `has_direct_inverse = False`: one of the directions iterates;
    * `is_constant_jacobian = True`: the slope depends neither on the number nor on the
      parameters;
    * `has_constant_slope = True`: the slope depends on the parameters alone;
    * `is_increasing = False`: the function falls, or jumps as on a circle.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> class Sinh:
      ...     num_parameters = 1
      ...
      ...     def forward_and_log_det(self, x, parameters):
      ...         t = tf.squeeze(parameters, -2)
      ...         return tf.sinh(x) + t, tf.math.log(tf.cosh(x))
      ...
      ...     def inverse_and_log_det(self, y, parameters):
      ...         x = tf.asinh(y - tf.squeeze(parameters, -2))
      ...         return x, -tf.math.log(tf.cosh(x))
      >>> bijectors.Elementwise(Sinh(), [2]).forward([[0.0, 0.0]]).numpy()
      array([[0., 0.]], dtype=float32)

    Attributes:
      num_parameters: how many parameters each number has.
    """

    num_parameters: int

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The function at `x`, and the logarithm of its slope there."""
        ...

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The inverse at `y`, and the logarithm of its slope there."""
        ...
