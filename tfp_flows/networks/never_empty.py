"""Convolutions of empty batches."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["never_empty"]


def never_empty(
    network: Callable, x: tf.Tensor, context: tf.Tensor | None = None
) -> tf.Tensor:
    """Calls `network(x, context)`, with an example of zeros added to an empty batch.

    With oneDNN, TensorFlow's convolution of an empty batch returns as many channels as
    its input has, which is wrong. If the batch is known not to be empty, as in eager
    mode, this adds nothing. Otherwise it costs a copy of `x`, which is small beside
    hidden layers.

    Args:
      network: a function of `x` and `context`.
      x: `[batch, ...]`.
      context: `[batch, ...]` or `None`.

    Returns:
      The result of the network, for the examples of `x` only.
    """
    known = x.shape[0]
    if known:
        return network(x, context)
    count = tf.shape(x)[0]
    missing = 1 - tf.minimum(count, 1)

    def padded(part):
        # Every compiler can infer the shape of a slice of zeros, but not of `tf.pad`.
        zeros = tf.zeros([1, *tf.unstack(tf.shape(part)[1:])], part.dtype)
        zeros.set_shape([1, *part.shape[1:]])
        return tf.concat([part, zeros[:missing]], 0)

    out = network(padded(x), None if context is None else padded(context))[:count]
    out.set_shape([known, *out.shape[1:]])
    return out
