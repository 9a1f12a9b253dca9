"""Permutations along any axis."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import normal
from tfp_flows import bijectors as B


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 7),
    axis=st.integers(-3, -1),
    seed=st.integers(0, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_permutations_over_drawn_shapes(size, axis, seed, dtype):
    shape = [2, 3, 4, 5]
    shape[axis] = size
    x = normal(*shape, dtype=dtype)
    bijector = B.Permutation("random", size, axis=axis, seed=seed)
    y = bijector.forward(x)
    np.testing.assert_array_equal(y, np.take(x, bijector.permutation, axis=axis))
    np.testing.assert_array_equal(bijector.inverse(tf.identity(y)), x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(bijector.forward(x) * y)
    np.testing.assert_array_equal(tape.gradient(loss, x), x)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Permutation([0, 0, 1]), "once"),
        (lambda: B.Permutation("random"), "event_shape is required"),
        (lambda: B.Permutation("shuffled", 3), "reverse"),
        (lambda: B.Permutation([1, 0], event_shape=3), "entries"),
        (lambda: B.Permutation([1, 0], axis=1), "negative"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("event_shape", [3, [3, 2], tf.TensorShape([3, 2])])
@pytest.mark.parametrize("kind", ["reverse", [2, 1, 0]])
def test_rows_of_a_matrix(kind, event_shape):
    bijector = B.Permutation(kind, event_shape, axis=-2)
    x = np.arange(6.0, dtype="float32").reshape(3, 2)
    np.testing.assert_array_equal(bijector.forward(x), x[::-1])
    columns = None if event_shape == 3 else 2
    shape = bijector.forward_event_shape(tf.TensorShape([None, None]))
    assert shape.as_list() == [3, columns]


@pytest.mark.parametrize(
    ("event_shape", "axis", "error", "match"),
    [
        ((4, 3), -1, ValueError, r"event_shape must be D or \[D\].*\(4, 3\)"),
        ((4,), -2, ValueError, r"D or have 2 numbers for axis=-2, got \(4,\)"),
        ((0, 3), -2, ValueError, r"event_shape\[0\] must be at least 1, got 0"),
        (0, -2, ValueError, "event_shape must be at least 1, got 0"),
        ("a", -2, TypeError, "event_shape must be a sequence of integers, got 'a'"),
        ((3, 4), -2, ValueError, r"event_shape is \(3, 4\), but .* has 4 entries"),
    ],
)
def test_shapes_of_no_event(event_shape, axis, error, match):
    with pytest.raises(error, match=match):
        B.Permutation([3, 2, 1, 0], event_shape, axis=axis)
