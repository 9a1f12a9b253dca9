"""The protocol of elementwise transformers."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

__all__ = ["Transformer", "attribute"]


class Transformer(Protocol):
    r"""A strictly monotonic function of one number, given its parameters.

    Both methods take a tensor `[..., n]` and unconstrained parameters `[...,
    num_parameters, n]`, and return the result and the elementwise $\log|dy/dx|$
    ($\log|dx/dy|$), both `[..., n]`. All these dimensions may be unknown. Parameters of
    zero give the identity, or nearly.

    A class of your own needs `num_parameters` and the two methods. The other attributes
    have defaults, whether it is a subclass of this one or not.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, transformers
      >>> class Sinh(transformers.Transformer):
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
      has_direct_inverse: false if one of the directions iterates.
      is_constant_jacobian: whether the slope depends neither on the number nor on the
        parameters.
      has_constant_slope: whether the slope depends on the parameters alone.
      is_increasing: false if the function falls, or jumps as on a circle.
    """

    num_parameters: int
    has_direct_inverse: bool = True
    is_constant_jacobian: bool = False
    has_constant_slope: bool = False
    is_increasing: bool = True

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


def attribute(transformer: Transformer, name: str) -> Any:
    """An attribute of a transformer, or the default of `Transformer`."""
    return getattr(transformer, name, getattr(Transformer, name))
