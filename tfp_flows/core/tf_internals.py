"""All that relies on private parts of TensorFlow; the import fails if they moved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager.polymorphic_function.attributes import NO_INLINE
from tensorflow.python.eager.record import could_possibly_record, stop_recording
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.random_seed import DEFAULT_GRAPH_SEED
from tensorflow.python.ops import control_flow_util
from tensorflow.python.ops.resource_variable_ops import variable_accessed

__all__ = [
    "NOT_INLINED",
    "UNSET_SEED",
    "could_possibly_record",
    "depends_on_state",
    "is_compiled_by_xla",
    "recording",
    "stop_recording",
    "variable_accessed",
]

# `experimental_attributes` of a `tf.function` whose calls in other graphs stay calls.
NOT_INLINED = {NO_INLINE: True}

# The global seed where nobody has set one, but an operation has a seed of its own.
UNSET_SEED = DEFAULT_GRAPH_SEED

# Operations that count as stateful, but whose state is in variables only, and calls of
# functions.
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


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """A context in which gradient tapes record, even if they were stopped outside.

    Bijectors need it for gradients that are part of their value. A chain that
    recomputes gradients, and `tf.init_scope`, stop all tapes, and such gradients would
    be zero.
    """
    stopped = pywrap_tfe.TFE_Py_TapeSetIsStopped()
    if stopped:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        yield
    finally:
        if stopped:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()


def is_compiled_by_xla() -> bool:
    """Whether the graph that is being built will be compiled by XLA as a whole."""
    return control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )


def depends_on_state(graph: tf.Graph) -> bool:
    """Whether a graph uses more than its inputs and the variables given to it.

    Random operations do, as they keep a state of their own. So do custom gradients that
    read variables: they always read the variables of the trace.
    """
    definition = graph.as_graph_def()
    for nodes in (
        definition.node,
        *(function.node_def for function in definition.library.function),
    ):
        kinds = {node.name: node.op for node in nodes}
        for node in nodes:
            kind = op_def_registry.get(node.op)
            if kind and kind.is_stateful and node.op not in _HARMLESS:
                return True
            given = (kinds.get(name.lstrip("^").split(":")[0]) for name in node.input)
            if "_gradient_op_type" in node.attr and "ReadVariableOp" in given:
                return True
    return False
