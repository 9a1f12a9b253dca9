"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.core.arguments import check_number
from tfp_flows.networks.network import Network

__all__ = ["MLP"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class MLP(Network):
    """Dense hidden layers and a dense output that starts at zero.

    Input `[batch, D]`, context `[batch, C]` or none, output `[batch, outputs]`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.MLP(outputs=6, hidden_units=(8,))
      >>> network(tf.ones([2, 3])).shape
      TensorShape([2, 6])

    Args:
      outputs: size of the output.
      hidden_units: widths of the hidden layers.
      output_scale: float, number that the output is multiplied by; below one it makes
        training steps of the output smaller, see `ConvNet`.
      **kwargs: see `Network`.
    """

    def __init__(
        self,
        outputs: int,
        hidden_units: Sequence[int] = (256, 256),
        output_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(outputs, **kwargs)
        self.output_scale = check_number("output_scale", output_scale, above=0)
        self.hidden_units = tuple(hidden_units)
        self._layers_hidden = [
            self._dense(width, f"hidden_{i}")
            for i, width in enumerate(self.hidden_units)
        ]
        self._output = self._dense(outputs, "output", zero=True)

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        shape = self._input_shape(x_shape, context_shape)
        for layer in [*self._layers_hidden, self._output]:
            layer.build(shape)
            shape = (*shape[:-1], layer.units)
        self._build_film(self.hidden_units, context_shape)

    def call(self, x: Any, context: Any = None) -> Any:
        h = self._join(x, context)
        for i, layer in enumerate(self._layers_hidden):
            h = self.activation(self._modulate(layer(h), context, i))
        out = self._output(h)
        return self._scaled(out)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "output_scale": self.output_scale,
        }
