"""Transformers over tokens: what the causal one and the one that sees all share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfp_flows.core.arguments import check_integer
from tfp_flows.networks.attention import attention
from tfp_flows.networks.layer_norm import LayerNorm
from tfp_flows.networks.network import Network

__all__ = ["TokenNetwork"]


class TokenNetwork(Network):
    r"""A transformer that makes parameters of each entry of its tokens.

    A linear layer and learned positions make vectors of `width`, which go through
    `depth` pre-normalised layers of self-attention,

    $$ h \leftarrow h + W \operatorname{softmax}\!\big(Q K^\top / \sqrt{s}\big) V,
       \qquad h \leftarrow h + W_2\, \operatorname{gelu}(W_1 h) , $$

    of heads of size $s$ and hidden layers of `4 * width` (Vaswani et al. 2017). The
    positions start as large as what tokens add (deviation 0.5): normalisation would
    leave nothing of a small token but its direction.

    Args and errors are those of `CausalTransformer`, but for its `order`.
    """

    def __init__(
        self,
        tokens: int,
        token_size: int,
        num_parameters: int,
        width: int = 128,
        depth: int = 4,
        heads: int | None = None,
        dropout: float = 0.0,
        activation: str | Callable = "gelu",
        **kwargs: Any,
    ):
        tokens = check_integer("tokens", tokens)
        token_size = check_integer("token_size", token_size)
        num_parameters = check_integer("num_parameters", num_parameters)
        if heads is None:
            most = max(check_integer("width", width) // 64, 1)
            heads = max(n for n in range(1, most + 1) if width % n == 0)
        if check_integer("width", width) % check_integer("heads", heads):
            raise ValueError(f"heads must divide width={width}, got {heads}.")
        outputs = tokens * token_size * num_parameters
        super().__init__(outputs, activation=activation, **kwargs)
        self.tokens, self.token_size = tokens, token_size
        self.event_shape, self.num_parameters = (tokens * token_size,), num_parameters
        self.width, self.heads = width, heads
        self.depth = check_integer("depth", depth)
        self.dropout = dropout
        linear = self._linear
        self._first = linear(width, "input")
        self._stack = [
            {
                "attention_norm": self._norm(f"attention_norm_{i}"),
                "attention": linear(3 * width, f"attention_{i}"),
                "read": linear(width, f"read_{i}", zero=True),
                "dense_norm": self._norm(f"dense_norm_{i}"),
                "dense": linear(4 * width, f"dense_{i}"),
                "added": linear(width, f"added_{i}", zero=True),
            }
            for i in range(depth)
        ]
        self._output = linear(token_size * num_parameters, "output", zero=True)
        # Last: the seeds of the others do not depend on it.
        self._drop = self._dropout(dropout)

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        self._check_vectors(*self.event_shape, x_shape, context_shape)
        shape = (x_shape[0], self.tokens, self.token_size)
        self._first.build(self._input_shape(shape, context_shape))
        shape = (x_shape[0], self.tokens, self.width)
        for layer in self._stack:
            for name, part in layer.items():
                wide = (*shape[:2], 4 * self.width)
                part.build(wide if name == "added" else shape)
        self._output.build(shape)
        seed = None if self.seed is None else int(self._random.integers(2**31))
        self._positions = self.add_weight(
            name="positions",
            shape=(self.tokens, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.5, seed=seed),
        )
        self._build_film([4 * self.width] * self.depth, context_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["outputs"]
        return {
            **config,
            "tokens": self.tokens,
            "token_size": self.token_size,
            "num_parameters": self.num_parameters,
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "dropout": self.dropout,
        }

    def _embed(self, tokens, context):
        """Vectors of `width` for all tokens, with their positions."""
        h = self._first(self._join(tokens, context))
        return h + ops.cast(self._positions, h.dtype)

    def _through_layers(self, h, sees, context, temperature=None):
        """Vectors after all layers; `sees` tells which tokens each one sees."""
        for i in range(self.depth):
            q, k, v = self._queries_keys_values(h, i, temperature)
            h = self._layer(h, q, k, v, sees, context, i, self._drop)
        return h

    def _parameters(self, out):
        """`[batch, token, parameter * entry]` to all of each parameter in turn."""
        out = ops.reshape(out, (-1, self.tokens, self.num_parameters, self.token_size))
        return ops.reshape(ops.transpose(out, (0, 2, 1, 3)), (-1, self.outputs))

    def _linear(self, units, name, zero=False):
        return self._conv(units, 1, name, zero)

    def _norm(self, name):
        return LayerNorm(name=name, dtype=self.dtype_policy)

    def _queries_keys_values(self, h, i, temperature=None):
        """Three of `[batch, heads, token, width / heads]`; temperatures `[batch]`."""
        layer, count = self._stack[i], h.shape[1]
        qkv = layer["attention"](layer["attention_norm"](h))
        size = self.width // self.heads
        qkv = ops.reshape(qkv, (-1, count, 3, self.heads, size))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        if temperature is not None:
            q = q / ops.reshape(ops.cast(temperature, q.dtype), (-1, 1, 1, 1))
        return q, k, v

    def _layer(self, h, q, k, v, sees, context, i, drop=lambda h: h):
        """Adds what the queries read of the keys and values that they see, and more."""
        layer, count = self._stack[i], h.shape[1]
        read = ops.transpose(attention(q, k, v, sees), (0, 2, 1, 3))
        read = ops.reshape(read, (-1, count, self.width))
        h = h + layer["read"](drop(read))
        inner = self._modulate(layer["dense"](layer["dense_norm"](h)), context, i)
        return h + layer["added"](drop(self.activation(inner)))
