"""Training that is interrupted, and training on several devices."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from tests.training.conftest import assert_same, run_child, train_glow, values


def test_a_killed_training_goes_on(tmp_path):
    """Killed in the second epoch, started again: the weights of one that ran through.

    The flow has an optimizer with state, and parts that data initialise.
    """
    run_child("back_up", tmp_path, "killed", returncode=-signal.SIGKILL)
    assert (tmp_path / "backup" / "latest.weights.h5").exists()
    assert not (tmp_path / "resumed.npz").exists()
    run_child("back_up", tmp_path, "alive")
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
    return dict(np.load(directory / "distributed.npz"))


@pytest.mark.parametrize("name", ["glow", "batch_norm"])
def test_two_devices_train_as_one(distributed, name):
    """ActNorm starts from the whole first batch; BatchNorm sees all replicas'."""
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
