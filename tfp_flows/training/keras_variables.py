"""The variables of a TFP distribution as Keras layers, one for each bijector."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.conditioner import Conditioner
from tfp_flows.distributions.contexts import context_spec
from tfp_flows.distributions.flow import without_warning

__all__ = ["Row", "find_variables", "rows"]


class Row(keras.layers.Layer):
    """A Keras layer that holds the variables of one bijector or distribution.

    A Keras model tracks only its own layers and variables, not those of a `tf.Module`.
    A row holds a `keras.Variable` around each `tf.Variable` (with the same storage),
    and the Keras layers that are conditioners. It is a line of the model's `summary`.

    Args:
      variables: variables that belong to no Keras layer.
      layers: Keras layers of the bijector.
      shapes: event shapes on the sides of data and noise, with a batch, or `None`.
      name: name of the layer.
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
        for wrapper, variable in zip(self.wrapped, variables, strict=True):
            # The masks of TFP's autoregressive networks are constraints.
            if getattr(variable, "constraint", None) is not None:
                wrapper.constraint = _OnTensors(variable.constraint)
        self._shapes: Any = shapes
        # `summary` computes the output shape from a shape given here.
        if shapes is not None:
            self.build(shapes[0])
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Nothing to build: the variables are there."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self._shapes[1]


class _OnTensors(keras.constraints.Constraint):
    """Adapts a constraint that takes tensors to Keras, which gives it variables."""

    def __init__(self, constraint):
        self.constraint = constraint

    def __call__(self, variable):
        return self.constraint(tf.convert_to_tensor(variable))


def find_variables(flow: tfd.Distribution) -> list[tf.Variable]:
    """Finds all trainable variables, also those that only `log_prob` shows by use.

    The density is traced, not evaluated, so that parts which adapt to their first data,
    or check values, get none. Only if a network creates its variables in its first
    call, the density is evaluated once; changes of values are undone.
    """
    try:
        found = _read_variables(flow, _refuse_to_create)
    except _Lazy:
        _create_variables(flow)
        found = _read_variables(flow)
    # Under tf.distribute, a trace reads the copies of a variable on each device.
    copies = tf.distribute.get_strategy().experimental_local_results
    known = {c.ref() for v in flow.trainable_variables for c in (v, *copies(v))}
    return list(flow.trainable_variables) + [v for v in found if v.ref() not in known]


class _Lazy(Exception):
    """A variable would have been created."""


def _refuse_to_create(next_creator, **kwargs):
    raise _Lazy


def _read_variables(
    flow: tfd.Distribution, creator: Callable | None = None
) -> list[tf.Variable]:
    """Trainable variables that the density reads, in the order of its reads."""
    keywords = {}
    if getattr(flow, "context_shape", None) is not None:
        keywords["context"] = context_spec(flow, 1)

    def log_prob(x, **keywords):
        with contextlib.ExitStack() as stack:
            if creator is not None:
                stack.enter_context(tf.variable_creator_scope(creator))
            stack.enter_context(without_warning(flow))
            return flow.log_prob(x, **keywords)

    # Not every bijector of TFP takes an unknown number of examples.
    x = tf.nest.map_structure(
        lambda shape, dtype: tf.TensorSpec([1, *shape], dtype),
        flow.event_shape,
        flow.dtype,
    )
    trace = tf.function(log_prob, autograph=False).get_concrete_function(x, **keywords)
    order = {id(handle): i for i, handle in enumerate(trace.captured_inputs)}
    return sorted(
        trace.graph.trainable_variables,
        key=lambda v: order.get(id(v.handle), len(order)),
    )


def _create_variables(flow: tfd.Distribution) -> None:
    """Evaluates a density once, and restores the values of all variables."""
    before = [(v, v.numpy()) for v in flow.variables]

    def create(next_creator, **kwargs):
        variable = next_creator(**kwargs)
        before.append((variable, variable.numpy()))
        return variable

    x = tf.nest.map_structure(
        lambda shape, dtype: tf.fill((1, *shape), tf.cast(0.5, dtype)),
        flow.event_shape,
        flow.dtype,
    )
    # A distribution that checks values has called its networks before it complains.
    with (
        tf.variable_creator_scope(create),
        contextlib.suppress(tf.errors.InvalidArgumentError),
    ):
        flow.log_prob(x)
    for variable, value in before:
        variable.assign(value)


def rows(
    distribution: tfd.Distribution, extra: Sequence[tf.Variable] = ()
) -> list[Row]:
    """One `Row` for each bijector or distribution that owns variables.

    Args:
      distribution: any TFP distribution.
      extra: further variables, which no attribute of it holds.

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
    result: list[Row] = []
    names: set[str] = set()
    seen: set[Any] = set()
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
    """A subclass of `Row` with the name of the module's class.

    `summary` prints this name, and Keras uses it for a part of a file of weights.
    """
    name = getattr(type(module), "_saved_as", None) or type(module).__name__
    return type(name.lstrip("_"), (Row,), {})


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
