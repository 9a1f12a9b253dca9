"""A 1x1 convolution."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["Pointwise"]


class Pointwise(keras.layers.Dense):
    """A dense layer at every position of images `[batch, H, W, C]`.

    It computes the same as a 1x1 `Conv2D`, as one product of matrices. TensorFlow fuses
    this with bias and activation, and its gradients take down to half of the time.
    """

    def call(self, x: Any, training: bool | None = None) -> Any:
        *positions, channels = x.shape[1:]
        if None in positions:
            return super().call(x, training=training)
        rows = super().call(ops.reshape(x, (-1, channels)), training=training)
        return ops.reshape(rows, (-1, *positions, self.units))
