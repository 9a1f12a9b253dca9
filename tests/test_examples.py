"""The examples run, and do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.bijectors import ResidualFlow

EXAMPLES = Path(__file__).parent.parent / "examples"


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
    model, accuracy, bits = example["main"](epochs=7, blocks=1, width=16)
    assert accuracy > 0.8
    # 4.6 before training; 17 grey levels without any structure have log2(17) = 4.09.
    assert bits < 4.0
    assert "test accuracy" in capsys.readouterr().out
    flow = model.density.flow
    images = example["load"]()[1][0][:32]
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


@pytest.mark.slow
def test_two_moons_inference(capsys):
    example = runpy.run_path(str(EXAMPLES / "two_moons_inference.py"))
    accuracy, results = example["main"](4000, epochs=40, observations=1, samples=500)
    # A normal distribution, or the prior, would be above 0.9.
    assert accuracy < 0.75
    assert results["coverage"].p_value > 0.001
    assert "mean C2ST 0." in capsys.readouterr().out
