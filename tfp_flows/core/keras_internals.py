"""All that relies on private parts of Keras.

Each of them is checked at import. If Keras has changed, the import fails and names the
version. The private methods that `FlowModel` and `FusedAdam` override are checked too.
"""

from __future__ import annotations

import inspect
import sys
import types

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.callbacks import monitor_callback

__all__ = ["entry_layer", "in_symbolic_scope", "model_in_step", "storage"]

# Methods that `fit`, `evaluate` and `predict` call, also by the names that AutoGraph
# gives to them.
_STEPS = frozenset(
    prefix + name
    for prefix in ("", "tf__")
    for name in ("train_step", "test_step", "predict_step", "compute_loss")
)


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


def storage(variable: keras.Variable) -> tf.Variable:
    """The `tf.Variable` that a Keras variable wraps, without a cast by autocasting."""
    return variable._value


def _check() -> None:
    """Raises an `ImportError` if a part of Keras is not what it was.

    It runs no TensorFlow operation: the first one would fix TensorFlow's threads and
    devices before users can choose them.
    """
    layer = inspect.getsource(keras.layers.Layer)
    expected = {
        "the running call": '"current_call_ctx"' in layer and "entry_layer" in layer,
        "the symbolic stage": not in_symbolic_scope(),
        "the storage of a variable": "self._value"
        in inspect.getsource(keras.Variable.value.fget),
        "the direction of a metric": "_direction"
        in monitor_callback.MonitorCallback._set_monitor_op.__code__.co_consts,
        "the steps of a model": all(
            name.startswith("tf__") or hasattr(keras.Model, name) for name in _STEPS
        ),
        # Overridden by FlowModel, its rows and FusedAdam.
        "building under tf.distribute": hasattr(keras.Model, "_maybe_symbolic_build"),
        "updates of an optimizer": hasattr(
            keras.optimizers.Adam, "_backend_update_step"
        ),
    }
    changed = [name for name, holds in expected.items() if not holds]
    if changed:
        raise ImportError(
            f"Keras {keras.__version__} differs from the versions that tfp_flows was "
            f"tested with in: {', '.join(changed)}."
        )


_check()
