"""Jet's conditioner: a transformer in which each token sees all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_flows.networks.token_network import TokenNetwork

__all__ = ["VisionTransformer"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class VisionTransformer(TokenNetwork):
    r"""A transformer over the patches of an image (Dosovitskiy et al. 2021).

    The conditioner of the couplings of Kolesnikov et al. 2024, "Jet". An event of
    `tokens * token_size` entries is read as tokens. A linear layer and learned
    positions make vectors of `width`, which go through `depth` pre-normalised layers,

    $$ h \leftarrow h + W \operatorname{softmax}\!\big(Q K^\top / \sqrt{s}\big) V,
       \qquad h \leftarrow h + W_2\, \operatorname{gelu}(W_1 h) , $$

    of heads of size $s$ and hidden layers of `4 * width`, and a last normalisation. The
    parameters of each entry depend on all tokens and on the context.

    Input `[batch, D]` with D = `tokens * token_size`, context `[batch, C]` or none,
    output `[batch, num_parameters * D]`: all of the first parameter, then all of the
    second.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.VisionTransformer(
      ...     tokens=4, token_size=3, num_parameters=2, width=8, depth=2, heads=2)
      >>> network(tf.ones([5, 12])).shape
      TensorShape([5, 24])

    Args:
      tokens: number of tokens.
      token_size: entries of each token.
      num_parameters: parameters of each entry (2 for a shift and a scale).
      width: size of the vectors that stand for tokens.
      depth: number of layers, each attention and two dense layers.
      heads: heads of the attention, which divide `width`; by default as many of size 64
        or more as there can be.
      dropout: fraction of the activations in front of each branch's last layer that is
        left out in training, see `Network`.
      activation: name of a Keras activation, or a function.
      **kwargs: see `Network`; not `outputs`.

    Raises:
      ValueError: if a size is not positive, or `heads` does not divide `width`.
      TypeError: if a size is not an integer.
    """

    papers = (
        "kolesnikov2024jet",
        "dosovitskiy2021image",
        "vaswani2017attention",
        "ba2016layer",
    )

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        super().build(x_shape, context_shape)
        self._output_norm = self._norm("output_norm")
        self._output_norm.build((x_shape[0], self.tokens, self.width))

    def call(self, x: Any, context: Any = None) -> Any:
        tokens = ops.reshape(x, (-1, self.tokens, self.token_size))
        sees = np.ones((self.tokens, self.tokens), bool)
        h = self._through_layers(self._embed(tokens, context), sees, context)
        return self._parameters(self._output(self._output_norm(h)))
