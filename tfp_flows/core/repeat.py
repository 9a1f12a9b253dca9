"""What repeats is traced once: the first call hardly takes longer for deeper flows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import control_flow_util, resource_variable_ops

from tfp_flows.core.likeness import Likeness, likeness
from tfp_flows.core.own_constant import standing_for

__all__ = ["Stretch", "stretches"]

_NOTHING = Likeness(None, [], [], [])
# From this number of units on, a function for them saves time.
FEWEST = 2
# Stateful operations whose state is in variables, and calls of functions.
_HARMLESS = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "If",
        "PartitionedCall",
        "ReadVariableOp",
        "StatefulPartitionedCall",
        "While",
    }
)


class Stretch:
    """Turns that follow one another, in units that are alike.

    Attributes:
      units: the turns of each unit.
      variables: of units that repeat, the variables of each, in the same order.
    """

    def __init__(self, units, alike=None):
        self.units = units
        self._alike = alike or [_NOTHING for _ in units]
        self.variables = [unit.variables for unit in self._alike]

    def calls(self, function: Callable, copies: bool = True) -> Callable:
        """`(i, *arguments) -> function(i, *arguments)`, for the `i`-th unit.

        Of units that repeat, `function` is traced for one alone, and the trace called
        with the variables and own constants of each.

        Args:
          function: its arguments and results are nests of tensors and `None`.
          copies: whether TensorFlow may put a copy of the trace in place of each call.
            Then parts of one unit may run beside those of the next, but the copies
            are optimised one by one at the first run.
        """
        if len(self.units) == 1:
            return function
        return _TracedOnce(function, self._alike, copies)


class _TracedOnce:
    """A function of the number of a unit, which differ in their values alone."""

    def __init__(self, function, alike, copies):
        self._function, self._alike = function, alike
        self._attributes = {} if copies else {"_noinline": True}
        self._concrete = self._given = None
        self._is_alike = True

    def __call__(self, i, *arguments):
        given = tf.nest.map_structure(_specification, arguments)
        if self._concrete is None and self._is_alike:
            self._trace(i, given)
        if not self._is_alike or given != self._given:
            return self._function(i, *arguments)
        own = self._alike[i].variables
        handles = {
            id(first.handle): variable.handle
            for first, variable in zip(self._first, own, strict=True)
        }
        self._concrete.set_external_captures(
            [handles.get(id(capture), capture) for capture in self._captures]
        )
        for variable in own:
            resource_variable_ops.variable_accessed(variable)
        return self._concrete(*self._constants(i), *_tensors(arguments))

    def _constants(self, i):
        return [tf.constant(own.value) for own in self._alike[i].constants]

    def _trace(self, i, given):
        places = tf.nest.flatten(given)
        constants = self._alike[i].constants

        def of_tensors(*tensors):
            rest = iter(tensors)
            own = [next(rest) for _ in constants]
            flat = [None if place is None else next(rest) for place in places]
            with standing_for(constants, own):
                return self._function(i, *tf.nest.pack_sequence_as(given, flat))

        traced = tf.function(
            of_tensors, autograph=False, experimental_attributes=self._attributes
        )
        own = map(_specification, self._constants(i))
        concrete = traced.get_concrete_function(*own, *_tensors(given))
        left_losses = self._left_losses(concrete)
        self._is_alike = not left_losses and _may_stand_for_others(concrete)
        if self._is_alike:
            self._concrete, self._given = concrete, given
            self._first = self._alike[i].variables
            self._captures = list(concrete.captured_inputs)

    def _left_losses(self, concrete):
        """Takes away losses that layers have added: they belong to the trace."""
        found = False
        for layer in self._alike[0].layers:
            own = [
                x for x in layer._losses if getattr(x, "graph", None) is concrete.graph
            ]
            found = found or bool(own)
            for loss in own:
                layer._losses.remove(loss)
        return found


def stretches(turns: Sequence[Any]) -> list[Stretch]:
    """The turns of a walk, cut where repetitions begin and end.

    Args:
      turns: tuples of bijectors, functions and plain values. Two with equal `likeness`
        compute the same, but for the values of their variables and own constants.
    """
    turns = list(turns)
    # Variables of several devices are captured in other ways. XLA takes a shape that a
    # gradient needs for a constant, and all inputs of the function that gave it, too:
    # it would compile anew in every step.
    if (
        not tf.inside_function()
        or tf.distribute.has_strategy()
        or control_flow_util.GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        )
    ):
        return [Stretch([turns])]
    types, found, kinds = [_types(turn) for turn in turns], [], {}
    for turn, kind in zip(turns, types, strict=True):
        is_rare = types.count(kind) < FEWEST
        found.append(_NOTHING._replace(key=object()) if is_rare else likeness(turn))
    kinds = [kinds.setdefault(f.key, len(kinds)) for f in found]
    result, i, single = [], 0, []
    while i < len(turns):
        length, count = _repetition(kinds[i:], found[i:])
        if count == 1:
            single.append(turns[i])
            i += 1
            continue
        if single:
            result.append(Stretch([single]))
            single = []
        starts = range(i, i + length * count, length)
        result.append(
            Stretch(
                [turns[k : k + length] for k in starts],
                [_together(found[k : k + length]) for k in starts],
            )
        )
        i += length * count
    return [*result, Stretch([single])] if single else result


def _repetition(kinds, found):
    """Length and number of the units with which a sequence begins."""
    best = 1, 1
    for length in range(1, len(kinds) // FEWEST + 1):
        count = 1
        while kinds[count * length : (count + 1) * length] == kinds[:length]:
            count += 1
        units = [found[k * length : (k + 1) * length] for k in range(count)]
        # Variables that turns of one unit share, those of the others must share, too.
        pattern = _pattern(units[0])
        alike = [_pattern(unit) == pattern for unit in units]
        count = alike.index(False) if False in alike else count
        if count >= FEWEST and pattern and length * count > best[0] * best[1]:
            best = length, count
    return best


def _types(x):
    return tuple(map(_types, x)) if isinstance(x, tuple) else type(x)


def _pattern(unit):
    unit = _together(unit)
    first, values = {}, [*unit.variables, *unit.constants]
    return [first.setdefault(id(x), k) for k, x in enumerate(values)]


def _together(unit):
    keys, *lists = zip(*unit, strict=True)
    return Likeness(keys, *(list(itertools.chain(*of_all)) for of_all in lists))


def _specification(x):
    return None if x is None else tf.TensorSpec(x.shape, x.dtype)


def _tensors(nest):
    return [x for x in tf.nest.flatten(nest) if x is not None]


def _may_stand_for_others(concrete) -> bool:
    """Whether a trace depends on its arguments and captured variables alone."""
    graph = concrete.graph.as_graph_def()
    for nodes in (graph.node, *(f.node_def for f in graph.library.function)):
        kinds = {node.name: node.op for node in nodes}
        for node in nodes:
            definition = op_def_registry.get(node.op)
            if definition and definition.is_stateful and node.op not in _HARMLESS:
                return False
            # Variables that a custom gradient reads are those that were traced.
            given = (kinds.get(_name(x)) for x in node.input)
            if "_gradient_op_type" in node.attr and "ReadVariableOp" in given:
                return False
    return True


def _name(node_input):
    return node_input.lstrip("^").split(":")[0]
