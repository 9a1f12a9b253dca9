"""Convolutions of empty batches."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["never_empty"]


def never_empty(
    network: Callable, x: tf.Tensor, context: tf.Tensor | None = None
) -> tf.Tensor:
    """`network(x, context)`, which sees one example of zeros where there is none.

    With oneDNN, TensorFlow's convolution of an empty batch comes back with as many
    channels as went in. Where the batch is known not to be empty, as it is in eager
    mode, this is the network alone; otherwise it costs a copy of `x`, which is small
    beside hidden layers.

    Args:
      network: a function of `x` and `context`.
      x: `[batch, ...]`.
      context: `[batch, ...]` or `None`.
    """
    known = x.shape[0]
    if known:
        return network(x, context)
    count = tf.shape(x)[0]
    missing = 1 - tf.minimum(count, 1)

    def padded(part):
        out = tf.pad(part, [[0, missing], *[[0, 0]] * (part.shape.rank - 1)])
        # TensorFlow cannot see that what is not padded keeps its size.
        out.set_shape([None, *part.shape[1:]])
        return out

    out = network(padded(x), None if context is None else padded(context))[:count]
    out.set_shape([known, *out.shape[1:]])
    return out
