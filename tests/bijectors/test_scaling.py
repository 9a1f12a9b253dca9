"""Scalings, given or from data."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import normal
from tfp_flows import bijectors as B


def test_scalings_do_not_enlarge_what_is_constant():
    scaling = B.Scaling([2], data_dependent=True, dtype="float64")
    scaling.initialize(normal(50, 2) * [4.0, 0.0] + [0.0, 7.0])
    assert abs(scaling.log_scale[0] - np.log(4.0)) < 0.5
    assert scaling.log_scale[1] == 0


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_scaling_from_data_is_initialised_once(factor):
    scaling = B.Scaling([3], data_dependent=True, learning_rate_multiplier=factor)
    assert scaling.needs_initialization and not B.Scaling([3]).needs_initialization
    batch = tf.constant([0.1, 1.0, 20.0]) * normal(500, 3, dtype="float32")
    z = scaling.initialize(batch)
    np.testing.assert_allclose(np.std(z, 0), 1, atol=1e-3)
    assert not scaling.needs_initialization
    before = scaling.log_scale.numpy()
    scaling.initialize(2 * batch)
    np.testing.assert_array_equal(scaling.log_scale, before)
    (variable,) = scaling.trainable_variables
    np.testing.assert_allclose(scaling.log_scale, factor * variable, rtol=1e-6)


def test_a_given_log_scale_decides_the_dtype():
    for log_scale, expected in (
        (np.array([0.5, 1.0]), "float64"),
        (np.array([0.5, 1.0], "float32"), "float32"),
        (np.array([0, 1]), "float32"),
        ([0.5, 1.0], "float32"),
        (tf.constant([0.5, 1.0], tf.float64), "float64"),
    ):
        assert B.Scaling(log_scale=log_scale).dtype == expected
    assert B.Scaling(log_scale=[0.5, 1.0], dtype="float64").dtype == "float64"
    with pytest.raises(TypeError, match="log_scale has dtype float32, but dtype is f"):
        B.Scaling(log_scale=tf.zeros([2]), dtype="float64")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Scaling(), "event_shape or log_scale"),
        (
            lambda: B.Scaling([3], learning_rate_multiplier=0.0),
            "multiplier must be above 0",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
