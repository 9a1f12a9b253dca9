"""Maps bounded data to the real line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["Logit"]


class Logit(JointBijector):
    r"""A scaled sigmoid, whose inverse is the logit of data in an interval.

    With data $y \in [low, high]$, the margin $\alpha$, $u = (y - low)/(high - low)$ and
    $p = \alpha + (1 - 2\alpha) u$, data become on their way to noise

    $$ x = \log\frac{p}{1 - p}, \qquad
       \log\left|\frac{dx}{dy}\right| =
       \log\frac{1 - 2\alpha}{high - low} - \log p - \log(1 - p), $$

    entry by entry (Dinh et al. 2017, section 4.1; in this symmetric form Papamakarios
    et al. 2017, appendix D). That is `inverse`. `forward` maps every real number into
    the open interval `domain` that $\alpha$ widens, so samples can lie slightly outside
    `[low, high]`.

    **Outside the `domain`** the density is zero: the log-determinant of `inverse` is
    -inf there, and its value is that of the nearest number inside. Other numbers of a
    batch and their gradients are not affected. NaN stays NaN.

    Example:
      >>> from tfp_flows import bijectors
      >>> logit = bijectors.Logit(0.05, 0.0, 256.0)
      >>> logit.inverse([128.0]).numpy().tolist()
      [0.0]
      >>> logit.inverse_log_det_jacobian([999.0], 0).numpy().tolist()
      [-inf]

    Args:
      logit_margin: $\alpha$ in (0, 0.5), which keeps the ends of the interval finite.
      low: lower end of the data.
      high: upper end of the data (256 for dequantised 8-bit pixels).
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `logit_margin` is outside (0, 0.5), or `low` is not below `high`.
      TypeError: if one of them is not a number.
    """

    papers = ("dinh2017real_nvp",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        logit_margin: float = 0.05,
        low: float = 0.0,
        high: float = 1.0,
        dtype: Any = None,
        name: str = "logit",
    ):
        parameters = dict(locals())
        margin = check_number("logit_margin", logit_margin, above=0, below=0.5)
        low, high = check_number("low", low), check_number("high", high)
        if not low < high:
            raise ValueError(f"low must be below high, got {low} and {high}.")
        self._margin, self._low, self._high = margin, low, high
        self._log_slope = math.log((1 - 2 * margin) / (high - low))
        super().__init__(
            forward_min_event_ndims=0, dtype=dtype, parameters=parameters, name=name
        )

    def _is_increasing(self, **_):
        return True

    @property
    def domain(self) -> tuple[float, float]:
        """The open interval of what `forward` returns."""
        margin = self._margin * (self._high - self._low) / (1 - 2 * self._margin)
        return self._low - margin, self._high + margin

    def _forward_and_log_det(self, x):
        u = (tf.sigmoid(x) - self._margin) / (1 - 2 * self._margin)
        y = self._low + (self._high - self._low) * u
        # log p + log(1 - p) for p = sigmoid(x), computed without p itself.
        return y, -tf.nn.softplus(x) - tf.nn.softplus(-x) - self._log_slope

    def _inverse_and_log_det(self, y):
        # p and 1 - p are measured from opposite ends, so that neither loses digits
        # where it is small.
        scale = (1 - 2 * self._margin) / (self._high - self._low)
        p = self._margin + scale * (y - self._low)
        q = self._margin + scale * (self._high - y)
        eps = float(np.finfo(y.dtype.as_numpy_dtype).eps)
        # Samples far out round to the ends of the domain, or by a digit beyond them.
        rounding = 4 * eps * (1 + scale * max(abs(self._low), abs(self._high)))
        outside = tf.minimum(p, q) < -rounding
        log_p, log_q = (
            tf.math.log(tf.clip_by_value(share, eps * self._margin, 1.0))
            for share in (p, q)
        )
        log_det = self._log_slope - log_p - log_q
        return log_p - log_q, tf.where(
            outside, tf.constant(-math.inf, y.dtype), log_det
        )
