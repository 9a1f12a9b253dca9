"""A multilayer perceptron with residual blocks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.core.arguments import check_number
from tfp_flows.networks.network import Network
from tfp_flows.networks.residual_sum import residual_sum

__all__ = ["ResidualMLP"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class ResidualMLP(Network):
    """Pre-activation residual blocks of two dense layers (He et al. 2016b).

    Input `[batch, D]`, context `[batch, C]` or none, output `[batch, outputs]`. Each
    block and the output start at zero.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.ResidualMLP(outputs=6, width=8)
      >>> network(tf.ones([2, 3])).shape
      TensorShape([2, 6])

    Args:
      outputs: size of the output.
      width: width of the hidden layers.
      depth: number of residual blocks.
      output_scale: float, number that the output is multiplied by; below one it makes
        training steps of the output smaller, see `ConvNet`.
      dropout: fraction of the activations in front of each block's last layer that is
        left out in training, see `Network`.
      **kwargs: see `Network`.
    """

    def __init__(
        self,
        outputs: int,
        width: int = 256,
        depth: int = 2,
        output_scale: float = 1.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(outputs, **kwargs)
        self.output_scale = check_number("output_scale", output_scale, above=0)
        self.width, self.depth, self.dropout = width, depth, dropout
        dense = self._dense
        self._first = dense(width, "input")
        self._blocks = [
            [dense(width, f"block_{i}_0"), dense(width, f"block_{i}_1", zero=True)]
            for i in range(depth)
        ]
        self._output = dense(outputs, "output", zero=True)
        # Last: the seeds of the others do not depend on it.
        self._drop = self._dropout(dropout)

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        shape = self._input_shape(x_shape, context_shape)
        self._first.build(shape)
        shape = (*shape[:-1], self.width)
        for layer in [*itertools.chain(*self._blocks), self._output]:
            layer.build(shape)
        self._build_film([self.width] * self.depth, context_shape)

    def call(self, x: Any, context: Any = None) -> Any:
        h = self._first(self._join(x, context))
        for i, (one, two) in enumerate(self._blocks):
            inner = self._modulate(one(self.activation(h)), context, i)
            h = residual_sum(h, two(self._drop(self.activation(inner))))
        out = self._output(self.activation(h))
        return self._scaled(out)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "depth": self.depth,
            "output_scale": self.output_scale,
            "dropout": self.dropout,
        }
