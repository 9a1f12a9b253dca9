"""Training that is interrupted, and training on several devices."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.training import child
from tests.training.support import (
    assert_same,
    assert_trained_as_one,
    normalised,
    run_child,
    train_glow,
    values,
    vector,
)


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path):
    """Killed in the second epoch, started again: the weights of one that ran through.

    The flow has an optimizer with state, and parts that data initialise.
    """
    run_child("back_up", tmp_path, "killed", returncode=-signal.SIGKILL)
    assert (tmp_path / "backup" / "latest.weights.h5").exists()
    assert not (tmp_path / "resumed.npz").exists()
    child.back_up(tmp_path, "alive")
    resumed = dict(np.load(tmp_path / "resumed.npz"))
    # The first epoch was not repeated, the second was, from its start.
    assert resumed.pop("epochs").tolist() == [1, 2, 3]
    flow, history = train_glow()
    assert history.epoch == [0, 1, 2, 3]
    assert history.history["loss"][3] < history.history["loss"][0]
    assert_same(values(flow), list(resumed.values()))


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("distributed")
    run_child("distribute", directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glow", "batch_norm"])
def test_two_devices_train_as_one(distributed, name):
    """ActNorm starts from the whole first batch; BatchNorm sees all replicas'."""
    distributed = dict(np.load(distributed / "distributed.npz"))
    one, two = (
        {
            key.removeprefix(prefix): value
            for key, value in distributed.items()
            if key.startswith(prefix)
        }
        for prefix in (f"{name}.one.", f"{name}.two.")
    )
    assert set(one) == set(two) > {"loss", "nll", "answer", "loaded", "variable_0"}
    assert one["loss"][1] < one["loss"][0]
    # Predictions of the one flow, the loss of the other.
    answer, log_prob = two["answer"], two["loaded"]
    if name == "glow":
        np.testing.assert_allclose(answer, log_prob, 1e-5)
    else:
        np.testing.assert_allclose(answer[0], -log_prob.mean(), 1e-5)
    for key, value in one.items():
        if "variable" in key:
            np.testing.assert_allclose(two[key], value, 1e-4, 1e-5, err_msg=key)
        else:
            np.testing.assert_allclose(two[key], value, 1e-5, err_msg=key)


@pytest.mark.slow
def test_xla_compiles_for_one_device(distributed):
    refused = str(np.load(distributed / "distributed.npz")["refused"])
    assert "jit_compile=True works on one device" in refused and "has 2" in refused


@pytest.mark.slow
def test_unequal_parts_train_as_one(distributed):
    one, two = (dict(np.load(distributed / f"{k}.npz")) for k in ("one", "mirrored"))
    assert_trained_as_one(two, one)
    model = tfp_flows.FlowModel(normalised(seed=1))
    model.load_weights(distributed / "last.weights.h5")
    for i, v in enumerate(model.flow.variables):
        np.testing.assert_array_equal(v, two[f"variable_{i}"])


def test_a_flow_from_outside_the_scope():
    flow = vector(layers=1, depth=1)
    with (
        tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
        pytest.raises(ValueError, match=r"build both within strategy\.scope\(\)"),
    ):
        tfp_flows.FlowModel(flow)
