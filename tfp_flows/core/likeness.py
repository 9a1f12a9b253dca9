"""When two layers compute the same, but for the values of their variables."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.core.own_constant import OwnConstant

__all__ = ["Likeness", "likeness"]

# Where layers may differ without a difference in what they compute: names, and what
# TensorFlow, TFP and Keras note for themselves.
_NOTES = frozenset(
    {
        # tf.Module and tfb.Bijector
        "_name",
        "_name_scope",
        "_constructor_name_scope",
        "_graph_parents",
        "_initial_parameter_control_dependencies",
        # keras.layers.Layer
        "name",
        "build",
        "quantize",
        "_auto_config",
        "_build_shapes_dict",
        "_call_has_context_arg",
        "_call_signature",
        "_inbound_nodes",
        "_losses",
        "_loss_ids",
        "_lock",
        "_outbound_nodes",
        "_parent_path",
        "_path",
        "_tracked",
        "_tracker",
    }
)
# What classes of this package use while they are built, and not afterwards.
_BUILDING = frozenset({"_parameters", "_random", "seed"})
_PLAIN = (bool, int, str, bytes, complex, type(None), type(...), tf.DType, np.dtype)


class Likeness(NamedTuple):
    """What a layer computes with.

    Attributes:
      key: equal for layers that compute the same function of their input and of the
        values of their `variables` and `constants`, taken in order. It holds for as
        long as the layers exist and are not changed.
      variables: all `tf.Variable`s, in the order in which they are found.
      constants: all `OwnConstant`s, likewise.
      layers: all Keras layers.
    """

    key: Hashable
    variables: list[tf.Variable]
    constants: list[OwnConstant]
    layers: list[keras.layers.Layer]


def likeness(thing: Any) -> Likeness:
    """Looks through all attributes of a layer.

    Numbers, strings, arrays and containers count by their values, functions by their
    code and what they close over, objects by their class and attributes. All that is
    not understood counts by identity: then two layers are alike only if they share it.
    """
    walk = _Walk()
    return Likeness(walk.key(thing), walk.variables, walk.constants, walk.layers)


class _Walk:
    def __init__(self):
        self.seen = {}
        self.variables, self.constants, self.layers = [], [], []

    def key(self, x) -> Hashable:
        if isinstance(x, enum.Enum):
            return "same", id(x)
        if isinstance(x, _PLAIN):
            return type(x), x
        if isinstance(x, float):
            return type(x), repr(x)
        if isinstance(x, tf.TensorShape):
            return "shape", x.rank and tuple(x.as_list())
        if isinstance(x, np.generic):
            return x.dtype, x.tobytes()
        if id(x) in self.seen:
            return "seen", self.seen[id(x)][0]
        # With the object itself, so that no other can get its identity meanwhile.
        self.seen[id(x)] = len(self.seen), x
        if isinstance(x, np.ndarray):
            if x.dtype == object:
                return "same", id(x)
            return "array", x.dtype, x.shape, x.tobytes()
        if isinstance(x, keras.Variable):
            return "keras variable", x._autocast, self.key(x.value)
        if isinstance(x, tf.Variable):
            self.variables.append(x)
            return "variable", x.dtype, tuple(x.shape), x.trainable
        if isinstance(x, OwnConstant):
            self.constants.append(x)
            return "own constant", x.value.dtype, x.value.shape
        if tf.is_tensor(x):
            return self.tensor(x)
        if isinstance(x, (list, tuple)):
            return type(x), *map(self.key, x)
        if isinstance(x, Mapping):
            items = sorted(x.items(), key=lambda item: str(item[0]))
            return type(x), *((self.key(k), self.key(v)) for k, v in items)
        if isinstance(x, (set, frozenset)):
            return type(x), *map(self.key, sorted(x, key=str))
        if isinstance(x, (type, types.ModuleType, types.BuiltinFunctionType)):
            return "same", id(x)
        if isinstance(x, types.FunctionType):
            return self.function(x)
        if isinstance(x, types.MethodType):
            return "method", self.key(x.__func__), self.key(x.__self__)
        if isinstance(x, functools.partial):
            return "partial", *map(self.key, (x.func, x.args, x.keywords))
        if isinstance(x, keras.initializers.Initializer):
            return "initializer"
        return self.object(x)

    def tensor(self, x):
        is_known = isinstance(x, tf.Tensor) and hasattr(x, "numpy")
        if not is_known or x.dtype in (tf.resource, tf.variant):
            return "same", id(x)
        return "tensor", self.key(x.numpy())

    def function(self, x):
        try:
            cells = [cell.cell_contents for cell in x.__closure__ or ()]
        except ValueError:
            # What it closes over is not there yet.
            return "same", id(x)
        parts = x.__defaults__, x.__kwdefaults__, cells, vars(x)
        return "function", id(x.__code__), id(x.__globals__), *map(self.key, parts)

    def object(self, x):
        kinds = type(x).__mro__
        if not hasattr(x, "__dict__") or any(
            k.__dict__.get("__slots__") for k in kinds
        ):
            return "same", id(x)
        takes_notes = isinstance(x, (tf.Module, keras.layers.Layer))
        left_out = _NOTES if takes_notes else frozenset()
        if type(x).__module__.startswith("tfp_flows."):
            left_out = left_out | _BUILDING
        if isinstance(x, keras.layers.Layer):
            if x.activity_regularizer is not None:
                # Each call leaves a loss behind.
                return "same", id(x)
            self.layers.append(x)
            if type(x) is keras.Sequential:
                # Its other attributes are full of names.
                return type(x), x.compute_dtype, x.autocast, self.key(x.layers)
        items = [
            (name, value)
            for name, value in sorted(vars(x).items())
            if name not in left_out and not name.startswith("_self_")
        ]
        return type(x), *((name, self.key(value)) for name, value in items)
