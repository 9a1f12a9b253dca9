"""The variables of a TFP distribution as Keras layers, one for each bijector."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.conditioner import Conditioner

tfb = tfp.bijectors
tfd = tfp.distributions

__all__ = ["Row", "rows"]


class Row(keras.layers.Layer):
    """Shows the variables of one bijector or distribution to Keras.

    A Keras model sees only its own layers and variables; those of a `tf.Module` it
    does not. A row holds a `keras.Variable` around each `tf.Variable` (the same
    storage) and the Keras layers that serve as conditioners.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        layers: Sequence[keras.layers.Layer],
        shapes: tuple | None,
        name: str,
    ):
        super().__init__(name=name)
        self.networks = list(layers)
        with keras.name_scope(name):
            self.wrapped = [
                keras.Variable(
                    v,
                    trainable=v.trainable,
                    dtype=v.dtype.name,
                    name=f"{_short(v.name)}_{i}",
                )
                for i, v in enumerate(variables)
            ]
        self._shapes = shapes
        if shapes is not None:
            # What `summary` reads the output shape from.
            self._build_shapes_dict = {"input_shape": shapes[0]}
        self.built = True

    def compute_output_shape(self, input_shape):
        return self._shapes[1]


def rows(distribution: tfd.Distribution, extra: Sequence[tf.Variable] = ()):
    """One `Row` for each bijector or distribution that owns variables.

    Args:
      distribution: any TFP distribution.
      extra: variables that belong to it though no attribute shows them.

    Returns:
      A list of `Row`s, data side first.
    """
    modules = [
        m
        for m in (distribution, *distribution.submodules)
        if isinstance(m, (tfb.Bijector, tfd.Distribution))
    ]
    inside = {
        id(m): [c for c in m.submodules if any(c is o for o in modules)]
        for m in modules
    }
    result, names, seen = [], set(), set()
    for module in modules:
        below = {v.ref() for child in inside[id(module)] for v in child.variables}
        own = [
            v for v in module.variables if v.ref() not in below and v.ref() not in seen
        ]
        if not own:
            continue
        seen.update(v.ref() for v in own)
        layers = []
        for c in module.submodules:
            layer = c.keras_layer if isinstance(c, Conditioner) else None
            if layer is not None and any(
                v.value.ref() in {o.ref() for o in own} for v in layer.variables
            ):
                layers.append(layer)
        in_layers = {v.value.ref() for layer in layers for v in layer.variables}
        own = [v for v in own if v.ref() not in in_layers]
        result.append(
            _row_class(module)(
                own, layers, _shapes(module), _unique(module.name, names)
            )
        )
    hidden = [v for v in extra if v.ref() not in seen]
    if hidden:
        result.append(Row(hidden, [], None, _unique("hidden_variables", names)))
    return result


def _row_class(module):
    """A `Row` under the module's class name, which is what `summary` prints."""
    return type(type(module).__name__.lstrip("_"), (Row,), {})


def _shapes(module):
    """Shapes with an unknown batch, data side and noise side, where they are known."""
    source = getattr(module, "_output_event_shape", None)
    target = getattr(module, "_input_event_shape", None)
    if source is None or target is None:
        return None
    return (None, *source), (None, *target)


def _short(name: str) -> str:
    return name.split(":")[0].split("/")[-1]


def _unique(name: str, names: set[str]) -> str:
    name = name.replace("/", "_").strip("_")
    candidate, i = name, 1
    while candidate in names:
        candidate, i = f"{name}_{i}", i + 1
    names.add(candidate)
    return candidate
