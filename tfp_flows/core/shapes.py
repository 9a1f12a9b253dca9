"""Shapes of events, contexts and batches. What is known statically stays known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_real

__all__ = [
    "broadcast_context",
    "broadcast_log_det",
    "check_event_shape",
    "check_log_det",
    "positions_and_channels",
    "reshape_event",
    "sum_trailing",
    "take",
]


def reshape_event(
    x: tf.Tensor, ndims: int, event: Sequence[int], like: tf.Tensor | None = None
) -> tf.Tensor:
    """Gives the event of a tensor another shape; the batch stays.

    Args:
      x: tensor `[*batch, *old_event]`; with `like`, of any shape.
      ndims: rank of the old event.
      event: the new shape of the event.
      like: tensor `[*batch, *old_event]` that the batch shape is taken from.

    Returns:
      Tensor `[*batch, *event]`.
    """
    like = x if like is None else like
    rank = like.shape.rank - ndims
    batch = [-1 if n is None else n for n in like.shape[:rank]]
    shape = [*batch, *event]
    # -1 works for one unknown dimension, unless the tensor is empty.
    if batch.count(-1) > 1 or (-1 in batch and 0 in shape):
        shape = tf.concat([tf.shape(like)[:rank], event], 0)
    y = tf.reshape(x, shape)
    y.set_shape([*like.shape[:rank], *event])
    return y


def check_event_shape(
    value: tf.Tensor, shape: Sequence[Any] | None, ndims: int, what: str
) -> tf.Tensor:
    """Returns `value` if its shape ends in `shape`, with that shape set.

    Args:
      value: a tensor.
      shape: shape of the event, with `None` for any size; `None` for any shape.
      ndims: rank of the event.
      what: name of the value in errors.

    Raises:
      ValueError: if the shape does not fit.
    """
    rank = value.shape.rank
    if rank is None:
        raise ValueError(f"{what} must have a known rank.")
    if rank < ndims:
        raise ValueError(
            f"{what} must have at least {ndims} dimension(s)"
            + (f", ending in {shape}" if shape is not None else "")
            + f"; got shape {value.shape}."
        )
    if shape is None or not shape:
        return value
    event = value.shape[rank - ndims :]
    if not event.is_compatible_with(shape):
        raise ValueError(f"{what} must end in {shape}, got shape {value.shape}.")
    if event.is_fully_defined():
        return value
    return tf.ensure_shape(value, [None] * (rank - ndims) + list(shape))


def broadcast_context(
    value: tf.Tensor, ndims: int, context: Any, context_shape: Sequence[Any], name: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Broadcasts a value and its context to one common batch shape.

    Args:
      value: tensor `[*batch, *event]`.
      ndims: rank of the event.
      context: what the user gave as the context.
      context_shape: shape of one context.
      name: name of the bijector or distribution, for errors.

    Returns:
      `(value, context)`, both with the common batch.

    Raises:
      ValueError: if the context is missing or does not fit.
      TypeError: if it holds anything but real numbers.
    """
    if context is None:
        raise ValueError(
            f"{name}: context is required: a tensor [*batch, "
            f"{', '.join(map(str, context_shape))}]."
        )
    check_real(f"{name}: context", context)
    context = tf.convert_to_tensor(context)
    if context.dtype.is_floating and context.dtype != value.dtype:
        context = tf.cast(context, value.dtype)
    context = check_event_shape(
        context, context_shape, len(context_shape), f"{name}: context"
    )
    batch = value.shape[: value.shape.rank - ndims]
    context_batch = context.shape[: context.shape.rank - len(context_shape)]
    if batch.is_fully_defined() and batch == context_batch:
        return value, context
    try:
        static = tf.broadcast_static_shape(batch, context_batch)
    except ValueError:
        raise ValueError(
            f"{name}: the batch shape {context_batch} of context does not broadcast "
            f"with the batch shape {batch} of the value."
        ) from None
    common = _common_shape(
        tf.shape(value)[: batch.rank], tf.shape(context)[: context_batch.rank]
    )
    return (
        _broadcast(value, common, static, ndims),
        _broadcast(context, common, static, len(context_shape)),
    )


def sum_trailing(x: tf.Tensor, ndims: int) -> tf.Tensor:
    """Sums over the last `ndims` dimensions."""
    rank = x.shape.rank
    return tf.reduce_sum(x, axis=list(range(rank - ndims, rank))) if ndims else x


def broadcast_log_det(
    log_det: tf.Tensor, value: tf.Tensor, ndims: int, name: str
) -> tf.Tensor:
    """Broadcasts a log-determinant to the batch shape of `value` `[*batch, *event]`.

    Raises:
      ValueError: if its shape does not broadcast to the batch shape.
    """
    batch = value.shape[: value.shape.rank - ndims]
    check_log_det(log_det, batch, name)
    if batch.is_fully_defined():
        return log_det if log_det.shape == batch else tf.broadcast_to(log_det, batch)
    if log_det.shape.rank == batch.rank:
        return log_det
    return tf.broadcast_to(log_det, tf.shape(value)[: batch.rank])


def check_log_det(log_det: tf.Tensor, batch: tf.TensorShape, name: str) -> None:
    """Raises a ValueError unless a log-determinant broadcasts to the batch shape."""
    rank = log_det.shape.rank
    if rank is None or rank <= batch.rank:
        own = batch[batch.rank - (rank or 0) :]
        if all(
            m in (1, None) or n is None or m == n
            for m, n in zip(log_det.shape if rank else (), own, strict=True)
        ):
            return
    raise ValueError(
        f"{name}: the log-determinant must be one number for each event, of shape "
        f"{batch}; got shape {log_det.shape}. Sum it over the event."
    )


def _common_shape(a, b):
    """`tf.broadcast_dynamic_shape`, made of operations that ONNX has too."""
    rank = max(a.shape[0], b.shape[0])
    a, b = (
        tf.concat([tf.ones([rank - s.shape[0]], tf.int32), s], 0) if rank else s
        for s in (a, b)
    )
    return tf.where(tf.equal(a, 1), b, a)


def _broadcast(x, common, static, ndims):
    event = x.shape[x.shape.rank - ndims :]
    shape = tf.concat([common, tf.shape(x)[x.shape.rank - ndims :]], 0)
    x = tf.broadcast_to(x, shape)
    x.set_shape([*static, *event])
    return x


def take(x: tf.Tensor, indices: Any, inverse_indices: Any, axis: int) -> tf.Tensor:
    """`tf.gather` with a permutation, whose gradient is a gather instead of a scatter.

    Args:
      x: a tensor.
      indices: a permutation of the positions along the axis.
      inverse_indices: the inverse permutation.
      axis: the axis.
    """

    @tf.custom_gradient
    def gather(x):
        return (
            tf.gather(x, indices, axis=axis),
            lambda dy: take(dy, inverse_indices, indices, axis),
        )

    return gather(x)


def positions_and_channels(event_shape: Sequence[int]) -> tuple[int, int]:
    """The number of positions of an event, and that of its channels, the last axis.

    Raises:
      ValueError: if `event_shape` is empty.
    """
    if not event_shape:
        raise ValueError("event_shape must end in the number of channels, got ().")
    *positions, channels = event_shape
    return math.prod(positions), channels
