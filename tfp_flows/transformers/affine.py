"""The scale and shift of an affine coupling."""

from __future__ import annotations

import math

import tensorflow as tf

__all__ = ["Affine"]


class Affine:
    r"""$y = e^{s} x + t$, with log-derivative $s$ (Dinh et al. 2017, equation 7).

    The parameters are the shift $t$ and a raw number $a$, from which the log-scale is

    * `"exp"`: $s = a$;
    * `"tanh"`: $s = c \tanh(a / c)$, bounded by $c$ = `clamp` (2 unless given);
    * `"sigmoid"`: $s = -\log\sigma(a + 2)$: data are multiplied by $\sigma(a + 2)$ on
      their way to noise, as in the code of Kingma & Dhariwal 2018.

    Args:
      scale: `"exp"`, `"tanh"` or `"sigmoid"`.
      clamp: bound on $|s|$, a positive number of nats; `None` leaves `"exp"` and
        `"sigmoid"` unbounded.

    Raises:
      ValueError: on another `scale`, or a `clamp` that is not positive.
    """

    num_parameters = 2
    scales = ("exp", "tanh", "sigmoid")

    def __init__(self, scale: str = "tanh", clamp: float | None = None):
        if scale not in self.scales:
            raise ValueError(f"scale must be one of {self.scales}, got {scale!r}.")
        if clamp is not None and not clamp > 0:
            raise ValueError(f"clamp must be positive, got {clamp}.")
        self.scale = scale
        self.clamp = 2.0 if clamp is None and scale == "tanh" else clamp

    def _factor(self, raw, forward):
        """What a value is multiplied with on its way, and the logarithm of that."""
        if self.scale == "sigmoid":
            # The factor first: no later layer waits for its logarithm, which is finite
            # from the smallest normal number on.
            limit = 4 / raw.dtype.max
            if self.clamp is not None:
                limit = max(limit, math.exp(-self.clamp))
            factor = tf.maximum(tf.sigmoid(raw + 2.0), limit)
            log_factor = tf.math.log(factor)
            return (1.0 / factor, -log_factor) if forward else (factor, log_factor)
        log_scale = raw
        if self.scale == "tanh":
            log_scale = self.clamp * tf.tanh(raw / self.clamp)
        elif self.clamp is not None:
            log_scale = tf.clip_by_value(raw, -self.clamp, self.clamp)
        log_scale = log_scale if forward else -log_scale
        return tf.exp(log_scale), log_scale

    def forward_and_log_det(self, x, parameters):
        shift, raw = tf.unstack(parameters, axis=-2)
        factor, log_factor = self._factor(raw, True)
        return x * factor + shift, log_factor

    def inverse_and_log_det(self, y, parameters):
        shift, raw = tf.unstack(parameters, axis=-2)
        factor, log_factor = self._factor(raw, False)
        return (y - shift) * factor, log_factor

    def __repr__(self):
        return f"Affine(scale={self.scale!r}, clamp={self.clamp})"
