"""The shift of an additive coupling."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.transformers.transformer import Transformer

__all__ = ["Shift"]


class Shift(Transformer):
    """$y = x + t$, with log-derivative zero (Dinh et al. 2014, equation 6).

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> y, log_det = transformers.Shift().forward_and_log_det(
      ...     tf.constant([1.0, 2.0]), tf.constant([[10.0, 20.0]]))
      >>> y.numpy().tolist(), log_det.numpy().tolist()
      ([11.0, 22.0], [0.0, 0.0])
    """

    num_parameters = 1
    is_constant_jacobian = True
    has_constant_slope = True

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shift = tf.squeeze(parameters, -2)
        return x + shift, tf.zeros_like(x)

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shift = tf.squeeze(parameters, -2)
        return y - shift, tf.zeros_like(y)

    def __repr__(self):
        return "Shift()"
