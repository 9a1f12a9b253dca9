"""Activation normalisation and its start from data."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, normal
from tfp_flows import bijectors as B


def test_actnorms_do_not_enlarge_what_is_constant():
    chain = B.Chain([B.ActNorm([2], dtype="float64") for _ in range(3)])
    y = normal(50, 2) * 4.0 * [1.0, 0.0] + [0.0, 7.0]
    x = chain.initialize(y)
    close(np.std(x, 0), [1.0, 0.0], 1e-6)
    close(chain.inverse(y + tf.constant([0.0, 0.5], "float64"))[:, 1], 0.5, 1e-6)


def test_actnorm_is_initialised_once():
    actnorm = B.ActNorm([2, 2, 3])
    batch = 5 + 3 * normal(50, 2, 2, 3, dtype="float32")
    z = actnorm.initialize(batch)
    np.testing.assert_allclose(np.mean(z, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(z, (0, 1, 2)), 1, atol=1e-4)
    assert bool(actnorm.initialized)
    before = actnorm.shift.numpy()
    actnorm.initialize(batch + 7)
    np.testing.assert_array_equal(actnorm.shift, before)


def test_sampling_does_not_initialise():
    actnorm = B.ActNorm([3])
    actnorm.forward(tf.ones([4, 3]))
    assert not bool(actnorm.initialized)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.ActNorm([2]).initialize(tf.zeros([0, 2])),
            "empty batch",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
