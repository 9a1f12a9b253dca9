"""The base class of conditioner networks: context, seeds and a zero output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_flows.core.arguments import check_number
from tfp_flows.core.seeds import generator
from tfp_flows.networks.context_sides import at_sides, context_channels
from tfp_flows.networks.pointwise import Pointwise

__all__ = ["Network"]


class Network(keras.layers.Layer):
    r"""A conditioner `(x[, context]) -> parameters` made of Keras layers.

    The output layer starts at zero, so that a new flow starts as the identity.

    Context enters in one of two ways:

    * `"concat"`: it is joined to the input along the last axis. A vector is repeated
      over the positions of an image. An image of a multiple of the input's sides is
      squeezed to them (see `tfp_flows.bijectors.Squeeze`), so that one context does for
      all levels of a flow; one of a fraction of the sides is repeated, pixel by pixel;
    * `"film"`: every hidden activation $h$ becomes $(1 + \gamma) h + \beta$ with
      $\gamma, \beta$ linear in the context (Perez et al. 2018, equations 1 and 2).
      They start at zero.

    Some take a `dropout`: the fraction of hidden activations that is left out in each
    training step (Srivastava et al. 2014). It is `keras.layers.Dropout`, and so acts in
    `FlowModel.fit`, or in a Keras layer that is called with `training=True`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> network = networks.MLP(6, hidden_units=(8,), context_mode="film", seed=0)
      >>> network(tf.ones([2, 3]), tf.ones([2, 4])).shape
      TensorShape([2, 6])

    Args:
      outputs: size of the last axis of the output.
      activation: name of a Keras activation, or a function.
      context_mode: `"concat"` or `"film"`.
      seed: integer seed of the initial weights.
      kernel_regularizer: Keras regulariser of all kernels.
      **kwargs: see `keras.layers.Layer`.

    Raises:
      ValueError: if `outputs` is not positive or `context_mode` unknown.
    """

    # See `tfp_flows.citation`.
    papers: tuple[str, ...] = ()

    def __init__(
        self,
        outputs: int,
        activation: str | Callable = "relu",
        context_mode: str = "concat",
        seed: int | None = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if outputs < 1:
            raise ValueError(f"outputs must be positive, got {outputs}.")
        if context_mode not in ("concat", "film"):
            raise ValueError(
                f'context_mode must be "concat" or "film", got {context_mode!r}.'
            )
        self.outputs = outputs
        self.activation = keras.activations.get(activation)
        self.context_mode = context_mode
        self.seed = seed
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self._random = generator(seed)
        self._film: list[keras.layers.Layer] = []

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "outputs": self.outputs,
            "activation": keras.activations.serialize(self.activation),
            "context_mode": self.context_mode,
            "seed": self.seed,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }

    def _dropout(self, rate: float) -> Callable[[Any], Any]:
        """What leaves out a fraction of hidden activations in training."""
        rate = check_number("dropout", rate, at_least=0, below=1)
        if rate == 0:
            return lambda h: h
        seed = None if self.seed is None else int(self._random.integers(2**31))
        return keras.layers.Dropout(rate, seed=seed, dtype=self.dtype_policy)

    def _scaled(self, out: Any) -> Any:
        """The output times the `output_scale` of a network that has one."""
        return out if self.output_scale == 1.0 else self.output_scale * out

    def _options(self, zero: bool = False) -> dict[str, Any]:
        """Arguments of one inner layer, with a seed of its own for its weights."""
        seed = None if self.seed is None else int(self._random.integers(2**31))
        return {
            "kernel_initializer": (
                "zeros" if zero else keras.initializers.HeNormal(seed)
            ),
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.dtype_policy,
        }

    def _dense(self, units: int, name: str, zero: bool = False) -> keras.layers.Layer:
        return keras.layers.Dense(units, name=name, **self._options(zero))

    def _conv(
        self,
        filters: int,
        size: int,
        name: str,
        zero: bool = False,
        activation: Callable | None = None,
    ) -> keras.layers.Layer:
        options = {"name": name, "activation": activation, **self._options(zero)}
        if size == 1:
            return Pointwise(filters, **options)
        return keras.layers.Conv2D(filters, size, padding="same", **options)

    def _check_vectors(self, size, x_shape, context_shape):
        """Raises an error unless an input has `size` entries, and a context is flat."""
        if x_shape[-1] != size or len(x_shape) != 2:
            raise ValueError(
                f"{self.name}: x must have shape [batch, {size}], got {tuple(x_shape)}."
            )
        if context_shape is not None and len(context_shape) != 2:
            raise ValueError(
                f"{self.name}: context must be a vector, got shape "
                f"{tuple(context_shape)} (with batch); the context_encoder of a ready "
                "flow makes one of it."
            )

    def _input_shape(self, x_shape, context_shape):
        """Shape of the first layer's input."""
        if context_shape is None or self.context_mode == "film":
            return tuple(x_shape)
        channels = context_channels(self.name, context_shape, x_shape)
        return (*x_shape[:-1], x_shape[-1] + channels)

    def _build_film(self, widths, context_shape):
        """Builds the FiLM layers, one for each hidden activation."""
        if context_shape is None or self.context_mode == "concat":
            return
        if len(context_shape) != 2:
            raise ValueError(
                f'{self.name}: context_mode="film" takes vectors as context, got shape '
                f'{tuple(context_shape)} (with batch); use "concat".'
            )
        self.papers = (*type(self).papers, "perez2018film")
        for i, width in enumerate(widths):
            layer = self._dense(2 * width, f"film_{i}", zero=True)
            layer.build(context_shape)
            self._film.append(layer)

    def _join(self, x, context):
        if context is None or self.context_mode == "film":
            return x
        context = ops.cast(context, x.dtype)
        if len(context.shape) < len(x.shape):
            for _ in range(len(x.shape) - len(context.shape)):
                context = ops.expand_dims(context, 1)
            shape = (*ops.shape(x)[:-1], context.shape[-1])
            context = ops.broadcast_to(context, shape)
        else:
            context = at_sides(context, x.shape)
        return ops.concatenate([x, context], axis=-1)

    def _modulate(self, h, context, i):
        if context is None or self.context_mode == "concat":
            return h
        gamma, beta = ops.split(self._film[i](context), 2, axis=-1)
        for _ in range(len(h.shape) - 2):
            gamma, beta = ops.expand_dims(gamma, 1), ops.expand_dims(beta, 1)
        return h * (1 + gamma) + beta
