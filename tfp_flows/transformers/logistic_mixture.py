"""The cumulative distribution function of a mixture of logistics."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.roots import monotone_root
from tfp_flows.transformers.bounds import raw_of_bounded, smooth_bound
from tfp_flows.transformers.transformer import Transformer, spread

__all__ = ["LogisticMixture", "log_odds"]


class LogisticMixture(Transformer):
    r"""The log-odds of a mixture of logistic distributions, scaled and shifted.

    $$ y = e^{a} \operatorname{logit} F(x) + b, \qquad
       F(x) = \sum_k \pi_k\, \sigma\!\left((x - \mu_k) e^{-s_k}\right) $$

    (Ho et al. 2019, "Flow++", equations 7 and 8; but for $a$ and $b$ this is a layer of
    the deep sigmoidal flow, DSF, of Huang et al. 2018, "Neural Autoregressive Flows".)
    $F$ and $1 - F$ are computed as logarithms, so that the function is exact far out
    too, where it is a straight line. The inverse is found by Newton's method; its
    derivatives come from the implicit function theorem.

    The $3K + 2$ parameters are the logits of $\pi$, the means and log-scales of the
    components, $a$ and $b$. If all are zero, the function is near the identity: the
    means are then spread over $[-1, 1]$, since equal components would stay equal. $a$
    and the $s_k$ are bounded smoothly.

    Far out, the widest component alone counts, however small its weight: there the
    inverse multiplies by $e^{s_k - a}$. So the bound on the $s_k$ from above is a bound
    on how far apart the inverse moves rare numbers.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> mixture = transformers.LogisticMixture(components=3)
      >>> x = tf.constant([-1.0, 0.0, 2.0])
      >>> theta = tf.ones([mixture.num_parameters, 3])
      >>> y, log_det = mixture.forward_and_log_det(x, theta)
      >>> back, _ = mixture.inverse_and_log_det(y, theta)
      >>> bool(tf.reduce_all(tf.abs(back - x) < 1e-4))
      True

    Args:
      components: $K$, at least 1.
      max_log_scale: bound on $|a|$, nats.
      max_component_log_scale: bound on each $s_k$ from above, nats.
      min_component_log_scale: bound from below, a negative number;
        `-max_component_log_scale` by default.

    Raises:
      ValueError: if `components` is below 1, or a bound has the wrong sign.
      TypeError: if an argument is not a number, or `components` not an integer.
    """

    papers: tuple[str, ...] = ("ho2019flowpp",)

    has_direct_inverse = False

    def __init__(
        self,
        components: int = 8,
        max_log_scale: float = 2.0,
        max_component_log_scale: float = 5.0,
        min_component_log_scale: float | None = None,
    ):
        self.components = check_integer("components", components)
        self.max_log_scale = check_number("max_log_scale", max_log_scale, above=0)
        self.max_component_log_scale = check_number(
            "max_component_log_scale", max_component_log_scale, above=0
        )
        self.min_component_log_scale = (
            -self.max_component_log_scale
            if min_component_log_scale is None
            else check_number(
                "min_component_log_scale", min_component_log_scale, below=0
            )
        )
        self.num_parameters = 3 * self.components + 2
        self._spread = spread(self.components, 1)

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mixture, log_scale, shift = self._split(parameters)
        y, log_slope = _log_odds(x, *mixture)
        return y * tf.exp(log_scale) + shift, log_slope + log_scale

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mixture, log_scale, shift = self._split(parameters)
        target = (y - shift) * tf.exp(-log_scale)
        _, means, log_scales = mixture
        # A single component has the log-odds (x - mu) e^-s, and reaches the target at
        # `alone`. The root of the mixture lies between these.
        alone = means + target[..., None, :] * tf.exp(log_scales)

        def function(x):
            value, log_slope = _log_odds(x, *mixture)
            return value, tf.exp(log_slope)

        x = monotone_root(
            function, target, tf.reduce_min(alone, -2), tf.reduce_max(alone, -2)
        )
        return x, -_log_odds(x, *mixture)[1] - log_scale

    def parameters_of(self, means: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
        r"""Returns the parameters of given components of equal weights.

        Args:
          means: $\mu$, an array `[..., K, n]`.
          log_scales: the $s_k$, of the same shape, as far as bounds allow.

        Returns:
          An array `[..., num_parameters, n]`, whose $a$ and $b$ are zero.
        """
        high, low = self.max_component_log_scale, -self.min_component_log_scale
        raw = raw_of_bounded(log_scales, np.where(log_scales > 0, high, low))
        others = np.zeros_like(means[..., :1, :])
        return np.concatenate(
            [0 * means, means - self._spread, raw, others, others], axis=-2
        )

    def _split(self, parameters):
        k = self.components
        logits, means, raw, others = tf.split(parameters, [k, k, k, 2], axis=-2)
        log_scales = smooth_bound(raw, self._component_bound(raw))
        means += tf.cast(self._spread, means.dtype)
        raw_scale, shift = tf.unstack(others, axis=-2)
        log_scale = smooth_bound(raw_scale, self.max_log_scale)
        return (tf.nn.log_softmax(logits, -2), means, log_scales), log_scale, shift

    def _component_bound(self, raw):
        """Bound on the magnitude of each `s_k`, by its sign."""
        high, low = self.max_component_log_scale, -self.min_component_log_scale
        if high == low:
            return high
        return tf.where(raw > 0, tf.constant(high, raw.dtype), low)

    def __repr__(self):
        return (
            f"LogisticMixture(components={self.components}, "
            f"max_log_scale={self.max_log_scale}, "
            f"max_component_log_scale={self.max_component_log_scale}, "
            f"min_component_log_scale={self.min_component_log_scale})"
        )


def log_odds(
    u: tf.Tensor, log_slopes: tf.Tensor, log_weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""$\operatorname{logit} \sum_k \pi_k \sigma(u_k)$ and the logarithm of its slope.

    Args:
      u: `[..., K, n]`.
      log_slopes: logarithms of the slopes of the `u`, as functions of one number.
      log_weights: $\log \pi$.

    Returns:
      Two tensors `[..., n]`.
    """
    below, above = tf.math.log_sigmoid(u), tf.math.log_sigmoid(-u)
    share_below, log_f = _normalize(log_weights + below)
    share_above, log_1_f = _normalize(log_weights + above)
    # d log F/dx - d log(1 - F)/dx as a sum of positive terms.
    slopes = tf.concat([share_below + above, share_above + below], -2)
    log_slope = tf.reduce_logsumexp(
        slopes + tf.concat([log_slopes, log_slopes], -2), -2
    )
    return log_f - log_1_f, log_slope


def _log_odds(x, log_weights, means, log_scales):
    """`logit F(x)` and the logarithm of its derivative."""
    u = (x[..., None, :] - means) * tf.exp(-log_scales)
    return log_odds(u, -log_scales, log_weights)


def _normalize(terms):
    """Logarithms of the shares of terms in their sum, and the logarithm of the sum."""
    # The largest is subtracted first, so that shares stay exact where all are large.
    largest = tf.stop_gradient(tf.reduce_max(terms, -2, keepdims=True))
    shares = terms - largest
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shares), -2, keepdims=True))
    return shares - log_sum, tf.squeeze(largest + log_sum, -2)
