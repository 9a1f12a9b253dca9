"""Loops of small operations as graphs, since eager mode runs them slowly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import tensorflow as tf

__all__ = ["traced_loop"]


def traced_loop(
    function: Callable, *tensors: tf.Tensor, **options: Hashable
) -> tf.Tensor:
    """Calls `function(*tensors, **options)` without gradients, as a graph.

    In eager mode this makes a loop some ten times as fast. Graphs are kept: one for
    each combination of options, dtypes and ranks.

    Args:
      function: a function at the top level of a module, which reads its arguments
        only. It is kept for good.
      *tensors: its tensors, whose values may differ from call to call.
      **options: its other arguments: hashable values.

    Returns:
      The result of the function.
    """
    constants = [tf.stop_gradient(x) for x in tensors]
    if tf.executing_eagerly():
        kinds = tuple((x.dtype, x.shape.rank) for x in constants)
        function = _traced(function, tuple(sorted(options.items())), kinds)
        return tf.stop_gradient(function(*constants))
    return tf.stop_gradient(function(*constants, **options))


@functools.lru_cache(maxsize=256)
def _traced(function, options, kinds):
    # Part of the cache's key: one graph for tensors of all ranks would know no shape.
    del kinds
    # TensorFlow counts retraces by a function's code, and warns. A partial has none.
    function = functools.partial(function, **dict(options))
    return tf.function(function, autograph=False, reduce_retracing=True)
