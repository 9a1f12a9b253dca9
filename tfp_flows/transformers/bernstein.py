"""Bernstein polynomials."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.transformers.linear_tails import LinearTails
from tfp_flows.transformers.spline import slope_of

__all__ = ["Bernstein"]


class Bernstein(LinearTails):
    r"""A polynomial in Bernstein's form on $[-B, B]$, with straight lines outside.

    $$ y = \sum_{k=0}^M \alpha_k \binom{M}{k} t^k (1 - t)^{M - k}, \qquad
       t = \frac{x + B}{2 B}, \qquad \alpha_0 < \alpha_1 < \dots < \alpha_M $$

    (Ramasinghe et al. 2021, "Robust Normalizing Flows using Bernstein-type
    Polynomials"; Sick et al. 2020, "Deep Transformation Models".) Rounding grows
    little, since no terms of the slope cancel. Outside, the function goes on with the
    slope that it has at the ends. The inverse is found by Newton's method; its
    derivatives come from the implicit function theorem.

    The $M + 1$ parameters are a shift and raw steps from each $\alpha_k$ to the next,
    whose softpluses count. If all are zero, the function is the identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> polynomial = transformers.Bernstein(degree=5)
      >>> y, log_det = polynomial.forward_and_log_det(
      ...     tf.constant([-1.0, 9.0]), tf.zeros([6, 2]))
      >>> bool(tf.reduce_all(tf.abs(y - [-1.0, 9.0]) < 1e-5))
      True

    Args:
      degree: $M$, at least 1.
      bound: $B$.
      min_slope: least slope, in (0, 1).

    Raises:
      ValueError: if `degree` is below 1, `bound` not positive, or `min_slope` outside
        (0, 1).
      TypeError: if one of them is not a number, or `degree` not an integer.
    """

    papers = ("ramasinghe2021bernstein", "sick2020transformation")

    def __init__(self, degree: int = 8, bound: float = 3.0, min_slope: float = 1e-3):
        super().__init__(bound)
        self.degree = check_integer("degree", degree)
        self.min_slope = check_number("min_slope", min_slope, above=0, below=1)
        self.num_parameters = self.degree + 1

    def _function(self, parameters):
        shift, raw = tf.split(parameters, [1, self.degree], -2)
        slopes = slope_of(raw, self.min_slope)
        steps = slopes * (2 * self.bound / self.degree)
        half = tf.reduce_sum(steps, -2, keepdims=True) / 2
        ends = tf.cumsum(steps, tf.rank(steps) - 2)
        alpha = tf.concat([tf.zeros_like(half), ends], -2) + shift - half

        def function(x):
            t = (x + self.bound) / (2 * self.bound)
            value = tf.reduce_sum(alpha * _basis(t, self.degree), -2)
            return value, tf.reduce_sum(slopes * _basis(t, self.degree - 1), -2)

        return function

    def __repr__(self):
        return (
            f"Bernstein(degree={self.degree}, bound={self.bound:.6g}, "
            f"min_slope={self.min_slope})"
        )


def _basis(t, degree):
    """All polynomials of a degree at `t` `[..., n]`, as `[..., degree + 1, n]`."""
    up, down = [tf.ones_like(t)], [tf.ones_like(t)]
    for _ in range(degree):
        up.append(up[-1] * t)
        down.append(down[-1] * (1 - t))
    terms = zip(range(degree + 1), up, reversed(down), strict=True)
    return tf.stack([math.comb(degree, k) * a * b for k, a, b in terms], -2)
