"""Attention whose gradient does not keep the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.fixed_point import gradients_of_arguments

__all__ = ["attention"]

# From so many positions on, scores of all pairs are computed again by the gradient.
_MANY = 256


def attention(q: Any, k: Any, v: Any, sees: Any = None) -> Any:
    r"""The values that queries read, $\operatorname{softmax}(q k^\top / \sqrt{s})\, v$.

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

    def read(q, k, v):
        scores = tf.matmul(q, k, transpose_b=True) / math.sqrt(q.shape[-1])
        if sees is not None:
            scores = tf.where(sees, scores, tf.constant(-np.inf, scores.dtype))
        return tf.nn.softmax(scores) @ v

    @tf.custom_gradient
    def forgetful(*given):
        return read(*given), lambda upstream: gradients_of_arguments(
            read, given, upstream
        )

    return read(q, k, v) if q.shape[-2] < _MANY else forgetful(q, k, v)
