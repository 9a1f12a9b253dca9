"""Loops of small operations, which TensorFlow runs slowly in eager mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import tensorflow as tf

__all__ = ["traced_loop"]


def traced_loop(
    function: Callable, *tensors: tf.Tensor, **options: Hashable
) -> tf.Tensor:
    """`function(*tensors, **options)`, without gradients, as a graph in eager mode.

    A loop is then some ten times as fast. The graph is kept, one for all tensors of the
    same dtypes and ranks.

    Args:
      function: a function of a module (it is kept for good) that reads nothing but its
        arguments.
      *tensors: what may change from call to call.
      **options: what makes another graph: hashable values.
    """
    constants = [tf.stop_gradient(x) for x in tensors]
    if tf.executing_eagerly():
        kinds = tuple((x.dtype, x.shape.rank) for x in constants)
        function = _traced(function, tuple(sorted(options.items())), kinds)
        return tf.stop_gradient(function(*constants))
    return tf.stop_gradient(function(*constants, **options))


@functools.lru_cache(maxsize=256)
def _traced(function, options, kinds):
    del kinds  # Of other ranks, one graph for all would know no shape.
    # A partial has no code by which TensorFlow would count retraces.
    function = functools.partial(function, **dict(options))
    return tf.function(function, autograph=False, reduce_retracing=True)
