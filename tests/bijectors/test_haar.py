"""Averages and differences of blocks of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tests.support import normal
from tfp_flows import bijectors as B


def test_averages_and_differences():
    """Of each channel on its own, in four groups."""
    x = normal(3, 4, 6, 2)
    a, b, c, d = (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
    y = B.Haar().forward(x)
    assert y.shape == (3, 2, 3, 8)
    expected = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    np.testing.assert_allclose(y, np.concatenate(expected, -1) / 2, atol=1e-6)


def test_it_is_orthogonal():
    """Noise stays noise: the matrix of an event times its transpose is the identity."""
    basis = tf.reshape(tf.eye(16, dtype=tf.float64), [16, 4, 4, 1])
    matrix = tf.reshape(B.Haar().forward(basis), [16, 16]).numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(16), atol=1e-12)


def test_what_leaves_first_are_details():
    """Two levels of a smooth image: the noise of the first is small."""
    x = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
    levels = [B.Chain([tfb.Invert(B.Haar())]) for _ in range(2)]
    flow = B.MultiScale(levels, (4, 4, 1))
    first, last = flow.split_noise(flow.inverse(x))
    np.testing.assert_allclose(first[..., 0], -4.0)  # between rows
    np.testing.assert_allclose(first[..., 1], 0.0)
    assert float(last[0, 0, 0, 0]) == pytest.approx(0.25 * 120)


def test_it_is_no_permutation_and_keeps_its_arguments():
    haar = B.Haar(dtype="float64", name="wavelet")
    assert not haar._is_permutation
    same = haar.copy()
    assert (same.name, same.dtype, type(same)) == ("wavelet", tf.float64, B.Haar)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Haar().forward(tf.zeros([3, 4, 1])), "height must be divisible"),
        (lambda: B.Haar().inverse(tf.zeros([4, 4, 6])), "channels must be"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
