"""Adapts a conditioner network to a bijector."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.keras_internals import layers_in, losses_of
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.tf_internals import recording

# Keras layers that use `tf.nn.moments`.
_BY_MOMENTS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)

__all__ = ["Conditioner", "hold", "release", "take_losses", "zeros_of"]


class Conditioner(tf.Module):
    """Adapts any callable `(x[, context]) -> parameters` to a bijector.

    The callable may be a Keras 3 layer or model, a tf_keras layer, a `tf.Module` or a
    plain function. It always gets exactly one batch dimension, whatever the batch
    shape. It is called once at construction, on zeros: from then on its variables
    exist, and a wrong output shape is an error at once. This module lists them as its
    own, so `tf.Module`, `tf.GradientTape` and `tf.train.Checkpoint` find them.

    Args:
      function: the callable.
      input_shape: event shape of its input, or a dict of shapes if it takes a dict of
        tensors with one batch shape.
      output_shape: event shape that its output must have.
      context_shape: shape of one context, or `None` if it takes none.
      dtype: dtype of the zeros, or a dict of dtypes.
      describe: what the output means, for the error message.

    Raises:
      TypeError: if `function` is not callable.
      ValueError: if its output has another shape than `output_shape`.
    """

    def __init__(
        self,
        function: Callable,
        input_shape: Sequence[int] | Mapping[str, Sequence[int]],
        output_shape: Sequence[int],
        context_shape: Sequence[int] | None = None,
        dtype: tf.DType = tf.float32,
        describe: str = "",
    ):
        super().__init__(name=getattr(_unwrap(function), "name", None) or "conditioner")
        if not callable(_unwrap(function)):
            raise TypeError(
                "conditioner must be callable as (x[, context]) -> parameters, got "
                f"{type(function).__name__}."
            )
        self._dtype = dtype
        shape = (
            {k: tuple(s) for k, s in input_shape.items()}
            if isinstance(input_shape, Mapping)
            else tuple(input_shape)
        )
        # TensorFlow would wrap a dict to track what is in it.
        object.__setattr__(self, "input_shape", shape)
        self.output_shape = tuple(output_shape)
        self.context_shape = (
            None
            if context_shape is None
            else check_shape("context_shape", context_shape, at_least=0)
        )
        # A Keras 3 layer is not a tf.Module: its tf.Variables are listed beside it.
        self.function = (
            function if isinstance(function, tf.Module) else _Untracked.of(function)
        )
        # A network may take gradients itself.
        with tf.init_scope(), recording():
            x = zeros_of(self.input_shape, dtype)
            context = (
                None
                if self.context_shape is None
                else tf.zeros((1, *self.context_shape), dtype)
            )
            found = tuple(self(x, context).shape[1:])
        if isinstance(self.function, _Untracked):
            self.function.set_weights()
        if found != self.output_shape:
            raise ValueError(
                f"conditioner must return shape [batch, "
                f"{', '.join(map(str, self.output_shape))}]{describe}; it returned "
                f"[batch, {', '.join(map(str, found))}] for an input of shape "
                f"{_described(self.input_shape)}."
            )
        self._listed_variables = _variables_beside(self.function)

    @property
    def keras_layer(self) -> keras.layers.Layer | None:
        """The Keras 3 layer or model behind the conditioner, if it is one."""
        function = _unwrap(self.function)
        return function if isinstance(function, keras.layers.Layer) else None

    @property
    def needs_initialization(self) -> bool:
        """The `needs_initialization` of the callable; false if it has none."""
        return bool(getattr(_unwrap(self.function), "needs_initialization", False))

    def initialize(self, x: Any) -> None:
        """Calls the `initialize` of the callable with a batch of inputs."""
        _unwrap(self.function).initialize(_flat(x, self.input_shape))

    def __call__(self, x: Any, context: Any = None) -> tf.Tensor:
        function = _unwrap(self.function)
        if isinstance(self.input_shape, dict):
            name, shape = next(iter(self.input_shape.items()))
            out = function(_flat(x, self.input_shape))
            return reshape_event(out, len(shape), self.output_shape, like=x[name])
        if x.shape.rank == len(self.input_shape) + 1:
            if x.shape[0] == 0:
                # For an empty batch, some of TensorFlow's convolutions return another
                # shape.
                return self(*_with_an_example(x, context))[:0]
            out = function(x) if context is None else function(x, context)
            return _cast_like(out, x)
        flat = tf.reshape(x, (-1, *self.input_shape))
        if context is not None:
            shape_of_context: Any = self.context_shape
            context = tf.reshape(context, (-1, *shape_of_context))
        out = self(flat, context)
        return reshape_event(out, len(self.input_shape), self.output_shape, like=x)

    def warn_of_moments(self, name: str) -> None:
        """Warns of Keras layers whose gradients of gradients are wrong.

        TensorFlow's `tf.nn.moments` holds the mean constant while it differentiates
        the variance, which is right only once.

        Args:
          name: that of the bijector, whose log-determinants are gradients.
        """
        layer = self.keras_layer
        for inner in () if layer is None else layers_in(layer):
            if isinstance(inner, _BY_MOMENTS):
                warnings.warn(
                    f"{name}: the log-determinant is a gradient, and the gradient of "
                    f"that through {type(inner).__name__} is wrong, so training goes "
                    "astray: tf.nn.moments differentiates once only. Take "
                    "tfp_flows.networks.LayerNorm.",
                    stacklevel=3,
                )
                return

    def __reduce__(self):
        shapes = self.input_shape, self.output_shape, self.context_shape
        return type(self), (self.function, *shapes, self._dtype)


def zeros_of(shape: Any, dtype: Any) -> Any:
    """A batch of one input of zeros; a dict of them, for dicts of shapes and dtypes."""
    if isinstance(shape, dict):
        return {k: tf.zeros((1, *part), dtype[k]) for k, part in shape.items()}
    return tf.zeros((1, *shape), dtype)


def _flat(x, shape):
    """Flattens the batch of an input to one dimension."""
    if isinstance(shape, dict):
        return {k: _flat(x[k], part) for k, part in shape.items()}
    return tf.reshape(x, (-1, *shape))


def _described(shape: Any) -> str:
    if isinstance(shape, dict):
        return f"{shape}, each behind a batch"
    return f"[batch, {', '.join(map(str, shape))}]"


def _with_an_example(*batches):
    return [
        None if x is None else tf.concat([x, tf.zeros((1, *x.shape[1:]), x.dtype)], 0)
        for x in batches
    ]


def take_losses(modules: Sequence[tf.Module], graph: tf.Graph) -> bool:
    """Removes from Keras layers the losses that they added inside a graph.

    Args:
      modules: bijectors that may contain `Conditioner`s.
      graph: the graph.

    Returns:
      Whether there were any.
    """
    found = False
    for module in modules:
        for conditioner in module.submodules:
            layer = getattr(conditioner, "keras_layer", None)
            for losses in losses_of(layer) if layer is not None else ():
                own = [x for x in losses if getattr(x, "graph", None) is graph]
                found = found or bool(own)
                for loss in own:
                    losses.remove(loss)
    return found


def _cast_like(out, x):
    """Casts `out` to the dtype of `x`, unless `x` holds integers."""
    return tf.cast(out, x.dtype) if x.dtype.is_floating else out


class _Untracked:
    """Wraps an object so that TensorFlow does not track it as an attribute.

    It also deep-copies and pickles Keras layers, by class, configuration and weights,
    since Keras itself can do so for registered classes only. Conditioners that share a
    layer share its wrapper; their copies then share one layer too.
    """

    _of_layers: ClassVar[weakref.WeakValueDictionary] = weakref.WeakValueDictionary()

    def __init__(self, value, weights=None):
        self.value = value
        self._weights = weights

    @classmethod
    def of(cls, function):
        """The wrapper of a callable; a Keras layer always has the same one."""
        if isinstance(function, cls):
            return function
        if not isinstance(function, keras.layers.Layer):
            return cls(function)
        # The wrapper keeps the layer alive, so no other object can get the same id.
        return cls._of_layers.setdefault(id(function), cls(function))

    def set_weights(self):
        """Sets the weights of a copied layer, once it has been built."""
        if self._weights is None:
            return
        for variable, value in zip(self.value.variables, self._weights, strict=True):
            variable.assign(value)
        self._weights = None

    def __reduce__(self):
        layer = self.value
        if not isinstance(layer, keras.layers.Layer):
            return _Untracked, (layer,)
        try:
            config = layer.get_config()
        except NotImplementedError as error:
            raise TypeError(
                f"{type(layer).__name__} cannot be copied nor pickled: it has no "
                f"get_config() ({error})."
            ) from error
        weights = [v.numpy() for v in layer.variables]
        return _rebuild_layer, (type(layer), config, weights)


def hold(value: Any) -> Any:
    """Wraps a conditioner's Keras layer, for copies and pickles; see `_Untracked`.

    All other values are returned as they are.
    """
    if not isinstance(value, keras.layers.Layer):
        return value
    return _Untracked._of_layers.get(id(value), value)


def release(value: Any) -> Any:
    """The inverse of `hold`."""
    return _unwrap(value)


def _rebuild_layer(cls, config, weights):
    try:
        layer = cls.from_config(config)
    except Exception as error:
        raise TypeError(
            f"{cls.__name__} cannot be built again: from_config(get_config()) fails "
            f"({error})."
        ) from error
    wrapper = _Untracked(layer, weights)
    return _Untracked._of_layers.setdefault(id(layer), wrapper)


def _variables_beside(function: Any) -> list[tf.Variable]:
    """Variables of a callable that is not a `tf.Module`, such as a Keras 3 layer."""
    if not isinstance(function, _Untracked):
        return []
    return [
        v.value if isinstance(v, keras.Variable) else v
        for v in getattr(function.value, "variables", ())
    ]


def _unwrap(value):
    return value.value if isinstance(value, _Untracked) else value
