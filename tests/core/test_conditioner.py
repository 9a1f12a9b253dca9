"""Callables that are conditioners, and copies of them."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.support import normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(normal(2, 4))

    def __call__(self, x):
        return x @ self.weight


@pytest.mark.parametrize(
    ("conditioner", "count"),
    [
        (lambda: keras.layers.Dense(4, dtype="float64"), 2),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((2,), dtype="float64"),
                    keras.layers.Dense(4, dtype="float64"),
                ]
            ),
            2,
        ),
        (lambda: tf_keras.layers.Dense(4, dtype="float64"), 2),
        (Module, 1),
        (lambda: lambda x: tf.concat([x, tf.sin(x)], -1), 0),
    ],
    ids=["keras layer", "keras model", "tf_keras", "tf.Module", "function"],
)
def test_any_callable_is_a_conditioner(conditioner, count):
    bijector = B.AffineCoupling(masks.half(4), conditioner(), dtype="float64")
    assert len(bijector.trainable_variables) == count
    x = normal(5, 4)
    y = bijector.forward(x)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-12)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bijector.forward(x) ** 2)
    gradients = tape.gradient(loss, bijector.trainable_variables)
    assert all(g is not None for g in gradients)
    twin = copy.deepcopy(bijector)
    perturb(bijector)
    np.testing.assert_array_equal(twin.forward(x), y)


def test_unregistered_keras_layers_can_be_deep_copied():
    class Mine(keras.layers.Layer):
        def __init__(self, units=4, **kwargs):
            super().__init__(**{"dtype": "float64", **kwargs})
            self.units = units
            self.dense = keras.layers.Dense(units, dtype="float64")

        def call(self, x):
            return self.dense(x)

    bijector = B.AffineCoupling(masks.half(4), Mine(), dtype="float64")
    perturb(bijector)
    x = normal(3, 4)
    np.testing.assert_array_equal(
        copy.deepcopy(bijector).forward(x), bijector.forward(x)
    )


def test_keras_layers_without_a_configuration_cannot_be_deep_copied():
    class Mine(keras.layers.Layer):
        def __init__(self, dense):
            super().__init__()
            self.dense = dense

        def call(self, x):
            return self.dense(x)

    bijector = B.AffineCoupling(masks.half(4), Mine(keras.layers.Dense(4)))
    with pytest.raises(TypeError, match="get_config"):
        copy.deepcopy(bijector)


def test_conditioner_errors():
    with pytest.raises(
        ValueError, match=r"must return shape \[batch, 4\].*\[batch, 3\]"
    ):
        B.AffineCoupling(masks.half(4), keras.layers.Dense(3))
    with pytest.raises(TypeError, match="callable"):
        B.AffineCoupling(masks.half(4), 3.0)


def test_mixed_precision_stays_in_the_conditioner():
    network = networks.MLP(4, (8,), seed=0, dtype="mixed_bfloat16")
    bijector = B.AffineCoupling(masks.half(4), network)
    perturb(bijector)
    x = normal(5, 4, dtype="float32")
    y, fldj = bijector.forward_and_log_det(x)
    assert y.dtype == fldj.dtype == tf.float32
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-5)
