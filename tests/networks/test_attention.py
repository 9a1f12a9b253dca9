"""Attention: values, gradients and gradients of gradients, with and without scores."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, normal
from tfp_flows.networks.attention import attention


def plainly(q, k, v, sees):
    scores = tf.einsum("...is,...js->...ij", q, k) / np.sqrt(q.shape[-1])
    if sees is not None:
        scores = tf.where(sees, scores, tf.constant(-np.inf, scores.dtype))
    return tf.einsum("...ij,...js->...is", tf.nn.softmax(scores), v)


@pytest.mark.parametrize("queries", [5, 256])
@pytest.mark.parametrize("masked", [False, True])
def test_values_gradients_and_their_gradients(queries, masked):
    """Few queries, and so many that the gradient computes scores again."""
    sees = np.tri(queries, 4, dtype=bool) if masked else None
    given = [normal(2, n, 6, seed=i) for i, n in enumerate((queries, 4, 4))]
    direction = [normal(*x.shape, seed=3) for x in given]

    def derivatives(function):
        with tf.GradientTape() as outer:
            outer.watch(given)
            with tf.GradientTape() as inner:
                inner.watch(given)
                value = tf.reduce_sum(tf.sin(function(*given, sees)))
            first = inner.gradient(value, given)
            along = tf.add_n(
                [tf.reduce_sum(g * d) for g, d in zip(first, direction, strict=True)]
            )
        return [value, *first, *outer.gradient(along, given)]

    expected = derivatives(plainly)
    tf.nest.map_structure(close, derivatives(attention), expected)
    tf.nest.map_structure(close, tf.function(derivatives)(attention), expected)


def test_many_positions_keep_no_scores():
    """Of eight layers, at most some of the [N, N] are there at once."""
    x = tf.zeros([1, 256, 4])

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            h = x
            for _ in range(8):
                h = attention(h, h, h)
        return tape.gradient(h, x)

    graph = gradient.get_concrete_function(x).graph
    of_pairs = [op for op in graph.get_operations() if op.type == "Softmax"]
    assert len(of_pairs) == 16
    # Weights of the way there go into its product alone.
    for op in of_pairs[:8]:
        assert [c.type for c in op.outputs[0].consumers()] == ["BatchMatMulV2"]
