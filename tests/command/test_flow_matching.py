"""Runs that are trained by flow matching."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal

import keras
import numpy as np
import pytest

from tests.command.support import call
from tfp_flows.command import files, progress
from tfp_flows.command import train as training
from tfp_flows.training import FlowMatching

TINY = ["--width", 4, "--depth", 1, "--steps", 2, "--batch-size", 16, "--verbose", 0]
BY_MATCHING = ["--objective", "flow_matching"]


def train(data, output, *options):
    return [
        "train",
        data,
        "--flow",
        "ffjord",
        *TINY,
        *BY_MATCHING,
        "-o",
        output,
        *options,
    ]


def rows(directory):
    with (directory / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The directory of a run of one epoch."""
    output = tmp_path_factory.mktemp("matching") / "run"
    options = ["--epochs", 1, "--pairing", "optimal_transport"]
    assert call(*train(data, output, *options)) == 0
    return output


def test_a_run_reports_the_density(run, says, tmp_path):
    model = files.load_model(run)
    assert type(model) is FlowMatching and model.pairing == "optimal_transport"
    report = json.loads((run / "report.json").read_text())
    assert report["settings"]["objective"] == "flow_matching"
    # Of the equation, on the test split.
    x = files.read_settings(run).load_data().arrays("test")[0]
    nats = float(np.mean(model.flow.log_prob(x.astype("float32"))))
    assert report["results"]["log_likelihood"] == pytest.approx(nats, rel=1e-5)
    assert f"{nats:.3f}" in says("evaluate", run)
    (row,) = rows(run)
    assert {"velocity_error", "val_velocity_error", "val_nll"} <= row.keys()
    assert "nll" not in row
    assert {"loss.png", "density.png", "samples.npy"} <= {p.name for p in run.iterdir()}
    says("sample", run, "-n", 5, "-o", tmp_path / "x.npy")
    np.testing.assert_array_equal(
        np.load(tmp_path / "x.npy"), model.flow.sample(5, seed=0)
    )


@pytest.mark.slow
def test_it_is_resumed_within_an_epoch(run, tmp_path):
    settings = dataclasses.replace(files.read_settings(run), epochs=3)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 6:
                signal.raise_signal(signal.SIGINT)

    options = {"verbose": 0, "resume": False}
    with pytest.raises(progress.Interrupted):
        training.train(settings, tmp_path, callbacks=[Interrupt()], **options)
    report = training.train(settings, tmp_path, **{**options, "resume": True})
    assert report["training"]["epochs"] == 3 and report["training"]["resumed"]
    assert [row["epoch"] for row in rows(tmp_path)] == ["0", "1", "2"]
    assert type(files.load_model(tmp_path / "last.keras")) is FlowMatching


def test_what_is_refused(run, data, fails, tmp_path):
    again = ["train", data, "--flow", "ffjord", "-o", run, "--resume", "--epochs", 2]
    line = fails(*again, "--objective", "likelihood")
    assert "pairing is for objective='flow_matching'" in line
    line = fails("train", data, "--flow", "nice", *BY_MATCHING, "-o", tmp_path)
    assert "objective='flow_matching': flow must end" in line and "ffjord" in line
    line = fails(*train(data, tmp_path, "--base", "diagonal"))
    assert "diagonal_normal would be trained" in line
    pairing = ["--pairing", "optimal_transport"]
    line = fails("train", data, "--flow", "ffjord", *pairing, "-o", tmp_path)
    assert "pairing is for objective='flow_matching'" in line
    line = fails(*train(data, tmp_path, *pairing, "--jit"))
    assert "jit_compile must be False" in line
    assert list(tmp_path.iterdir()) == []
