"""Space to channels."""

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
    factor=st.integers(2, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_squeeze_over_drawn_shapes(factor, height, width, channels):
    x = normal(2, factor * height, factor * width, channels)
    squeeze = B.Squeeze(factor)
    y = squeeze.forward(x)
    assert y.shape == (2, height, width, factor**2 * channels)
    np.testing.assert_array_equal(squeeze.inverse(tf.identity(y)), x)
    np.testing.assert_array_equal(y[0, 0, 0], tf.reshape(x[0, :factor, :factor], [-1]))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Squeeze(1), "factor"),
        (lambda: B.Squeeze(2).forward(tf.zeros([3, 4, 1])), "height must be divisible"),
        (lambda: B.Squeeze(2).forward(tf.zeros([4, 5, 1])), "width must be divisible"),
        (lambda: B.Squeeze(2).inverse(tf.zeros([4, 4, 6])), "channels must be"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
