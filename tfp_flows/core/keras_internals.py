"""All that relies on private parts of Keras.

Each of them is checked at import. If Keras has changed, the import fails and names the
version. The private methods that `FlowModel` and `FusedAdam` override are checked too.
"""

from __future__ import annotations

import inspect

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.callbacks import monitor_callback

__all__ = ["entry_layer", "in_symbolic_scope", "storage"]


def entry_layer() -> keras.layers.Layer | None:
    """The outermost Keras layer or model whose `call` is running in this thread."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.entry_layer


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
