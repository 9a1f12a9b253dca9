"""TFP's own continuous flow trains in a `FlowModel`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from keras import ops

from tests.support import close
from tfp_flows import Flow, FlowModel, distributions

tfb = tfp.bijectors


def ffjord(network):
    def velocity(t, x):
        return network(ops.concatenate([x, t + ops.zeros_like(x[:, :1])], -1))

    solver = tfp.math.ode.DormandPrince(rtol=1e-3, atol=1e-3)
    return tfb.FFJORD(
        velocity,
        ode_solve_fn=solver.solve,
        trace_augmentation_fn=tfb.ffjord.trace_jacobian_exact,
    )


def small():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, "tanh")
    network = keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(2)])
    return Flow(distributions.standard_normal((2,)), ffjord(network))


X = np.random.default_rng(0).normal([1.0, -1.0], [0.5, 1.0], (256, 2)).astype("float32")


# TFP's solver takes seconds to trace.
@pytest.mark.slow
def test_it_trains_and_keeps_its_weights(tmp_path):
    flow = small()
    model = FlowModel(flow)
    assert len(model.trainable_variables) == 4
    model.compile(keras.optimizers.Adam(0.05))
    losses = model.fit(X, batch_size=256, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.3
    nll = -np.mean(flow.log_prob(X))
    assert nll < losses[-1] + 0.01
    close(flow.decode(flow.encode(X)), X, 0.01)
    assert flow.sample(4, seed=0).shape == (4, 2)
    model.save_weights(tmp_path / "flow.weights.h5")
    values = [v.numpy() for v in model.trainable_variables]
    for v in model.trainable_variables:
        v.assign(0.0 * v)
    model.load_weights(tmp_path / "flow.weights.h5")
    for v, value in zip(model.trainable_variables, values, strict=True):
        np.testing.assert_array_equal(v, value)
