"""Attention whose gradient does not keep the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["attention"]

# From so many positions on, scores of all pairs are computed again by the gradient.
_MANY = 256


def attention(q: Any, k: Any, v: Any, sees: Any = None) -> Any:
    r"""What queries read, $\operatorname{softmax}(q k^\top / \sqrt{s})\, v$.

    Of many positions, the gradient computes the weights of all pairs again: layers
    keep `[..., N, s]` for it and not `[..., N, N]`.

    Args:
      q: queries `[..., N, s]`.
      k: keys `[..., M, s]`.
      v: values `[..., M, s]`.
      sees: bools that broadcast to `[N, M]`, whether a query sees a key; all by
        default.

    Returns:
      Tensor `[..., N, s]`.
    """
    if q.shape[-2] < _MANY:
        return _weights(q, k, sees) @ v
    return _recomputed(q, k, v, sees)


def _weights(q, k, sees):
    scores = tf.matmul(q, k, transpose_b=True) / math.sqrt(q.shape[-1])
    if sees is not None:
        scores = tf.where(sees, scores, tf.constant(-np.inf, scores.dtype))
    return tf.nn.softmax(scores)


def _recomputed(q, k, v, sees):
    @tf.custom_gradient
    def read(q, k, v):
        def gradient(upstream):
            # Only once it is there, or all layers would be computed again at once.
            with tf.control_dependencies([upstream]):
                weights = _weights(tf.identity(q), k, sees)
            slopes = tf.matmul(upstream, v, transpose_b=True)
            mean = tf.reduce_sum(weights * slopes, -1, keepdims=True)
            slopes = weights * (slopes - mean) / math.sqrt(q.shape[-1])
            return (
                slopes @ k,
                tf.matmul(slopes, q, transpose_a=True),
                tf.matmul(weights, upstream, transpose_a=True),
            )

        return _weights(q, k, sees) @ v, gradient

    return read(q, k, v)
