"""The scale and shift of an affine coupling."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_number
from tfp_flows.transformers.bounds import smooth_bound
from tfp_flows.transformers.transformer import Transformer

__all__ = ["Affine"]


class Affine(Transformer):
    r"""$y = e^{s} x + t$, with log-derivative $s$ (Dinh et al. 2017, equation 7).

    The parameters are the shift $t$ and a raw number $a$, from which the log-scale is

    * `"exp"`: $s = a$;
    * `"tanh"`: $s = c \tanh(a / c)$, bounded by $c$ = `max_log_scale`;
    * `"sigmoid"`: $s = -\log\sigma(a + 2)$, a positive number: data are multiplied by
      $\sigma(a + 2)$ on their way to noise, as in the code of Kingma & Dhariwal 2018.

    With a `max_log_scale` $c$, `"exp"` and `"sigmoid"` are bounded smoothly: $s$
    becomes $\frac{2 c}{\pi} \arctan \frac{\pi s}{2 c}$. The slope of `"tanh"` falls
    faster, like $4 e^{-2 |a| / c}$, so that large raw numbers are trained slowly. It
    is computed to full relative precision, and is above zero up to $|a| = 43\, c$ in
    single precision.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> affine = transformers.Affine("exp")
      >>> shift_and_log_scale = tf.constant([[1.0, 1.0], [0.0, 2.0]])
      >>> y, log_det = affine.forward_and_log_det(
      ...     tf.constant([3.0, 0.0]), shift_and_log_scale)
      >>> y.numpy().tolist(), log_det.numpy().tolist()
      ([4.0, 1.0], [0.0, 2.0])

    Args:
      scale: `"exp"`, `"tanh"` or `"sigmoid"`.
      max_log_scale: bound on $|s|$, a positive number of nats. 2 by default for
        `"tanh"`; `None` leaves `"exp"` and `"sigmoid"` unbounded.

    Raises:
      ValueError: on another `scale`, or a `max_log_scale` that is not positive.
      TypeError: if `max_log_scale` is not a number.
    """

    num_parameters = 2
    has_constant_slope = True
    scales = ("exp", "tanh", "sigmoid")

    def __init__(self, scale: str = "tanh", max_log_scale: float | None = None):
        self.scale = check_choice("scale", scale, self.scales)
        if max_log_scale is None and scale == "tanh":
            max_log_scale = 2.0
        if max_log_scale is not None:
            max_log_scale = check_number("max_log_scale", max_log_scale, above=0)
        self.max_log_scale = max_log_scale

    def _log_scale(self, raw):
        bound = self.max_log_scale
        if self.scale == "tanh":
            return bound * _tanh(raw / bound)
        if self.scale == "sigmoid":
            log_scale = tf.nn.softplus(-(raw + 2.0))
            if bound is None:
                # The largest bound for which neither e^s nor e^-s overflows.
                return tf.minimum(log_scale, math.log(raw.dtype.max / 8))
        else:
            log_scale = raw
        return log_scale if bound is None else smooth_bound(log_scale, bound)

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shift, raw = tf.unstack(parameters, axis=-2)
        log_scale = self._log_scale(raw)
        return x * tf.exp(log_scale) + shift, log_scale

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shift, raw = tf.unstack(parameters, axis=-2)
        log_scale = -self._log_scale(raw)
        return (y - shift) * tf.exp(log_scale), log_scale

    def __repr__(self):
        return f"Affine(scale={self.scale!r}, max_log_scale={self.max_log_scale})"


def _tanh(u):
    """`tf.tanh`, whose own gradient is 0 where its value rounds to 1.

    Values near 0 are exact within a rounding of 1.
    """
    # Not `tf.sign`, which stops the gradient at 0, where networks start.
    sign = tf.where(u < 0, -tf.ones([], u.dtype), 1.0)
    return sign * (1.0 - 2.0 * tf.sigmoid(-2.0 * sign * u))
