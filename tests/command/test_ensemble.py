"""Several runs as one density."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.command import ensemble, files, tables
from tfp_flows.command import train as training
from tfp_flows.command.tables import standard_error

OPTIONS = ("--layers", 1, "--width", 4, "--batch-size", 16, "--learning-rate", 0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tables, "baselines", lambda *arguments: {})
    monkeypatch.setattr(training, "draw_pictures", lambda *arguments: ())


@pytest.fixture
def train(data):
    return lambda *more: ("train", data, "--flow", "real_nvp", "--verbose", 0, *more)


def read(directory):
    return json.loads((directory / "report.json").read_text())


def test_members_are_mixed(train, says, tmp_path):
    run = train(*OPTIONS, "-o", tmp_path, "--ensemble", 2)
    out = says(*run, "--epochs", 1)
    report = read(tmp_path)
    settings = files.read_settings(tmp_path / "member-1")
    assert (settings.member, settings.seed) == (1, 0)
    # All see the same test rows, and differ in what else is random.
    source = settings.load_data()
    x = source.arrays("test")[0]
    models = [files.load_model(tmp_path / f"member-{i}") for i in range(2)]
    parts = np.stack([m.flow.log_prob(x).numpy() for m in models])
    assert np.abs(parts[0] - parts[1]).max() > 1e-3
    mixture = tfd.Mixture(
        tfd.Categorical(logits=tf.zeros(2)), [model.flow for model in models]
    )
    log_q = mixture.log_prob(x).numpy().astype(np.float64)
    results = report["results"]
    assert results["log_likelihood"] == pytest.approx(log_q.mean(), rel=1e-5)
    assert results["standard_error"] == pytest.approx(standard_error(log_q), rel=1e-4)
    assert report["mean"] == pytest.approx(parts.mean(), rel=1e-5)
    assert report["deviation"] == pytest.approx(parts.mean(1).std(ddof=1), rel=1e-3)
    assert f"log-likelihood {results['log_likelihood']:.4f}" in out
    assert results["log_likelihood"] >= report["mean"]
    line = says("evaluate", tmp_path).splitlines()[0]
    assert line in out
    # Each sample is that of one of them.
    says("sample", tmp_path, "-n", 50, "--seed", 3, "-o", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy")
    of_each = [ensemble.sample([m], 50, seed=3) for m in models]
    found = [(x == one).all(1) for one in of_each]
    assert np.sum(found) == 50 and np.all(np.sum(found, 1) > 10)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_number(train, says, tmp_path):
    run = train(*OPTIONS, "--epochs", 1)
    says(*run, "-o", tmp_path / "all", "--ensemble", 2)
    # The first one is what a single run would be, and so is each, by its settings.
    says(*run, "-o", tmp_path / "one")
    settings = files.read_settings(tmp_path / "all" / "member-1")
    training.train(settings, tmp_path / "other", verbose=0)
    for i, name in enumerate(("one", "other")):
        found = read(tmp_path / "all" / f"member-{i}")["results"]
        assert read(tmp_path / name)["results"] == found


@pytest.mark.slow
def test_it_goes_on_and_grows(train, says, fails, tmp_path):
    says(*train(*OPTIONS, "-o", tmp_path, "--ensemble", 1, "--epochs", 1))
    more = train("-o", tmp_path, "--resume", "--epochs", 2)
    assert "2 members in" in says(*more, "--ensemble", 2)
    for i in range(2):
        training = read(tmp_path / f"member-{i}")["training"]
        assert training["epochs"] == 2 and training["resumed"] is (i == 0)
    assert "has 2 members, more than 1" in fails(*more, "--ensemble", 1)
    one, other = (files.read_settings(tmp_path / f"member-{i}") for i in range(2))
    assert one.flow_options == other.flow_options and one.batch_size == 16
    assert other.member == 1


def test_no_ensemble_to_resume(train, fails, tmp_path):
    assert "there is no ensemble in" in fails(
        *train("-o", tmp_path, "--resume", "--ensemble", 2)
    )
