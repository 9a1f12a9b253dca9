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
      [0.0, 13.897]
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


@tf.custom_gradient
def _probit(x):
    def gradient(upstream):
        # Again a function of x, for derivatives of higher order.
        return upstream * tf.exp(_log_slope(x, _probit(x)))

    # Of the smaller of the two probabilities: y is the root of log Phi(-|y|).
    log_p = -tf.math.softplus(tf.abs(x))
    z = tf.sqrt(-2 * log_p)
    # Abramowitz & Stegun 1964, 26.2.23, right to three digits; two steps of Newton's
    # method make it right to all.
    over = 2.515517 + z * (0.802853 + z * 0.010328)
    y = z - over / (1 + z * (1.432788 + z * (0.189269 + z * 0.001308)))
    for _ in range(2):
        log_mills = _log_mills(y)
        found = log_mills - 0.5 * tf.square(y) - _LOG_ROOT_TWO_PI
        y += (found - log_p) * tf.exp(log_mills)
    return tf.sign(x) * y, gradient


@tf.custom_gradient
def _log_odds(y):
    def gradient(upstream):
        return upstream * tf.exp(-_log_slope(_log_odds(y), y))

    size = tf.abs(y)
    log_p = _log_mills(size) - 0.5 * tf.square(size) - _LOG_ROOT_TWO_PI
    return tf.sign(y) * (tf.math.log1p(-tf.exp(log_p)) - log_p), gradient


def _log_slope(x, y):
    r"""$\log dy/dx$, without differences of large numbers."""
    return _log_mills(tf.abs(y)) + tf.math.log_sigmoid(tf.abs(x))


def _log_mills(y):
    r"""$\log \Phi(-y) / \phi(y)$ of numbers that are not negative."""
    log_erfcx = tfp.math.logerfcx(y * math.sqrt(0.5))
    return log_erfcx + 0.5 * math.log(math.pi / 2)
