"""Layer normalisation that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["LayerNorm"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class LayerNorm(keras.layers.Layer):
    r"""Brings the last axis to mean 0 and deviation 1 (Ba et al. 2016).

    $$ y = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    It computes the same as `keras.layers.LayerNormalization`, whose gradients of
    gradients are wrong: TensorFlow's `tf.nn.moments` holds the mean constant while it
    differentiates the variance, which is right only once. The log-determinants of a
    `tfp_flows.bijectors.ContinuousFlow` are gradients, and training takes gradients of
    these.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> networks.LayerNorm()(tf.constant([[1.0, 3.0]])).numpy().round(3).tolist()
      [[-1.0, 1.0]]

    Args:
      epsilon: float, what is added to the variance.
      learned: bool, whether there are a learned scale $\gamma$ and shift $\beta$.
      **kwargs: see `keras.layers.Layer`.
    """

    papers = ("ba2016layer",)

    def __init__(self, epsilon: float = 1e-5, learned: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon, self.learned = epsilon, learned

    def build(self, input_shape: Sequence[Any]) -> None:
        if self.learned:
            shape = tuple(input_shape[-1:])
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, x: Any) -> Any:
        # Sums of squares leave the range of float16.
        half = self.compute_dtype in ("float16", "bfloat16")
        h = ops.cast(x, "float32") if half else x
        h = h - ops.mean(h, -1, keepdims=True)
        h = h * ops.rsqrt(ops.mean(ops.square(h), -1, keepdims=True) + self.epsilon)
        h = ops.cast(h, self.compute_dtype)
        return h * self.gamma + self.beta if self.learned else h

    def get_config(self) -> dict[str, Any]:
        own = {"epsilon": self.epsilon, "learned": self.learned}
        return {**super().get_config(), **own}
