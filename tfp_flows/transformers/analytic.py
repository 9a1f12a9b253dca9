"""Smooth local bijections of the whole line."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_integer
from tfp_flows.core.roots import monotone_root
from tfp_flows.transformers.bounds import smooth_bound
from tfp_flows.transformers.transformer import Transformer, spread

__all__ = ["Analytic"]

# Bounds of lambda, a little inside those within which the function rises, -1 and 8.
_LOW, _HIGH = -0.99, 7.92


class Analytic(Transformer):
    r"""Smooth functions, each of which moves numbers near a center, after each other.

    With $u = (x - \gamma) / \sigma$, one of them is

    * `"cubic_rational"`: $x + \lambda \sigma\, u / (1 + u^2)$, $-1 < \lambda < 8$;
    * `"sinh"` and `"cubic"`: $\gamma + \sigma\, g^{-1}(g(u) + \delta)$ with $g(u) =
      \sinh u$ or $u + u^3$,

    and the result is $e^a h_N(\dots h_1(x)) + b$. (Gerdes & Cheng 2026, "Analytic
    Bijections for Smooth and Interpretable Normalizing Flows".) All derivatives are
    continuous, and far from all centers only $a$ and $b$ count. Inverses of the last
    two are in closed form. That of the first is a root of a cubic, found by Newton's
    method; its derivatives come from the implicit function theorem.

    The $3N + 2$ parameters are the $\gamma$, raw $\log \sigma$, and raw $\lambda$ or
    $\delta$; and raw $a$ and $b$. If all are zero, the function is the identity; the
    $\gamma$ are then spread over $[-2, 2]$.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> analytic = transformers.Analytic("sinh", count=2)
      >>> x = tf.constant([-1.0, 0.0, 2.0])
      >>> theta = 0.5 * tf.ones([analytic.num_parameters, 3])
      >>> y, log_det = analytic.forward_and_log_det(x, theta)
      >>> back, _ = analytic.inverse_and_log_det(y, theta)
      >>> bool(tf.reduce_all(tf.abs(back - x) < 1e-4))
      True

    Args:
      function: `"cubic_rational"`, `"sinh"` or `"cubic"`.
      count: $N$, at least 1.

    Raises:
      ValueError: on another `function`, or a `count` below 1.
      TypeError: if `count` is not an integer.
    """

    papers = ("gerdes2026analytic",)

    functions = ("cubic_rational", "sinh", "cubic")

    def __init__(self, function: str = "sinh", count: int = 4):
        self.function = check_choice("function", function, self.functions)
        self.count = check_integer("count", count)
        self.has_direct_inverse = function != "cubic_rational"
        self.num_parameters = 3 * self.count + 2
        self._spread = spread(self.count, 2)

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        parts, log_scale, shift = self._split(parameters)
        log_det = log_scale
        for part in parts:
            if self.function == "cubic_rational":
                x, log_slope = _rational(x, *part)
            else:
                x, log_slope = _conjugated(_FUNCTIONS[self.function], x, *part)
            log_det += log_slope
        return x * tf.exp(log_scale) + shift, log_det

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        parts, log_scale, shift = self._split(parameters)
        x, log_det = (y - shift) * tf.exp(-log_scale), -log_scale
        for part in reversed(parts):
            if self.function == "cubic_rational":
                x, log_slope = _inverse_rational(x, *part)
            else:
                center, scale, delta = part
                g = _FUNCTIONS[self.function]
                x, log_slope = _conjugated(g, x, center, scale, -delta)
            log_det += log_slope
        return x, log_det

    def _split(self, parameters):
        n = self.count
        centers, scales, amounts, others = tf.split(parameters, [n, n, n, 2], -2)
        centers += tf.constant(self._spread, centers.dtype)
        scales = tf.exp(smooth_bound(scales, 3.0))
        if self.function == "cubic_rational":
            bound = tf.where(amounts > 0, tf.constant(_HIGH, amounts.dtype), -_LOW)
            amounts = smooth_bound(amounts, bound)
        else:
            amounts = smooth_bound(amounts, 10.0)
        parts = (tf.unstack(p, axis=-2) for p in (centers, scales, amounts))
        log_scale, shift = tf.unstack(others, axis=-2)
        return list(zip(*parts, strict=True)), smooth_bound(log_scale, 2.0), shift

    def __repr__(self):
        return f"Analytic(function={self.function!r}, count={self.count})"


def _rational(x, center, scale, amount):
    # Beyond, the displacement is lost in rounding, and the square may overflow.
    limit = x.dtype.max**0.125
    u = tf.clip_by_value((x - center) / scale, -limit, limit)
    q = 1 + tf.square(u)
    slope = 1 + amount * (1 - tf.square(u)) / tf.square(q)
    return x + amount * scale * u / q, tf.math.log(slope)


def _inverse_rational(y, center, scale, amount):
    # At most half of `scale * amount` is added.
    most = 0.5 * tf.abs(amount) * scale

    def function(x):
        value, log_slope = _rational(x, center, scale, amount)
        return value, tf.exp(log_slope)

    x = monotone_root(function, y, y - most, y + most)
    return x, -_rational(x, center, scale, amount)[1]


def _conjugated(functions, x, center, scale, delta):
    g, inverse, log_slope, limit = functions
    # Beyond, the displacement is lost in rounding, and g may overflow.
    limit = limit(x.dtype)
    u = tf.clip_by_value((x - center) / scale, -limit, limit)
    v = inverse(g(u) + delta)
    return x + scale * (v - u), log_slope(u) - log_slope(v)


def _log_cosh(x):
    return tf.abs(x) + tf.nn.softplus(-2 * tf.abs(x))


_ROOT = 3**0.5
# Each with its inverse, its log-slope up to a constant, and how far out it is computed.
_FUNCTIONS = {
    "sinh": (
        tf.sinh,
        tf.asinh,
        _log_cosh,
        lambda dtype: 0.5 * float(np.log(dtype.max)),
    ),
    "cubic": (
        lambda u: u + u**3,
        lambda y: 2 / _ROOT * tf.sinh(tf.asinh(1.5 * _ROOT * y) / 3),
        lambda u: tf.math.log1p(3 * tf.square(u)),
        lambda dtype: float(dtype.max) ** 0.125,
    ),
}
