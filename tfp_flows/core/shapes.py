"""Events in other shapes, with as much of the shape static as is known."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

__all__ = ["reshape_event"]


def reshape_event(
    x: tf.Tensor, ndims: int, event: Sequence[int], like: tf.Tensor | None = None
) -> tf.Tensor:
    """A tensor whose last dimensions get another shape, and the batch stays.

    Args:
      x: tensor `[*batch, *old_event]`, or, where `like` is given, of any shape.
      ndims: rank of the old event.
      event: its new shape.
      like: tensor `[*batch, *old_event]` that says what the batch is.

    Returns:
      Tensor `[*batch, *event]`.
    """
    like = x if like is None else like
    rank = like.shape.rank - ndims
    batch = [-1 if n is None else n for n in like.shape[:rank]]
    shape = [*batch, *event]
    # One open dimension follows from the others, unless there is nothing at all.
    if batch.count(-1) > 1 or (-1 in batch and 0 in shape):
        shape = tf.concat([tf.shape(like)[:rank], event], 0)
    y = tf.reshape(x, shape)
    y.set_shape([*like.shape[:rank], *event])
    return y
