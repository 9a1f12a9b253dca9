"""Flow++'s convolutional conditioner with self-attention."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfp_flows.core.arguments import check_number
from tfp_flows.networks.attention import attention
from tfp_flows.networks.layer_norm import LayerNorm
from tfp_flows.networks.network import Network
from tfp_flows.networks.never_empty import never_empty

__all__ = ["GatedResidualConvNet"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class GatedResidualConvNet(Network):
    """Residual blocks of a gated convolution and gated self-attention.

    After Ho et al. 2019, section 3.2. Each block adds a 3x3 convolution, then attention
    of every position to all positions. Both go through a gate: half of the channels
    times the sigmoid of the other half. Channels are normalised before each of the two
    (in the paper, after), and positions have a learned embedding. Attention takes time
    of the order $(H W)^2$; gradients keep no scores of pairs of positions. Input
    `[batch, H, W, C]`, context a vector or an image (see `Network`), output `[batch, H,
    W, outputs]`. Gates and output start at zero.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.GatedResidualConvNet(outputs=6, width=8, depth=2)
      >>> network(tf.ones([2, 4, 4, 3])).shape
      TensorShape([2, 4, 4, 6])

    Args:
      outputs: channels of the output.
      width: channels of the hidden layers.
      depth: number of residual blocks.
      heads: heads of the self-attention, which divide `width`; 0 for no attention.
      output_scale: float, number that the output is multiplied by; below one it makes
        training steps of the output smaller, see `ConvNet`.
      dropout: fraction of the activations in front of each gate that is left out in
        training, see `Network`.
      **kwargs: see `Network`.

    Raises:
      ValueError: if `heads` does not divide `width`.
    """

    papers = ("ho2019flowpp",)

    def __init__(
        self,
        outputs: int,
        width: int = 96,
        depth: int = 10,
        heads: int = 4,
        output_scale: float = 1.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(outputs, **kwargs)
        self.output_scale = check_number("output_scale", output_scale, above=0)
        if heads < 0 or (heads and width % heads):
            raise ValueError(f"heads must divide width={width}, or be 0; got {heads}.")
        self.width, self.depth, self.heads = width, depth, heads
        conv = self._conv
        # No learned scale and shift: the next layer absorbs both.
        self._norm = LayerNorm(
            epsilon=1e-3, learned=False, name="norm", dtype=self.dtype_policy
        )
        self._first = conv(width, 3, "input")
        self._blocks = [
            [
                conv(width, 3, f"block_{i}"),
                conv(2 * width, 1, f"block_{i}_gate", zero=True),
            ]
            for i in range(depth)
        ]
        # One product for the queries, keys and values of all heads.
        self._attention = [
            [
                conv(3 * width, 1, f"attention_{i}"),
                conv(2 * width, 1, f"attention_{i}_gate", zero=True),
            ]
            for i in range(depth if heads else 0)
        ]
        self._output = conv(outputs, 3, "output", zero=True)
        # Last: the seeds of the others do not depend on it.
        self.dropout, self._drop = dropout, self._dropout(dropout)

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        self._first.build(self._input_shape(x_shape, context_shape))
        shape = (*x_shape[:-1], self.width)
        layers = itertools.chain(*self._blocks, *self._attention)
        for layer in [self._norm, *layers, self._output]:
            layer.build(shape)
        if self.heads:
            self._positions = self.add_weight(
                shape=shape[1:], initializer="zeros", name="positions"
            )
        self._build_film([self.width] * self.depth, context_shape)

    def call(self, x: Any, context: Any = None) -> Any:
        return never_empty(self._of_some, x, context)

    def _of_some(self, x, context):
        h = self._first(self._join(x, context))
        if self.heads:
            h = h + ops.cast(self._positions, h.dtype)
        for i, (conv, gate) in enumerate(self._blocks):
            inner = self._modulate(conv(self._norm(h)), context, i)
            h = h + _gated(gate(self._drop(self.activation(inner))))
            if self.heads:
                attention, gate = self._attention[i]
                read = self._attend(attention(self._norm(h)))
                h = h + _gated(gate(self._drop(read)))
        out = self._output(self.activation(h))
        return self._scaled(out)

    def _attend(self, qkv):
        """Self-attention of all positions, with several heads."""
        height, width = qkv.shape[1:3]
        size = self.width // self.heads
        qkv = ops.reshape(qkv, (-1, height * width, 3, self.heads, size))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        read = ops.transpose(attention(q, k, v), (0, 2, 1, 3))
        return ops.reshape(read, (-1, height, width, self.width))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "depth": self.depth,
            "dropout": self.dropout,
            "heads": self.heads,
            "output_scale": self.output_scale,
        }


def _gated(h):
    value, gate = ops.split(h, 2, axis=-1)
    return value * ops.sigmoid(gate)
