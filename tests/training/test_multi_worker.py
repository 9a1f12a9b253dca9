"""Training on several machines, here two processes, is training on one."""

from __future__ import annotations

import contextlib
import socket
import types

import numpy as np
import pytest

import tfp_flows
from tests.training.support import (
    assert_trained_as_one,
    normalised,
    run_children,
    train_whole,
)
from tfp_flows.training import multi_device


@pytest.mark.slow
def test_two_workers_train_as_one(tmp_path):
    """Both write their checkpoints to the same paths."""
    one = train_whole(None, tmp_path)
    (tmp_path / "last.weights.h5").rename(tmp_path / "one.weights.h5")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for s in sockets:
            s.bind(("localhost", 0))
        workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    run_children([("work", tmp_path, i, *workers) for i in range(2)])
    first, second = (dict(np.load(tmp_path / f"worker_{i}.npz")) for i in range(2))
    assert_trained_as_one(first, one)
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value, err_msg=key)
    assert "the same seed on each" in str(first["shuffled"])
    assert "different weights or epochs" in str(first["later"])
    assert "different weights" in str(first["different"])
    # What was written under the strategy is read on one device.
    model = tfp_flows.FlowModel(normalised(seed=1))
    model.load_weights(tmp_path / "last.weights.h5")
    for i, v in enumerate(model.flow.variables):
        np.testing.assert_array_equal(v, first[f"variable_{i}"])
    model.load_weights(tmp_path / "best.weights.h5")
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_files_of_workers_are_whole(tmp_path, monkeypatch):
    """Two that write at once, one of which fails."""
    monkeypatch.setattr(multi_device, "has_workers", lambda strategy: True)
    first, second = (
        types.SimpleNamespace(cluster_resolver=types.SimpleNamespace(task_id=i))
        for i in range(2)
    )
    target = tmp_path / "best.weights.h5"
    with multi_device.whole_file(target, first) as one:
        one.write_text("one")
        with multi_device.whole_file(str(target), second) as two:
            assert len({one, two, target}) == 3
            assert one.name.endswith(".weights.h5")
            two.write_text("two")
            assert not target.exists()
        assert target.read_text() == "two"
    assert target.read_text() == "one"
    with (
        pytest.raises(OSError, match="full"),
        multi_device.whole_file(target, first) as one,
    ):
        one.write_text("half")
        raise OSError("disk full")
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "one"
