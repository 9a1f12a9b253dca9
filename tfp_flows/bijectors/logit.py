"""Bounded data to the real line."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["Logit"]


class Logit(JointBijector):
    r"""Maps data in an interval to the real line on their way to noise.

    With data $y \in [low, high]$, $u = (y - low)/(high - low)$ and
    $p = \alpha + (1 - 2\alpha) u$,

    $$ x = \log\frac{p}{1 - p}, \qquad
       \log\left|\frac{dx}{dy}\right| =
       \log\frac{1 - 2\alpha}{high - low} - \log p - \log(1 - p), $$

    entry by entry (Dinh et al. 2017, section 4.1; in this symmetric form Papamakarios
    et al. 2017, appendix D). `forward` maps every real number into the open interval
    that $\alpha$ widens, so samples can lie slightly outside `[low, high]`.

    Args:
      alpha: margin in (0, 0.5) that keeps the ends of the interval finite.
      low: lower end of the data.
      high: upper end of the data (256 for dequantised 8-bit pixels).
      name: name of the bijector.

    Raises:
      ValueError: if `alpha` is outside (0, 0.5) or `low` is not below `high`; in eager
        mode also on data outside the `domain`, which give NaN inside a function.
    """

    def __init__(
        self,
        alpha: float = 0.05,
        low: float = 0.0,
        high: float = 1.0,
        name: str = "logit",
    ):
        parameters = dict(locals())
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha must be in (0, 0.5), got {alpha}.")
        if not low < high:
            raise ValueError(f"low must be below high, got {low} and {high}.")
        self._alpha, self._low, self._high = alpha, low, high
        self._log_slope = math.log((1 - 2 * alpha) / (high - low))
        super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name)

    @property
    def domain(self):
        margin = self._alpha * (self._high - self._low) / (1 - 2 * self._alpha)
        return self._low - margin, self._high + margin

    def _forward_and_log_det(self, x):
        u = (tf.sigmoid(x) - self._alpha) / (1 - 2 * self._alpha)
        y = self._low + (self._high - self._low) * u
        # log p + log(1 - p) of p = sigmoid(x), without leaving the log scale.
        return y, -tf.nn.softplus(x) - tf.nn.softplus(-x) - self._log_slope

    def _inverse_and_log_det(self, y):
        if tf.executing_eagerly():
            self._check_domain(y)
        u = (y - self._low) / (self._high - self._low)
        p = self._alpha + (1 - 2 * self._alpha) * u
        log_p, log_q = tf.math.log(p), tf.math.log1p(-p)
        return log_p - log_q, self._log_slope - log_p - log_q

    def _check_domain(self, y):
        low, high = self.domain
        # Far samples round to the ends.
        slack = 1e-6 * (high - low)
        outside = (y < low - slack) | (y > high + slack)
        if tf.reduce_any(outside):
            raise ValueError(
                f"{self.name}: y must lie in ({low:.6g}, {high:.6g}), got values from "
                f"{float(tf.reduce_min(y)):.6g} to {float(tf.reduce_max(y)):.6g}."
            )
