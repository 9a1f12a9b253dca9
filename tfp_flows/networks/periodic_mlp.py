"""A multilayer perceptron of angles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfp_flows.networks.mlp import MLP

__all__ = ["PeriodicMLP"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class PeriodicMLP(MLP):
    r"""An `MLP` of the cosines and sines of its input, whose period is $2\pi$.

    Input angles `[batch, D]`, context `[batch, C]` or none, output `[batch, outputs]`.
    Angles of a torus, and the angle of `tfp_flows.bijectors.Sphere`, so meet a network
    that does not see where the circle is cut.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.PeriodicMLP(outputs=6, hidden_units=(8,))
      >>> network(tf.ones([2, 3])).shape
      TensorShape([2, 6])

    Args:
      outputs: size of the output.
      hidden_units: widths of the hidden layers.
      output_scale: see `MLP`.
      **kwargs: see `Network`.
    """

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        super().build((*x_shape[:-1], 2 * x_shape[-1]), context_shape)

    def call(self, x: Any, context: Any = None) -> Any:
        return super().call(ops.concatenate([ops.cos(x), ops.sin(x)], -1), context)
