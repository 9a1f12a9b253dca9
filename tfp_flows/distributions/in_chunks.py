"""Evaluates functions of large batches in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from tfp_flows.core.xla_where_faster import XLAWhereFaster

__all__ = ["common_batch", "in_chunks"]

# The most calls that are made one by one in eager mode.
_ONE_BY_ONE = 8


def common_batch(tensors: Sequence, ranks: Sequence[int]) -> tf.TensorShape:
    """The static batch shape that tensors `[*batch, *event]` broadcast to.

    Args:
      tensors: tensors or arrays.
      ranks: rank of the event of each.

    Returns:
      The shape. Its rank is unknown if that of a tensor is, or if batches do not fit.
    """
    batch = tf.TensorShape([])
    for tensor, ndims in zip(tensors, ranks, strict=True):
        shape = tf.TensorShape(tensor.shape)
        if shape.rank is None or shape.rank < ndims:
            return tf.TensorShape(None)
        try:
            batch = tf.broadcast_static_shape(batch, shape[: shape.rank - ndims])
        except ValueError:
            return tf.TensorShape(None)
    return batch


def in_chunks(
    function: Callable[..., Sequence[tf.Tensor]],
    size: int,
    tensors: Sequence[tf.Tensor],
    ranks: Sequence[int],
    result_ranks: Sequence[int],
    dtype: tf.DType,
) -> list[tf.Tensor]:
    """Computes `function(*tensors)` in calls of at most `size` events, if possible.

    The batch is split along its longest dimension. In eager mode the calls are made one
    by one. For many of them `function` is traced once, for the half of a second or so
    that this takes, and XLA compiles it once that pays: see `XLAWhereFaster`. In a
    `tf.function` they are a loop of its graph, which does not grow with their number.

    Args:
      function: returns one tensor `[*batch, *event]` for each of `result_ranks`. An
        event of a result may depend only on events at the same place in the batch.
      size: the largest number of events in a call.
      tensors: tensors `[*batch, *event]` whose static batches broadcast.
      ranks: rank of the event of each tensor.
      result_ranks: rank of the event of each result.
      dtype: dtype of the results.

    Returns:
      The results, of the common batch shape.
    """
    batch = common_batch(tensors, ranks).as_list()
    axis = max(range(len(batch)), key=lambda i: batch[i])
    length = batch[axis]
    others = tf.TensorShape(batch[:axis] + batch[axis + 1 :]).num_elements()
    count = -(-length // max(size // max(others, 1), 1))
    step = -(-length // count)
    behind = len(batch) - axis
    tensors = [tf.convert_to_tensor(t) for t in tensors]
    cuts = [
        _slicer(t, t.shape.rank - ndims - behind, length)
        for t, ndims in zip(tensors, ranks, strict=True)
    ]

    def chunk(start):
        return [cut(t, start, step) for cut, t in zip(cuts, tensors, strict=True)]

    # All chunks have one length, so the last one may overlap the one before it.
    starts = [*range(0, length - step, step), length - step]
    if tf.executing_eagerly():
        call = _where_faster(function) if count > _ONE_BY_ONE else function
        calls = [call(*chunk(start)) for start in starts]
        left = length - (len(starts) - 1) * step
        end = (*[slice(None)] * axis, slice(step - left, None))
        return [
            tf.concat([*firsts, last[end]], axis)
            for *firsts, last in zip(*calls, strict=True)
        ]
    found = tf.map_fn(
        lambda start: list(function(*chunk(start))),
        tf.constant(starts),
        parallel_iterations=1,
        fn_output_signature=[dtype] * len(result_ranks),
    )
    return [_join(part, axis, len(batch), length) for part in found]


def _where_faster(function):
    """`function`, traced, and compiled by XLA from some call on if that is faster."""

    def call(chunk):
        return function(*chunk)

    def traced(**options):
        # A partial, since TensorFlow counts calls by the code of a function, and would
        # warn of retracing at the fifth call, whatever the flow.
        return tf.function(partial(call), autograph=False, **options)

    step = XLAWhereFaster(traced(), lambda: traced(jit_compile=True))
    return lambda *chunk: step(list(chunk))


def _slicer(tensor, axis, length):
    """A function that slices a tensor, unless the tensor broadcasts along the axis."""
    if axis < 0 or tensor.shape[axis] != length:
        return lambda tensor, start, step: tensor

    def cut(tensor, start, step):
        begin, size = [0] * tensor.shape.rank, tensor.shape.as_list()
        begin[axis], size[axis] = start, step
        size = [-1 if n is None else n for n in size]
        return tf.slice(tensor, tf.stack(begin), size)

    return cut


def _join(turns, axis, batch_rank, length):
    """Joins the results of a loop `[turn, *batch, *event]` along the batch axis."""
    first, last = turns[:-1], turns[-1]
    rank = first.shape.rank
    order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
    shape = last.shape.as_list()
    shape[axis] *= first.shape[0]
    first = tf.reshape(tf.transpose(first, order), shape)
    end = [slice(None)] * axis + [slice(first.shape[axis] - length, None)]
    return tf.concat([first, last[tuple(end)]], axis)
