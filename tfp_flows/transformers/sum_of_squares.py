"""Polynomials whose slope is a sum of squares."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.transformers.linear_tails import LinearTails, integrate
from tfp_flows.transformers.transformer import spread

__all__ = ["SumOfSquares"]


class SumOfSquares(LinearTails):
    r"""The integral of a sum of squared polynomials, with straight lines outside.

    $$ y = c + \int_0^x \Big(\epsilon + \sum_{k=1}^K p_k(t / B)^2 \Big)\, dt, \qquad
       p_k(u) = \sum_{l=0}^r a_{k,l}\, u^l $$

    (Jaini et al. 2019, "Sum-of-Squares Polynomial Flow".) Any increasing polynomial of
    the degree $2r + 1$ is one of these, with two squares. The integral is a quadrature
    of positive terms, exact for polynomials. Outside $[-B, B]$, where a polynomial
    would grow beyond all numbers, the function goes on with the slope that it has at
    the ends. The inverse is found by Newton's method; its derivatives come from the
    implicit function theorem.

    The $K (r + 1) + 1$ parameters are the $a_{k,l}$ and $c$. If all are zero, the
    function is near the identity: the polynomials then are a constant with a small
    slope each, since equal ones would stay equal.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> polynomial = transformers.SumOfSquares(polynomials=2, degree=2)
      >>> x = tf.constant([-1.0, 0.0, 2.0])
      >>> theta = 0.5 * tf.ones([polynomial.num_parameters, 3])
      >>> y, log_det = polynomial.forward_and_log_det(x, theta)
      >>> back, _ = polynomial.inverse_and_log_det(y, theta)
      >>> bool(tf.reduce_all(tf.abs(back - x) < 1e-4))
      True

    Args:
      polynomials: $K$, at least 1.
      degree: $r$, at least 1.
      bound: $B$.
      min_slope: $\epsilon$, in (0, 1).

    Raises:
      ValueError: if `polynomials` or `degree` is below 1, `bound` not positive, or
        `min_slope` outside (0, 1).
      TypeError: if one of them is not a number, or one of the first two no integer.
    """

    papers = ("jaini2019sos",)

    def __init__(
        self,
        polynomials: int = 3,
        degree: int = 3,
        bound: float = 3.0,
        min_slope: float = 1e-3,
    ):
        super().__init__(bound)
        self.polynomials = check_integer("polynomials", polynomials)
        self.degree = check_integer("degree", degree)
        self.min_slope = check_number("min_slope", min_slope, above=0, below=1)
        self.num_parameters = self.polynomials * (self.degree + 1) + 1
        start = np.zeros((self.degree + 1, self.polynomials, 1))
        start[0] = np.sqrt((1 - self.min_slope) / self.polynomials)
        start[1] = start[0] * spread(self.polynomials, 0.3)
        self._start = start

    def _function(self, parameters):
        sizes = [self.polynomials] * (self.degree + 1) + [1]
        *raw, shift = tf.split(parameters, sizes, -2)
        coefficients = [
            tf.expand_dims(a + tf.constant(start, a.dtype), -3)
            for a, start in zip(raw, self._start, strict=True)
        ]

        def slope(x):
            u = tf.expand_dims(x, -2) / self.bound
            p = coefficients[-1]
            for a in coefficients[-2::-1]:
                p = p * u + a
            return self.min_slope + tf.reduce_sum(tf.square(p), -2)

        def function(x):
            integral, here = integrate(slope, x, self.degree + 1)
            return integral + tf.squeeze(shift, -2), here

        return function

    def __repr__(self):
        return (
            f"SumOfSquares(polynomials={self.polynomials}, degree={self.degree}, "
            f"bound={self.bound:.6g}, min_slope={self.min_slope})"
        )
