"""A contractive convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.core.arguments import check_integer, check_shape
from tfp_flows.networks.lipschitz_network import LipschitzNetwork

__all__ = ["LipschitzConvNet"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class LipschitzConvNet(LipschitzNetwork):
    """Convolutions with a Lipschitz constant below one.

    Stride 1, zeros around the image. With the default kernels these are the 3x3, 1x1
    and 3x3 convolutions of Chen et al. 2019, appendix E. Input `[batch, H, W, C]`,
    context a vector or an image (see `Network`), output `[batch, H, W, outputs]`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.LipschitzConvNet(outputs=3, width=8)
      >>> network(tf.ones([2, 4, 4, 3])).shape
      TensorShape([2, 4, 4, 3])

    Args:
      outputs: channels of the output.
      width: channels of the hidden layers.
      kernels: sizes of the hidden layers' kernels, at least one; the last layer's is 3.
      **kwargs: see `LipschitzNetwork`.

    Raises:
      TypeError: if a size is not an integer.
      ValueError: if there is no hidden layer, or a size is below 1.
    """

    def __init__(
        self,
        outputs: int,
        width: int = 512,
        kernels: Sequence[int] = (3, 1),
        **kwargs: Any,
    ):
        super().__init__(outputs, **kwargs)
        self.width = check_integer("width", width)
        self.kernels = check_shape("kernels", kernels)
        if not self.kernels:
            raise ValueError("kernels must list at least one size, got none.")

    def _plan(self, x_shape):
        _, height, columns, channels = x_shape
        plan = []
        for i, size in enumerate((*self.kernels, 3)):
            filters = self.outputs if i == len(self.kernels) else self.width
            # A 1x1 convolution is the same map at every position, so one is enough.
            image = (1, 1) if size == 1 else (height, columns)
            plan.append(((size, size, channels, filters), (1, *image, filters)))
            channels = filters
        return plan

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "kernels": self.kernels}
