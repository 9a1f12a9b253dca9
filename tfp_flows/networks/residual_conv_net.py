"""RealNVP's residual convolutional conditioner."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.networks.network import Network
from tfp_flows.networks.never_empty import never_empty
from tfp_flows.networks.residual_sum import residual_sum

__all__ = ["ResidualConvNet"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class ResidualConvNet(Network):
    """Pre-activation residual blocks of two 3x3 convolutions.

    After Dinh et al. 2017, sections 3.3 and 4.1, without normalisation inside the
    network. Input `[batch, H, W, C]`, context a vector or an image (see `Network`),
    output `[batch, H, W, outputs]`. Each block and the output start at zero.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.ResidualConvNet(outputs=6, width=8, depth=2)
      >>> network(tf.ones([2, 4, 4, 3])).shape
      TensorShape([2, 4, 4, 6])

    Args:
      outputs: channels of the output.
      width: channels of the hidden layers.
      depth: number of residual blocks.
      **kwargs: see `Network`.
    """

    papers = ("dinh2017real_nvp",)

    def __init__(self, outputs: int, width: int = 64, depth: int = 4, **kwargs: Any):
        super().__init__(outputs, **kwargs)
        self.width, self.depth = width, depth
        conv = self._conv
        self._first = conv(width, 3, "input")
        self._blocks = [
            [conv(width, 3, f"block_{i}_0"), conv(width, 3, f"block_{i}_1", zero=True)]
            for i in range(depth)
        ]
        self._output = conv(outputs, 1, "output", zero=True)

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
        return never_empty(self._of_some, x, context)

    def _of_some(self, x, context):
        h = self._first(self._join(x, context))
        for i, (one, two) in enumerate(self._blocks):
            inner = self._modulate(one(self.activation(h)), context, i)
            h = residual_sum(h, two(self.activation(inner)))
        return self._output(self.activation(h))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "depth": self.depth}
