"""TarFlow's conditioner: a transformer in which each token sees those before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfp_flows.core.arguments import check_choice
from tfp_flows.networks.token_network import TokenNetwork

__all__ = ["CausalTransformer"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class CausalTransformer(TokenNetwork):
    r"""An autoregressive transformer over tokens (Zhai et al. 2024, "TarFlow").

    An event of `tokens * token_size` entries is read as tokens, one after the other:
    patches of an image, or single features. The parameters of all entries of a token
    depend on the tokens before it and on the context. The input is moved by one token,
    so that the first one, too, has parameters (a constant, or a function of the
    context). A linear layer and learned positions make vectors of `width`, which go
    through `depth` pre-normalised layers of causal self-attention,

    $$ h \leftarrow h + W \operatorname{softmax}\!\big(Q K^\top / \sqrt{s}\big) V,
       \qquad h \leftarrow h + W_2\, \operatorname{gelu}(W_1 h) , $$

    of heads of size $s$ and hidden layers of `4 * width` (Vaswani et al. 2017). The
    positions start as large as what tokens add (deviation 0.5, in the paper 0.01):
    normalisation would leave nothing of a small token but its direction.

    Input `[batch, D]`, context `[batch, C]` or none, output `[batch, num_parameters *
    D]`: all of the first parameter, then all of the second, as of a `MADE`. One
    evaluation gives the parameters of all entries. `generate` computes one token after
    the other and keeps keys and values, so that all of it takes about the arithmetic
    of one evaluation. Both take an `attention_temperature`, numbers `[batch]` by which
    the products of queries and keys are divided: above 1, tokens attend more evenly
    (see `tfp_flows.latent.guided_sample`).

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.CausalTransformer(
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
      order: `"natural"`, or `"reverse"`, in which the last token comes first.
      dropout: fraction of the activations in front of each branch's last layer that is
        left out in training, see `Network`. `generate` leaves out none.
      activation: name of a Keras activation, or a function.
      **kwargs: see `Network`; not `outputs`.

    Raises:
      ValueError: if a size is not positive, `heads` does not divide `width`, or `order`
        is unknown.
      TypeError: if a size is not an integer.
    """

    papers = ("zhai2024tarflow", "vaswani2017attention", "ba2016layer")

    def __init__(
        self,
        tokens: int,
        token_size: int,
        num_parameters: int,
        width: int = 128,
        depth: int = 4,
        heads: int | None = None,
        order: str = "natural",
        dropout: float = 0.0,
        activation: str | Callable = "gelu",
        **kwargs: Any,
    ):
        super().__init__(
            tokens,
            token_size,
            num_parameters,
            width,
            depth,
            heads,
            dropout,
            activation,
            **kwargs,
        )
        self.order = check_choice("order", order, ("natural", "reverse"))

    @property
    def fixed_order(self) -> np.ndarray:
        """Indices of the entries in the order in which they are generated."""
        entries = np.arange(*self.event_shape).reshape(self.tokens, self.token_size)
        return (entries[::-1] if self.order == "reverse" else entries).reshape(-1)

    def call(
        self, x: Any, context: Any = None, attention_temperature: Any = None
    ) -> Any:
        tokens = self._in_order(ops.reshape(x, (-1, self.tokens, self.token_size)))
        start = ops.zeros_like(tokens[:, :1])
        h = self._embed(ops.concatenate([start, tokens[:, :-1]], 1), context)
        sees = np.tri(self.tokens, dtype=bool)
        h = self._through_layers(h, sees, context, attention_temperature)
        return self._parameters(self._in_order(self._output(h)))

    def generate(
        self,
        step: Callable[..., tuple[tf.Tensor, tf.Tensor]],
        z: tf.Tensor,
        context: tf.Tensor | None = None,
        indexed: bool = False,
        attention_temperature: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes tokens one after the other, each from those before it.

        Args:
          step: a function `(z_i [batch], parameters [num_parameters, batch]) ->
            (x_i [batch], log_det [batch])`, which computes one entry.
          z: `[batch, D]`.
          context: `[batch, C]` or `None`.
          indexed: whether `step` is given the index of the entry, too, a tensor.
          attention_temperature: `[batch]`, or `None` for 1.

        Returns:
          `(x [batch, D], log_det [batch])`, the log-determinants summed over entries.
        """
        size, batch = self.token_size, tf.shape(z)[0]
        order = tf.constant(self.fixed_order.reshape(self.tokens, size))
        tokens = self._in_order(tf.reshape(z, [-1, self.tokens, size]))
        tokens = tf.transpose(tokens, [1, 0, 2])

        def entries_of(z_i, parameters, i):
            """The entries of a token `[batch, size]`, by `step`."""
            # [batch, parameter, entry] to [parameter, batch, entry].
            parameters = tf.transpose(parameters, [1, 0, 2])
            if not indexed:
                flat = [self.num_parameters, -1]
                found = step(tf.reshape(z_i, [-1]), tf.reshape(parameters, flat))
                return [tf.reshape(part, tf.shape(z_i)) for part in found]
            found = [
                step(z_i[:, j], parameters[:, :, j], order[i, j]) for j in range(size)
            ]
            return [tf.stack(part, 1) for part in zip(*found, strict=True)]

        def body(i, last, x, log_det, *caches):
            h = self._first(self._join(last[:, None], context))
            h = h + tf.cast(tf.convert_to_tensor(self._positions.value)[i], h.dtype)
            known = []
            for k in range(self.depth):
                q, key, value = self._queries_keys_values(h, k, attention_temperature)
                here = tf.equal(tf.range(self.tokens), i)[:, None]
                known += [
                    tf.where(here, new, old)
                    for new, old in zip((key, value), caches[2 * k :], strict=False)
                ]
                sees = tf.range(self.tokens) <= i
                h = self._layer(h, q, *known[-2:], sees, context, k)
            parameters = tf.cast(self._output(h), z.dtype)
            parameters = tf.reshape(parameters, [-1, self.num_parameters, size])
            x_i, log_det_i = entries_of(tokens[i], parameters, i)
            log_det += tf.reduce_sum(log_det_i, -1)
            return i + 1, x_i, x.write(i, x_i), log_det, *known

        static = z.shape[0]
        cache = [batch, self.heads, self.tokens, self.width // self.heads]
        empty = tf.zeros(cache, self.compute_dtype)
        empty.set_shape([static, *cache[1:]])
        x = tf.TensorArray(z.dtype, self.tokens, element_shape=[static, size])
        state = (
            tf.constant(0),
            tf.zeros_like(tokens[0]),
            x,
            tf.zeros_like(z[:, 0]),
            *[empty] * (2 * self.depth),
        )
        _, _, x, log_det, *_ = tf.while_loop(
            lambda i, *_: i < self.tokens,
            body,
            state,
            maximum_iterations=self.tokens,
        )
        x = self._in_order(tf.transpose(x.stack(), [1, 0, 2]))
        return tf.reshape(x, [-1, *self.event_shape]), log_det

    def _in_order(self, tokens):
        """Sorts `[batch, token, ...]` into the order of generation, or back."""
        return ops.flip(tokens, 1) if self.order == "reverse" else tokens

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "order": self.order}
