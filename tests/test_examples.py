"""The examples run, and do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import datasets
from tfp_flows.bijectors import ResidualFlow

EXAMPLES = Path(__file__).parent.parent / "examples"
WEIGHTS = ("classifier", "1/D", "1", "flow alone")


def test_every_example_is_run_here():
    run = {
        name.removeprefix("test_")
        for name in globals()
        if name.startswith("test_") and name != "test_every_example_is_run_here"
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run


@pytest.mark.slow
def test_invertible_resnet(capsys):
    example = runpy.run_path(str(EXAMPLES / "invertible_resnet.py"))
    model, accuracy, bits = example["main"](epochs=8, blocks=1, width=16)
    assert accuracy > 0.8
    # 4.6 before training; 17 grey levels without any structure have log2(17) = 4.09.
    assert bits < 4.0
    assert "test accuracy" in capsys.readouterr().out
    flow = model.flow
    images = datasets.load("digits").arrays("test", 32)[0] + 0.5
    z = flow.encode(images)
    assert z.shape == (32, 4, 4, 4)
    np.testing.assert_allclose(flow.decode(z) / 17, images / 17, atol=1e-4)
    sample = flow.sample(4, seed=0)
    assert sample.shape == (4, 8, 8, 1)
    again = flow.decode(flow.encode(sample))
    np.testing.assert_allclose(again / 17, sample / 17, atol=1e-4)
    blocks = [m for m in flow.submodules if isinstance(m, ResidualFlow)]
    assert [b.log_det for b in blocks] == ["roulette", "roulette"]


@pytest.mark.slow
def test_hybrid_digits(capsys):
    example = runpy.run_path(str(EXAMPLES / "hybrid_digits.py"))
    found = example["main"](epochs=15, kinds=("coupling",))
    classifier, hybrid, _, alone = (found["coupling", n] for n in WEIGHTS)
    assert classifier["accuracy"] > 0.9 and hybrid["accuracy"] > 0.85
    assert hybrid["bits_per_dim"] < alone["bits_per_dim"] + 0.5
    assert classifier["bits_per_dim"] > alone["bits_per_dim"] + 1.0
    assert "coupling, 1/D: " in capsys.readouterr().out


@pytest.mark.slow
def test_flow_vae(capsys):
    example = runpy.run_path(str(EXAMPLES / "flow_vae.py"))
    example["CASES"].pop("planar")
    found, vae = example["main"]("digits", epochs=10, evaluated=64, k=16)
    # 64 pixels without any structure have 64 log 2 = 44.4 nats.
    # Pixels are drawn anew for each of the two numbers.
    assert all(-40.0 < bound < likely + 0.5 for bound, likely in found.values())
    assert vae.decode(vae.prior.sample(4, seed=0)).mean().shape == (4, 8, 8, 1)
    assert "IAF: bound -" in capsys.readouterr().out


@pytest.mark.slow
def test_eight_schools(capsys):
    example = runpy.run_path(str(EXAMPLES / "eight_schools.py"))
    found, mu, log_tau = example["main"](steps=1500, nuts_steps=500)
    bounds = [found[name].bound for name in ("mean field", "normal", "flow")]
    assert bounds == sorted(bounds) and bounds[2] > bounds[1] + 1.0
    assert found["flow"].pareto_k < 0.8
    # Ten thousands of samples have 4.36 and 3.57.
    assert np.mean(mu) == pytest.approx(4.4, abs=0.3)
    assert np.mean(np.exp(log_tau)) == pytest.approx(3.6, abs=0.4)
    assert np.mean(found["flow"].samples.mu) == pytest.approx(np.mean(mu), abs=0.3)
    assert "NUTS 4." in capsys.readouterr().out


@pytest.mark.slow
def test_logistic_regression(capsys):
    example = runpy.run_path(str(EXAMPLES / "logistic_regression.py"))
    found = example["main"](steps=1500, features=5)
    bounds = [found[name].bound for name in ("mean field", "normal", "flow")]
    assert bounds == sorted(bounds)
    # One number, by two surrogates.
    evidence = [found[name].log_evidence for name in ("normal", "flow")]
    assert evidence[0] == pytest.approx(evidence[1], abs=0.2)
    assert "test accuracy 0." in capsys.readouterr().out


@pytest.mark.slow
def test_neutra_funnel(capsys):
    example = runpy.run_path(str(EXAMPLES / "neutra_funnel.py"))
    found = example["main"](train_steps=1000, steps=500)
    for name in ("funnel", "banana"):
        assert found[f"{name}, NeuTra"] > 2 * found[f"{name}, HMC"]
    assert "per 1000 gradients" in capsys.readouterr().out


def test_multi_worker(tmp_path):
    """On one device; `tests/training/test_multi_worker.py` is about several."""
    train = runpy.run_path(str(EXAMPLES / "multi_worker.py"))["train"]
    strategy = tf.distribute.get_strategy()
    (first,) = train(strategy, tmp_path, 1, "float32")
    # Started again, it goes on where it stopped.
    (second,) = train(strategy, tmp_path, 2, "float32")
    assert second < first
