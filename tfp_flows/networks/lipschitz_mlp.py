"""A contractive multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.core.arguments import check_shape
from tfp_flows.networks.lipschitz_network import LipschitzNetwork

__all__ = ["LipschitzMLP"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class LipschitzMLP(LipschitzNetwork):
    """Dense layers with a Lipschitz constant below one.

    Input `[batch, D]`, context `[batch, C]` or none, output `[batch, outputs]`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.LipschitzMLP(outputs=3, hidden_units=(8,))
      >>> network(tf.ones([2, 3])).shape
      TensorShape([2, 3])

    Args:
      outputs: size of the output.
      hidden_units: widths of the hidden layers, at least one.
      **kwargs: see `LipschitzNetwork`.

    Raises:
      TypeError: if a size is not an integer.
      ValueError: if there is no hidden layer, or a size is below 1.
    """

    def __init__(
        self, outputs: int, hidden_units: Sequence[int] = (128, 128), **kwargs: Any
    ):
        super().__init__(outputs, **kwargs)
        self.hidden_units = check_shape("hidden_units", hidden_units)
        if not self.hidden_units:
            raise ValueError("hidden_units must list at least one width, got none.")

    def _plan(self, x_shape):
        sizes = [x_shape[-1], *self.hidden_units, self.outputs]
        return [((a, b), (1, b)) for a, b in itertools.pairwise(sizes)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden_units": self.hidden_units}
