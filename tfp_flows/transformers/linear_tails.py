"""Functions on an interval, continued by straight lines, and integrals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.core.roots import monotone_root
from tfp_flows.transformers.spline import zero_or_nan
from tfp_flows.transformers.transformer import Transformer

__all__ = ["LinearTails", "integrate"]

Function = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class LinearTails(Transformer):
    """An increasing function on $[-B, B]$, outside the lines that touch it at its ends.

    The inverse is found by Newton's method; its derivatives come from the implicit
    function theorem.

    Args:
      bound: $B$, positive.

    Raises:
      ValueError: if `bound` is not positive.
      TypeError: if it is not a number.
    """

    has_direct_inverse = False

    def __init__(self, bound: float):
        self.bound = check_number("bound", bound, above=0)

    def _function(self, parameters: tf.Tensor) -> Function:
        """From x within the bound to the value and the slope there."""
        raise NotImplementedError

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        near = tf.clip_by_value(x, -self.bound, self.bound)
        value, slope = self._function(parameters)(near)
        return value + slope * (x - near), tf.math.log(slope) + zero_or_nan(x)

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        function = self._function(parameters)
        # Ends of their own shape: TensorFlow dies where it folds constants of an empty
        # batch.
        bound = tf.constant([self.bound], y.dtype)
        near = tf.clip_by_value(y, function(-bound)[0], function(bound)[0])
        end = tf.fill(tf.shape(y), bound[0])
        x = monotone_root(function, near, -end, end)
        _, slope = function(x)
        return x + (y - near) / slope, zero_or_nan(y) - tf.math.log(slope)


def integrate(
    function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, points: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The integral of a function from 0 to `x` by Gauss-Legendre quadrature.

    It is exact for polynomials up to the degree `2 * points - 1`.

    Args:
      function: elementwise, from `[..., m, n]` to the same shape.
      x: `[..., n]`.
      points: number of points of the quadrature.

    Returns:
      The integral, and the function at `x`, both `[..., n]`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    nodes = tf.constant(np.append((nodes + 1) / 2, 1.0)[:, None], x.dtype)
    values = function(tf.expand_dims(x, -2) * nodes)
    weights = tf.constant(weights[:, None] / 2, x.dtype)
    return x * tf.reduce_sum(values[..., :-1, :] * weights, -2), values[..., -1, :]
