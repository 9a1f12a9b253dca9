"""Glow's convolutional conditioner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.core.arguments import check_number
from tfp_flows.networks.network import Network
from tfp_flows.networks.never_empty import never_empty

__all__ = ["ConvNet"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConvNet(Network):
    """Hidden convolutions and a 3x3 convolution that starts at zero.

    With the default kernels these are the three convolutions, 3x3, 1x1 and 3x3, of
    Kingma & Dhariwal 2018, section 3.3 and appendix (without their activation
    normalisation inside the network). Input `[batch, H, W, C]`, context a vector or an
    image (see `Network`), output `[batch, H, W, outputs]`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.ConvNet(outputs=6, width=8)
      >>> network(tf.ones([2, 4, 4, 3])).shape
      TensorShape([2, 4, 4, 6])

    Args:
      outputs: channels of the output.
      width: channels of the hidden layers.
      kernels: sizes of the hidden layers' kernels; `()` for no hidden layer, as in the
        networks of Glow's learned priors.
      output_scale: float, number that the output is multiplied by. A number below one
        makes training steps of the output smaller, if the optimizer's steps do not
        depend on the size of gradients (Adam).
      **kwargs: see `Network`.
    """

    papers = ("kingma2018glow",)

    def __init__(
        self,
        outputs: int,
        width: int = 512,
        kernels: Sequence[int] = (3, 1),
        output_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(outputs, **kwargs)
        self.output_scale = check_number("output_scale", output_scale, above=0)
        self.width, self.kernels = width, tuple(kernels)
        # FiLM modulates before the activation.
        activation = None if self.context_mode == "film" else self.activation
        self._hidden = [
            self._conv(width, size, f"hidden_{i}", activation=activation)
            for i, size in enumerate(self.kernels)
        ]
        self._output = self._conv(outputs, 3, "output", zero=True)

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        shape = self._input_shape(x_shape, context_shape)
        for layer in [*self._hidden, self._output]:
            layer.build(shape)
            shape = (*shape[:-1], self.width)
        self._build_film([self.width] * len(self.kernels), context_shape)

    def call(self, x: Any, context: Any = None) -> Any:
        return never_empty(self._of_some, x, context)

    def _of_some(self, x, context):
        h = self._join(x, context)
        for i, layer in enumerate(self._hidden):
            h = layer(h)
            if self.context_mode == "film":
                h = self.activation(self._modulate(h, context, i))
        out = self._output(h)
        return self._scaled(out)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "kernels": self.kernels,
            "output_scale": self.output_scale,
        }
