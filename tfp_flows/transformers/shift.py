"""The shift of an additive coupling."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["Shift"]


class Shift:
    """$y = x + t$, with log-derivative zero (Dinh et al. 2014, equation 6)."""

    num_parameters = 1

    def forward_and_log_det(self, x, parameters):
        shift = tf.squeeze(parameters, -2)
        return x + shift, tf.zeros_like(x)

    def inverse_and_log_det(self, y, parameters):
        shift = tf.squeeze(parameters, -2)
        return y - shift, tf.zeros_like(y)

    def __repr__(self):
        return "Shift()"
