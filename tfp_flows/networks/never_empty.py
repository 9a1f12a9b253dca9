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
        # A slice of zeros has a shape that every compiler can follow; `tf.pad` has not.
        zeros = tf.zeros([1, *tf.unstack(tf.shape(part)[1:])], part.dtype)
        zeros.set_shape([1, *part.shape[1:]])
        return tf.concat([part, zeros[:missing]], 0)

    out = network(padded(x), None if context is None else padded(context))[:count]
    out.set_shape([known, *out.shape[1:]])
    return out
