"""All that relies on private parts of Keras.

Each of them is checked at import. If Keras has changed, the import fails and names the
version. The private methods that `FlowModel` and `FusedAdam` override are checked too.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

__all__ = [
    "adam_slots",
    "build_symbolically",
    "entry_layer",
    "in_symbolic_scope",
    "is_validation",
    "layers_in",
    "losses_of",
    "model_in_step",
    "set_direction",
    "storage",
    "sum_before_clipping",
]

# Methods that `fit`, `evaluate` and `predict` call, also by the names that AutoGraph
# gives to them.
_STEPS = frozenset(
    prefix + name
    for prefix in ("", "tf__")
    for name in ("train_step", "test_step", "predict_step", "compute_loss")
)

# Makes `evaluate` keep the data that `fit` validates with.
_VALIDATION = "_use_cached_eval_dataset"


def entry_layer() -> keras.layers.Layer | None:
    """The outermost Keras layer or model whose `call` is running in this thread."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.entry_layer


def model_in_step() -> keras.Model | None:
    """The model whose step of `fit`, `evaluate` or `predict` is running in this thread.

    Keras does not record it. It is looked for on the stack: it is the first argument of
    a function with the name of such a step. A model whose class sets
    `_uses_untracked = True` is not reported: it says what it trains.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name in _STEPS and code.co_argcount:
            model = frame.f_locals.get(code.co_varnames[0])
            if isinstance(model, keras.Model):
                return None if getattr(model, "_uses_untracked", False) else model
        frame = frame.f_back
    return None


def set_direction(metric: keras.metrics.Metric, direction: str) -> None:
    """Tells callbacks that monitor a metric which way is better, `"up"` or `"down"`."""
    metric._direction = direction


def is_validation(options: Mapping[str, Any]) -> bool:
    """Whether keyword arguments of `evaluate` are those that `fit` calls it with."""
    return bool(options.get(_VALIDATION))


def storage(variable: keras.Variable) -> tf.Variable:
    """The `tf.Variable` that a Keras variable wraps, without a cast by autocasting."""
    return variable._value


def layers_in(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layer and all layers inside; `Model.layers` has those of one level only."""
    return layer._flatten_layers()


def losses_of(layer: keras.layers.Layer) -> list[list[tf.Tensor]]:
    """The lists that `add_loss` of a layer, and of each layer inside, appends to."""
    return [part._losses for part in layers_in(layer)]


def adam_slots(
    optimizer: keras.optimizers.Adam, variable: tf.Variable
) -> tuple[tf.Variable, tf.Variable]:
    """The moving averages of the gradient, and of its square, for a variable."""
    i = optimizer._get_variable_index(variable)
    return optimizer._momentums[i].value, optimizer._velocities[i].value


def sum_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer add up the gradients of all replicas before it clips them."""
    clip, add = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients

    def add_and_clip(gradients):
        return clip([g for g, _ in add([(g, None) for g in gradients])])

    optimizer._clip_gradients = add_and_clip
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def build_symbolically(model: keras.Model, batch: tuple) -> None:
    """Builds metrics and losses from shapes and dtypes of a batch `(x, y, weight)`."""
    model._symbolic_build(data_batch=batch)


def _check() -> None:
    """Raises an `ImportError` if a part of Keras is not what it was.

    It runs no TensorFlow operation: the first one would fix TensorFlow's threads and
    devices before users can choose them.
    """
    layer = inspect.getsource(keras.layers.Layer)
    adam = inspect.getsource(keras.optimizers.Adam.update_step)
    base = inspect.getsource(sys.modules[keras.optimizers.Adam.apply.__module__])
    expected = {
        "the running call": '"current_call_ctx"' in layer and "entry_layer" in layer,
        "the symbolic stage": not in_symbolic_scope(),
        "the storage of a variable": "self._value"
        in inspect.getsource(keras.Variable.value.fget),
        "the direction of a metric": "_direction"
        in inspect.getsource(keras.callbacks.EarlyStopping.__base__),
        "validation": f'"{_VALIDATION}"' in inspect.getsource(keras.Model.evaluate)
        and f"{_VALIDATION}=True" in inspect.getsource(keras.Model.fit),
        "the steps of a model": all(
            name.startswith("tf__") or hasattr(keras.Model, name) for name in _STEPS
        ),
        "the layers inside a layer": hasattr(keras.layers.Layer, "_flatten_layers"),
        "the losses of a layer": "self._losses.extend(" in layer,
        "the moving averages of Adam": all(
            f"self.{slot}[self._get_variable_index(variable)]" in adam
            for slot in ("_momentums", "_velocities")
        ),
        "clipping of gradients": "self._clip_gradients(grads)" in base,
        "the sum over replicas": hasattr(
            keras.optimizers.Optimizer, "_all_reduce_sum_gradients"
        ),
        "building from shapes": hasattr(keras.Model, "_symbolic_build"),
        # Overridden by FlowModel and FusedAdam.
        "building under tf.distribute": hasattr(keras.Model, "_maybe_symbolic_build"),
        "updates of an optimizer": "self._backend_update_step(" in base,
    }
    changed = [name for name, holds in expected.items() if not holds]
    if changed:
        raise ImportError(
            f"Keras {keras.__version__} differs from the versions that tfp_flows was "
            f"tested with in: {', '.join(changed)}."
        )


_check()
