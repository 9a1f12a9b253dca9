"""Integrals of positive networks."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.transformers.bounds import smooth_bound
from tfp_flows.transformers.linear_tails import LinearTails, integrate
from tfp_flows.transformers.spline import slope_of

__all__ = ["MonotoneNetwork"]


class MonotoneNetwork(LinearTails):
    r"""The integral of a positive network, with straight lines outside.

    $$ y = b + \int_0^x g(t)\, dt, \qquad
       g(t) = \epsilon + \operatorname{softplus}\Big(c +
       \sum_{k=1}^K v_k \tanh\big(w_k\, (t / B - \mu_k)\big)\Big) $$

    (Wehenkel & Louppe 2019, "Unconstrained Monotonic Neural Networks", equation 2;
    there $g$ is one network that sees the conditioner's output, here all weights of a
    layer are that output.) The integral is a Gauss-Legendre quadrature. The log-slope
    is $\log g$, which is that of the result up to the error of the quadrature. $|v_k|$
    and $w_k$ are bounded, by 2 and 6, so that with the defaults the error is below 1e-6
    nats for any parameters, and typically 1e-10. Outside $[-B, B]$ the function goes on
    with the slope that it has at the ends. The inverse is found by Newton's method; its
    derivatives come from the implicit function theorem.

    A number costs as much as a batch of `points` of them through the network, an
    inverse a multiple of that: the slowest transformer here.

    The $3K + 2$ parameters are raw $v$, $w$ and $\mu$, $c$ and $b$. If all are zero,
    the function is the identity; the $\mu_k$ are then spread over $[-1, 1]$.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> network = transformers.MonotoneNetwork(units=4)
      >>> x = tf.constant([-1.0, 0.0, 2.0])
      >>> theta = 0.5 * tf.ones([network.num_parameters, 3])
      >>> y, log_det = network.forward_and_log_det(x, theta)
      >>> back, _ = network.inverse_and_log_det(y, theta)
      >>> bool(tf.reduce_all(tf.abs(back - x) < 1e-4))
      True

    Args:
      units: $K$, at least 1.
      points: points of the quadrature, at least 1.
      bound: $B$.
      min_slope: $\epsilon$, in (0, 1).

    Raises:
      ValueError: if `units` or `points` is below 1, `bound` not positive, or
        `min_slope` outside (0, 1).
      TypeError: if one of them is not a number, or one of the first two no integer.
    """

    papers = ("wehenkel2019umnn",)

    def __init__(
        self,
        units: int = 8,
        points: int = 24,
        bound: float = 3.0,
        min_slope: float = 1e-3,
    ):
        super().__init__(bound)
        self.units = check_integer("units", units)
        self.points = check_integer("points", points)
        self.min_slope = check_number("min_slope", min_slope, above=0, below=1)
        self.num_parameters = 3 * self.units + 2
        spread = np.linspace(-1, 1, units) if units > 1 else np.zeros(1)
        self._spread = spread[:, None]

    def _function(self, parameters):
        k = self.units
        v, w, mu, c, b = tf.split(parameters, [k, k, k, 1, 1], -2)
        w = 3 * tf.exp(smooth_bound(w, 0.7))
        mu += tf.constant(self._spread, mu.dtype)
        v = smooth_bound(v, 2.0)
        v, w, mu = (tf.expand_dims(part, -3) for part in (v, w, mu))

        def slope(x):
            u = tf.expand_dims(x / self.bound, -2)
            hidden = tf.tanh(w * (u - mu))
            return slope_of(c + tf.reduce_sum(v * hidden, -2), self.min_slope)

        def function(x):
            integral, here = integrate(slope, x, self.points)
            return integral + tf.squeeze(b, -2), here

        return function

    def __repr__(self):
        return (
            f"MonotoneNetwork(units={self.units}, points={self.points}, "
            f"bound={self.bound:.6g}, min_slope={self.min_slope})"
        )
