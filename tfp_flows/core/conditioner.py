"""A conditioner network as a bijector sees it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfp_flows.core.shapes import reshape_event

__all__ = ["Conditioner", "take_losses"]


class Conditioner(tf.Module):
    """Adapts any callable `(x[, context]) -> parameters` to a bijector.

    The callable may be a Keras 3 layer or model, a tf_keras layer, a `tf.Module` or a
    plain function. It always sees exactly one batch dimension, whatever the batch
    shape. It is called once at construction, on zeros, so that its variables exist
    from then on and a wrong output shape shows at once. Its variables are those of
    this module, so `tf.Module`, `tf.GradientTape` and `tf.train.Checkpoint` see them.

    Args:
      function: the callable.
      input_shape: event shape of its input.
      output_shape: event shape that its output must have.
      context_shape: shape of one context, or `None` if it takes none.
      dtype: dtype of the zeros it is tried on.
      describe: what the output stands for, for the error message.

    Raises:
      TypeError: if `function` is not callable.
      ValueError: if its output has another shape than `output_shape`.
    """

    def __init__(
        self,
        function: Callable,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        context_shape: Sequence[int] | None = None,
        dtype: tf.DType = tf.float32,
        describe: str = "",
    ):
        super().__init__(name=getattr(function, "name", None) or "conditioner")
        if not callable(function):
            raise TypeError(
                "conditioner must be callable as (x[, context]) -> parameters, got "
                f"{type(function).__name__}."
            )
        self._dtype = dtype
        self.input_shape = tuple(input_shape)
        self.output_shape = tuple(output_shape)
        self.context_shape = None if context_shape is None else tuple(context_shape)
        # A Keras 3 layer is not a tf.Module: its tf.Variables are listed beside it.
        self.function = (
            function if isinstance(function, tf.Module) else _Untracked(function)
        )
        with tf.init_scope():
            x = tf.zeros((1, *self.input_shape), dtype)
            context = (
                None
                if self.context_shape is None
                else tf.zeros((1, *self.context_shape), dtype)
            )
            found = tuple(self(x, context).shape[1:])
        if found != self.output_shape:
            raise ValueError(
                f"conditioner must return shape [batch, "
                f"{', '.join(map(str, self.output_shape))}]{describe}; it returned "
                f"[batch, {', '.join(map(str, found))}] for an input of shape [batch, "
                f"{', '.join(map(str, self.input_shape))}]."
            )
        self._listed_variables = (
            []
            if isinstance(function, tf.Module)
            else [
                v.value if isinstance(v, keras.Variable) else v
                for v in getattr(function, "variables", ())
            ]
        )

    @property
    def keras_layer(self) -> keras.layers.Layer | None:
        """The Keras 3 layer or model behind the conditioner, if it is one."""
        function = _unwrap(self.function)
        return function if isinstance(function, keras.layers.Layer) else None

    def __call__(self, x, context=None):
        function = _unwrap(self.function)
        if x.shape.rank == len(self.input_shape) + 1:
            if x.shape[0] == 0:
                # TensorFlow's convolutions give another shape for an empty batch.
                return self(*_with_an_example(x, context))[:0]
            out = function(x) if context is None else function(x, context)
            return _cast_like(out, x)
        flat = tf.reshape(x, (-1, *self.input_shape))
        if context is not None:
            context = tf.reshape(context, (-1, *self.context_shape))
        out = self(flat, context)
        return reshape_event(out, len(self.input_shape), self.output_shape, like=x)

    def __deepcopy__(self, memo):
        original = _unwrap(self.function)
        if isinstance(original, keras.layers.Layer):
            # Keras copies through its file format, which knows registered classes
            # only; a configuration and the weights do for all.
            try:
                function = type(original).from_config(original.get_config())
            except Exception as error:
                raise TypeError(
                    f"{type(original).__name__} cannot be deep-copied: its from_config("
                    f"get_config()) does not build it again ({error})."
                ) from error
            memo[id(original)] = function
        else:
            function = copy.deepcopy(original, memo)
        new = type(self)(
            function,
            self.input_shape,
            self.output_shape,
            self.context_shape,
            self._dtype,
        )
        if isinstance(original, keras.layers.Layer):
            for target, source in zip(
                function.variables, original.variables, strict=True
            ):
                target.assign(source)
        memo[id(self)] = new
        return new


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
    """Keeps an object out of TensorFlow's attribute tracking."""

    def __init__(self, value):
        self.value = value


def _unwrap(value):
    return value.value if isinstance(value, _Untracked) else value
