"""One trace for all units of a `Repeat`, so that depth hardly slows tracing down.

A unit is one of several groups of bijectors that compute the same function of their
own variables.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.conditioner import take_losses
from tfp_flows.core.tf_internals import (
    NOT_INLINED,
    depends_on_state,
    is_compiled_by_xla,
    variable_accessed,
)

__all__ = ["SharedTrace", "shares_traces", "unrolled"]


class _State(threading.local):
    unrolled = False


_state = _State()


@contextlib.contextmanager
def unrolled() -> Iterator[None]:
    """A context in which units are unrolled: each of them is traced on its own.

    Some converters need this: TensorFlow Lite's gives all calls of one function the
    variables of one of them.
    """
    before, _state.unrolled = _state.unrolled, True
    try:
        yield
    finally:
        _state.unrolled = before


def shares_traces() -> bool:
    """Whether one trace may be called for several units in the present context.

    It may not in four cases: in eager mode, where there is no trace; inside `unrolled`;
    under a strategy of several devices, whose variables are captured in another way;
    and under XLA. XLA makes a constant of each shape that a gradient needs, and of all
    inputs of the function that computes the shape, so it would compile in every step.
    """
    return (
        tf.inside_function()
        and not _state.unrolled
        and not tf.distribute.has_strategy()
        and not is_compiled_by_xla()
    )


class SharedTrace:
    """A function of a unit's index, traced once and then called for every unit.

    The trace of the first unit that is called serves the others too, with their
    variables in place of its own. Every unit is traced on its own if the trace captures
    more than the variables of its unit, keeps a state, adds losses to Keras layers, or
    differs from the trace of the next unit.

    Args:
      function: `(i, *arguments) -> results`; nests of tensors and `None`.
      variables: the variables of each unit, in corresponding order.
      modules: the bijectors of each unit, whose Keras layers may add losses.
      copies: whether TensorFlow may inline the trace. Operations of several units may
        then run in parallel, but each copy is optimised on its own in the first run.
    """

    def __init__(
        self,
        function: Callable,
        variables: Sequence[Sequence[tf.Variable]],
        modules: Sequence[Sequence[tf.Module]],
        copies: bool = True,
    ):
        self._function, self._variables, self._modules = function, variables, modules
        self._attributes = {} if copies else NOT_INLINED
        self._concrete: Any = None
        self._given: Any = None
        self._is_shared = True

    def __call__(self, i: int, *arguments: Any) -> Any:
        given = tf.nest.map_structure(_specification, arguments)
        if self._concrete is None and self._is_shared:
            self._trace(i, given)
        if not self._is_shared or given != self._given:
            return self._function(i, *arguments)
        handles = {
            id(traced.handle): own.handle
            for traced, own in zip(self._traced, self._variables[i], strict=True)
        }
        self._concrete.set_external_captures(
            [handles[id(capture)] for capture in self._captures]
        )
        for variable in self._variables[i]:
            variable_accessed(variable)
        return self._concrete(*_tensors(arguments))

    def _trace(self, i: int, given: Any) -> None:
        concrete = self._traced_alone(i, given)
        # Compares with the trace of another unit: users declared them the same.
        other = self._traced_alone((i + 1) % len(self._variables), given)
        self._is_shared = (
            concrete is not None
            and other is not None
            and _computation(concrete.graph) == _computation(other.graph)
        )
        if self._is_shared:
            self._concrete, self._given = concrete, given
            self._traced = self._variables[i]
            self._captures = list(concrete.captured_inputs)

    def _traced_alone(self, i: int, given: Any) -> Any:
        """The trace of one unit, or `None` if it cannot serve other units."""
        places = tf.nest.flatten(given)

        def of_tensors(*tensors):
            rest = iter(tensors)
            flat = [None if place is None else next(rest) for place in places]
            return self._function(i, *tf.nest.pack_sequence_as(given, flat))

        traced = tf.function(
            of_tensors, autograph=False, experimental_attributes=self._attributes
        )
        concrete = traced.get_concrete_function(*_tensors(given))
        own = {id(variable.handle) for variable in self._variables[i]}
        left_losses = take_losses(self._modules[i], concrete.graph)
        is_closed = all(id(capture) in own for capture in concrete.captured_inputs)
        if left_losses or not is_closed or depends_on_state(concrete.graph):
            return None
        return concrete


def _computation(graph: tf.Graph) -> Any:
    """A description of a graph's operations, without their names."""
    definition = graph.as_graph_def()
    functions = (f.node_def for f in definition.library.function)
    return _operations(definition.node), sorted(map(repr, map(_operations, functions)))


def _operations(nodes: Any) -> list[Any]:
    places = {node.name: str(k) for k, node in enumerate(nodes)}
    return [
        (
            node.op,
            *_inputs(node, places),
            [
                (name, value.SerializeToString(deterministic=True))
                for name, value in sorted(node.attr.items())
                if not name.startswith("_") and value.WhichOneof("value") != "func"
            ],
        )
        for node in nodes
    ]


def _inputs(node: Any, places: dict[str, str]) -> tuple[list[str], list[str]]:
    """What a node takes, and what it waits for, which comes in no order."""
    waits = [name[1:] for name in node.input if name.startswith("^")]
    takes = [name for name in node.input if not name.startswith("^")]
    return (
        [_place(name, places) for name in takes],
        sorted(_place(name, places) for name in waits),
    )


def _place(name: str, places: dict[str, str]) -> str:
    """An input `node:output`, by the number of the node if it is one of the graph."""
    node, *output = name.split(":")
    return ":".join([places.get(node, ""), *output])


def _specification(x):
    return None if x is None else tf.TensorSpec(x.shape, x.dtype)


def _tensors(nest):
    return [x for x in tf.nest.flatten(nest) if x is not None]
