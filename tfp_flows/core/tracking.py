"""A check that a Keras model tracks the variables that it uses."""

from __future__ import annotations

import weakref

import keras
import tensorflow as tf

from tfp_flows.core.keras_internals import entry_layer, model_in_step, storage

__all__ = ["check_tracked", "note_tracked"]

# For each layer, the modules whose variables it is known to track.
_known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def note_tracked(layer: keras.Layer, module: tf.Module) -> None:
    """Notes that a layer tracks all variables of a module, which saves a look."""
    _known.setdefault(layer, weakref.WeakSet()).add(module)


def check_tracked(module: tf.Module) -> None:
    """Raises an error if a Keras model uses a module that it does not track.

    Keras tracks only its own layers and variables. It would neither train nor save a
    flow or bijector that is a plain attribute of a Keras 3 model. Its use is seen in
    the `call` of a layer or model, and in a step of `fit`, `evaluate` or `predict`,
    also if that is the user's own.

    Args:
      module: a bijector or distribution that is about to be evaluated.

    Raises:
      ValueError: if a Keras layer or model is running that does not track all of
        the module's variables.
    """
    layer = entry_layer() or model_in_step()
    if layer is None:
        return
    if module in _known.get(layer, ()):
        return
    tracked = {id(storage(v)) for v in layer.variables}
    missing = [v.name for v in module.variables if id(v) not in tracked]
    if missing:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} uses the variables of "
            f"{module.name!r} and does not track them: Keras would neither train nor "
            "save them ("
            + ", ".join(missing[:3])
            + (", ..." if missing[3:] else "")
            + "). Make the flow a layer, self.model = tfp_flows.FlowModel(flow), and "
            "call self.model(x) for its log-density; self.model.flow is the flow. "
            "FlowModel(flow, ...).trainable = False freezes it."
        )
    note_tracked(layer, module)
