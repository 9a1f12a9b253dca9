"""A conditioner network as a bijector sees it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.shapes import reshape_event

__all__ = ["Conditioner", "hold", "release", "take_losses"]


class Conditioner(tf.Module):
    """Adapts any callable `(x[, context]) -> parameters` to a bijector.

    The callable may be a Keras 3 layer or model, a tf_keras layer, a `tf.Module` or a
    plain function. It always sees exactly one batch dimension, whatever the batch
    shape. It is called once at construction, on zeros, so that its variables exist
    from then on and a wrong output shape shows at once. Its variables are those of
    this module, so `tf.Module`, `tf.GradientTape` and `tf.train.Checkpoint` see them.

    Args:
      function: the callable.
      input_shape: event shape of its input; a dict of shapes if it takes a dict of
        tensors, which share one batch.
      output_shape: event shape that its output must have.
      context_shape: shape of one context, or `None` if it takes none.
      dtype: dtype of the zeros it is tried on; a dict for a dict.
      describe: what the output stands for, for the error message.

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
        self.input_shape = (
            self._no_dependency({k: tuple(s) for k, s in input_shape.items()})
            if isinstance(input_shape, Mapping)
            else tuple(input_shape)
        )
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
        with tf.init_scope():
            x = _zeros(self.input_shape, dtype)
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
        """Whether the callable says that it still waits for a batch of data."""
        return bool(getattr(_unwrap(self.function), "needs_initialization", False))

    def initialize(self, x: Any) -> None:
        """Hands a batch of inputs to the `initialize` of the callable."""
        _unwrap(self.function).initialize(_flat(x, self.input_shape))

    def __call__(self, x: Any, context: Any = None) -> tf.Tensor:
        function = _unwrap(self.function)
        if isinstance(self.input_shape, dict):
            name, shape = next(iter(self.input_shape.items()))
            out = function(_flat(x, self.input_shape))
            return reshape_event(out, len(shape), self.output_shape, like=x[name])
        if x.shape.rank == len(self.input_shape) + 1:
            if x.shape[0] == 0:
                # TensorFlow's convolutions give another shape for an empty batch.
                return self(*_with_an_example(x, context))[:0]
            out = function(x) if context is None else function(x, context)
            return _cast_like(out, x)
        flat = tf.reshape(x, (-1, *self.input_shape))
        if context is not None:
            shape_of_context: Any = self.context_shape
            context = tf.reshape(context, (-1, *shape_of_context))
        out = self(flat, context)
        return reshape_event(out, len(self.input_shape), self.output_shape, like=x)

    def __reduce__(self):
        shapes = self.input_shape, self.output_shape, self.context_shape
        return type(self), (self.function, *shapes, self._dtype)


def _zeros(shape, dtype):
    """One input that is 0."""
    if isinstance(shape, dict):
        return {k: tf.zeros((1, *part), dtype[k]) for k, part in shape.items()}
    return tf.zeros((1, *shape), dtype)


def _flat(x, shape):
    """An input with one batch dimension."""
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
    """Takes losses that Keras layers added in a graph away from them.

    Args:
      modules: bijectors with `Conditioner`s in them.
      graph: the graph, of a function that is traced once.

    Returns:
      Whether there were any.
    """
    found = False
    for module in modules:
        for conditioner in module.submodules:
            layer = getattr(conditioner, "keras_layer", None)
            for part in layer._flatten_layers() if layer is not None else ():
                own = [x for x in part._losses if getattr(x, "graph", None) is graph]
                found = found or bool(own)
                for loss in own:
                    part._losses.remove(loss)
    return found


def _cast_like(out, x):
    """`out` in the precision of `x`; as it is if `x` holds integers."""
    return tf.cast(out, x.dtype) if x.dtype.is_floating else out


class _Untracked:
    """Keeps an object out of TensorFlow's attribute tracking.

    A Keras layer is copied and pickled as its class, configuration and weights: Keras's
    own way, through its file format, knows registered classes only. Conditioners that
    share a layer share its wrapper, so that their copies share one, too.
    """

    _of_layers: ClassVar[weakref.WeakValueDictionary] = weakref.WeakValueDictionary()

    def __init__(self, value, weights=None):
        self.value = value
        self._weights = weights

    @classmethod
    def of(cls, function):
        """The wrapper of a callable: the same one for the same Keras layer."""
        if isinstance(function, cls):
            return function
        if not isinstance(function, keras.layers.Layer):
            return cls(function)
        # As long as the wrapper is there, so is the layer, and its id is its own.
        return cls._of_layers.setdefault(id(function), cls(function))

    def set_weights(self):
        """Gives a layer that was copied, and has been built since, its weights."""
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
    """The layer of a conditioner as what copies and pickles it; all else as it is."""
    if not isinstance(value, keras.layers.Layer):
        return value
    return _Untracked._of_layers.get(id(value), value)


def release(value: Any) -> Any:
    """What `hold` was given."""
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
    """Variables of what is no `tf.Module`: a Keras 3 layer's, say."""
    if not isinstance(function, _Untracked):
        return []
    return [
        v.value if isinstance(v, keras.Variable) else v
        for v in getattr(function.value, "variables", ())
    ]


def _unwrap(value):
    return value.value if isinstance(value, _Untracked) else value
