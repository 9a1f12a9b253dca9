"""Soft logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import transformers


def test_soft_logarithms():
    soft = transformers.SoftLog(10.0)
    x = np.array([-1e30, -11.0, -9.0, 0.0, 5.0, 1e4])
    y, log_det = soft.forward_and_log_det(tf.constant(x), tf.zeros([1, 6], "float64"))
    beyond = np.log1p(np.maximum(np.abs(x) - 10, 0))
    np.testing.assert_allclose(y, np.sign(x) * (np.minimum(abs(x), 10) + beyond))
    np.testing.assert_allclose(log_det, -beyond)
    # Single precision ends before such a number does.
    far, _ = soft.inverse_and_log_det(tf.constant([120.0]), tf.zeros([1, 1]))
    assert np.isinf(far)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.SoftLog(0.0), "threshold must be above 0"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
