"""From log-odds to normal quantiles."""

from __future__ import annotations

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.transformers.transformer import Transformer

__all__ = ["Probit"]

_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


class Probit(Transformer):
    r"""The normal quantile of a probability, given its log-odds.

    $$ y = \Phi^{-1}(\sigma(x)), \qquad
       \frac{dy}{dx} = \frac{\sigma(x)\, \sigma(-x)}{\phi(y)} $$

    with the standard normal density $\phi$ and distribution function $\Phi$. Behind a
    `LogisticMixture` it makes data whose distribution function is that of the mixture
    standard normal (Meng et al. 2020, "Gaussianization Flows", equation 9). It has no
    parameters.

    Far out $y$ grows as $\sqrt{2 |x|}$. It is computed from logarithms there, so that
    all numbers have finite images, both ways.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> y, log_det = transformers.Probit().forward_and_log_det(
      ...     tf.constant([0.0, 100.0]), tf.zeros([0, 2]))
      >>> [round(float(v), 3) for v in y]
      [0.0, 13.888]
    """

    papers = ("meng2020gaussianization",)

    num_parameters = 0

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        y = _probit(x)
        return y, _log_slope(x, y)

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        x = _log_odds(y)
        return x, -_log_slope(x, y)

    def __repr__(self):
        return "Probit()"


def _probit(x):
    log_p = -tf.math.softplus(tf.abs(x))
    # Abramowitz & Stegun 1964, 26.2.23, right to three digits.
    z = tf.sqrt(-2 * log_p)
    over = 2.515517 + z * (0.802853 + z * 0.010328)
    y = z - over / (1 + z * (1.432788 + z * (0.189269 + z * 0.001308)))
    last = _last(x.dtype)
    # Two steps of Newton's method for log Phi(-y), or three of an iteration for y^2.
    near, square = tf.minimum(y, last), tf.square(tf.maximum(y, last))
    for _ in range(2):
        found = tf.math.log(0.5 * tf.math.erfc(near * math.sqrt(0.5)))
        step = tf.exp(found + 0.5 * tf.square(near) + _LOG_ROOT_TWO_PI)
        near += (found - log_p) * step
    for _ in range(3):
        log_y = 0.5 * tf.math.log(square)
        square = 2 * (_log_series(square) - log_p - _LOG_ROOT_TWO_PI - log_y)
    y = tf.sign(x) * tf.where(y < last, near, tf.sqrt(square))
    return _as_function(x, tf.stop_gradient(y))


@tf.custom_gradient
def _as_function(x, y):
    """`y`, with the derivatives that it has as a function of `x`."""

    def gradient(upstream):
        slope = tf.exp(_log_slope(x, _as_function(x, y)))
        return upstream * slope, tf.zeros_like(y)

    return tf.identity(y), gradient


def _log_odds(y):
    size = tf.abs(y)
    log_erfcx = tfp.math.logerfcx(size * math.sqrt(0.5))
    log_p = log_erfcx - 0.5 * tf.square(size) - math.log(2.0)
    x = tf.sign(y) * (tf.math.log1p(-tf.exp(log_p)) - log_p)
    return _as_inverse(tf.stop_gradient(x), y)


@tf.custom_gradient
def _as_inverse(x, y):
    """`x`, with the derivatives that it has as a function of `y`."""

    def gradient(upstream):
        slope = tf.exp(-_log_slope(_as_inverse(x, y), y))
        return tf.zeros_like(x), upstream * slope

    return tf.identity(x), gradient


def _log_slope(x, y):
    r"""$\log dy/dx$, far out without a difference of large numbers."""
    last = _last(x.dtype)
    square = tf.square(y)
    near = 0.5 * square + _LOG_ROOT_TWO_PI - tf.math.softplus(x) - tf.math.softplus(-x)
    far = tf.maximum(square, last**2)
    far = _log_series(far) - 0.5 * tf.math.log(far)
    return tf.where(square < last**2, near, far)


def _log_series(square):
    r"""$\log y\, \Phi(-y) / \phi(y)$ of a large $y$, given its square."""
    r = 1 / square
    return tf.math.log1p(-r * (1 - 3 * r * (1 - 5 * r * (1 - 7 * r))))


def _last(dtype):
    """Beyond this deviation, probabilities are no numbers, and series are exact."""
    return 12.0 if dtype == tf.float32 else 36.0
