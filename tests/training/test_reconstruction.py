"""What is told of the inputs that gradients rebuild."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.support import perturb
from tfp_flows import flows
from tfp_flows.training import ReconstructionError, reconstruction_error


def data(shape=(16, 4), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def flow_of(**options):
    options = {"recompute_gradients": True, "layers": 4, "width": 8, **options}
    flow = flows.real_nvp((4,), seed=0, **options)
    perturb(flow)
    return flow


def test_a_good_flow_rebuilds_to_rounding():
    single = float(reconstruction_error(flow_of(), data()))
    double = float(reconstruction_error(flow_of(dtype="float64"), data()))
    assert 1e-9 < single < 1e-5
    assert 0 < double < 1e-13


def test_with_a_context():
    flow = flow_of(context_shape=(2,))
    assert float(reconstruction_error(flow, data(), data((16, 2), 1))) < 1e-5


def test_an_inverse_that_overflows_is_told():
    flow = flow_of(scale="exp")
    for v in flow.trainable_variables:
        v.assign(v * 100)
    assert not float(reconstruction_error(flow, data())) <= 1e-3


def test_a_flow_that_rebuilds_nothing():
    with pytest.raises(ValueError, match="flow rebuilds no input"):
        reconstruction_error(flow_of(recompute_gradients=False), data())


def test_in_training():
    model = tfp_flows.FlowModel(flow_of(layers=2))
    model.compile("adam")
    x = data()
    history = model.fit(x, epochs=2, verbose=0, callbacks=[ReconstructionError(x)])
    errors = history.history["reconstruction_error"]
    assert len(errors) == 2 and all(0 < e < 1e-5 for e in errors)
    last = float(reconstruction_error(model.flow, x))
    assert math.isclose(errors[-1], last, rel_tol=1e-3)


def test_a_warning_above_the_tolerance():
    model = tfp_flows.FlowModel(flow_of())
    model.compile("adam")
    x = data()
    with pytest.warns(
        UserWarning, match="epoch 1: inputs are rebuilt with an error of"
    ):
        model.fit(x, verbose=0, callbacks=[ReconstructionError(x, tolerance=1e-12)])


@pytest.mark.slow
def test_fit_learns_the_same():
    x = data((48, 4))
    losses = []
    for recompute in (False, True):
        flow = flow_of(
            layers=2, recompute_gradients=recompute, batch_norm=True, normalize=True
        )
        model = tfp_flows.FlowModel(flow)
        model.compile(keras.optimizers.Adam(1e-3))
        dataset = tf.data.Dataset.from_tensor_slices(x).batch(24)
        losses.append(model.fit(dataset, epochs=3, verbose=0).history["nll"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1] < losses[0][0]
