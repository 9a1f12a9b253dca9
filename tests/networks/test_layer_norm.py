"""LayerNorm: Keras's values, and right gradients of gradients."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, normal
from tfp_flows import bijectors, networks


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "mixed_float16"])
def test_values_are_those_of_keras(learned, dtype):
    x = 3.0 + 2.0 * normal(4, 5, 6)
    own = networks.LayerNorm(1e-3, learned, dtype=dtype)
    other = keras.layers.LayerNormalization(
        epsilon=1e-3, center=learned, scale=learned, dtype=dtype
    )
    for layer in (own, other):
        layer(x)
        for i, v in enumerate(layer.variables):
            v.assign(normal(6, seed=i))
    close(own(x), other(x), {"float64": 1e-10, "float32": 1e-5}.get(dtype, 5e-3))
    assert own(x).dtype == other(x).dtype
    again = networks.LayerNorm.from_config(json.loads(json.dumps(own.get_config())))
    again.build(x.shape)
    again.set_weights(own.get_weights())
    np.testing.assert_array_equal(again(x), own(x))


def log_det_gradients(layer):
    """Of a log-determinant by a weight: by autodiff, and by differences."""
    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(n, activation="tanh", dtype="float64") for n in (8, 3)]
    network = keras.Sequential([dense[0], layer, dense[1]])
    flow = bijectors.ContinuousFlow(network, (3,), steps=2, dtype="float64")
    x, kernel = normal(4, 3), flow.trainable_variables[0]
    start, direction = kernel.numpy(), normal(*kernel.shape, seed=1)

    def total():
        return tf.reduce_sum(flow.inverse_log_det_jacobian(x))

    with tf.GradientTape() as tape:
        value = total()
    slope = tf.reduce_sum(tape.gradient(value, kernel) * direction)
    ends = []
    for step in (1e-5, -1e-5):
        kernel.assign(start + step * direction)
        ends.append(total())
    return float(slope), float(ends[0] - ends[1]) / 2e-5


def test_a_continuous_flow_is_trained_rightly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(*log_det_gradients(networks.LayerNorm(dtype="float64")), 1e-6)


@pytest.mark.parametrize(
    "layer", [keras.layers.LayerNormalization, keras.layers.GroupNormalization]
)
def test_a_layer_of_keras_is_warned_of(layer):
    """And rightly so: the gradient is off by percents."""
    options = {"groups": 2} if layer is keras.layers.GroupNormalization else {}
    with pytest.warns(UserWarning, match=f"through {layer.__name__} is wrong"):
        slope, right = log_det_gradients(layer(dtype="float64", **options))
    assert abs(slope / right - 1) > 0.01
