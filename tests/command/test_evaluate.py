"""Likelihoods and samples of trained models."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tfp_flows
from tests.support import perturb
from tfp_flows import datasets, flows, latent
from tfp_flows.command import evaluate as module
from tfp_flows.command.evaluate import evaluate, sample
from tfp_flows.training import initialize


@pytest.fixture(scope="module")
def model():
    flow = flows.real_nvp((2,), layers=2, width=4, normalize=False, seed=0)
    return tfp_flows.FlowModel(perturb(flow, 0.5, seed=0))


def test_evaluate(model, settings):
    source = settings.load_data()
    results = evaluate(model, source, "train", settings)
    log_q = model.flow.log_prob(source.arrays("train")[0]).numpy().astype(float)
    assert results == {
        "split": "train",
        "examples": 52,
        "exactness": "exact",
        "log_likelihood": pytest.approx(log_q.mean(), rel=1e-6),
        "standard_error": pytest.approx(log_q.std(ddof=1) / math.sqrt(52), rel=1e-5),
        "bits_per_dim": pytest.approx(-log_q.mean() / (2 * math.log(2)), rel=1e-6),
    }
    toy = datasets.load("moons", n=(10, 0, 2000))
    points = toy.arrays("test")[0]
    results = evaluate(model, toy)
    difference = datasets.TOYS["moons"].log_prob(points) - model.flow.log_prob(points)
    assert results["kl"] == pytest.approx(np.mean(difference), rel=1e-5)
    assert results["kl"] > 3 * results["kl_standard_error"] > 0
    with pytest.raises(ValueError, match=r"validation split .* empty"):
        evaluate(model, toy, "validation")
    with pytest.raises(ValueError, match=r"shape \[3\].*over \[2\]"):
        evaluate(model, datasets.load(np.zeros((20, 3))))


def test_bits_of_a_uniform_density():
    # The logistic density of the logit is the uniform one.
    flow = flows.nice(
        (2, 2, 1), layers=1, depth=1, width=2, bounds=(0, 256), logit_margin=1e-6
    )
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 2), dtype=np.uint8)
    initialize(flow, pixels[..., None].astype(np.float32))
    for v in flow.trainable_variables:
        v.assign(v * 0)
    results = evaluate(tfp_flows.FlowModel(flow), datasets.load(pixels))
    assert results["bits_per_dim"] == pytest.approx(8.0, abs=1e-4)
    assert results["log_likelihood_unit"] == pytest.approx(0.0, abs=1e-3)


def test_sampling_labels():
    flow = flows.real_nvp(
        (2,), layers=2, width=4, normalize=False, num_classes=3, seed=0
    )
    draw = np.random.default_rng(0)
    for v in flow.trainable_variables:
        v.assign_add(0.5 * draw.standard_normal(v.shape).astype(np.float32))
    model = tfp_flows.FlowModel(flow)
    x = sample(model, 7, seed=3)
    assert x.shape == (7, 2)
    expected = flow.sample(seed=3, context=np.array([0, 1, 2, 0, 1, 2, 0], np.int32))
    np.testing.assert_array_equal(x, expected)
    ones = sample(model, 7, label=1, seed=3)
    np.testing.assert_array_equal(ones[[1, 4]], x[[1, 4]])
    assert (ones[[0, 2, 3, 5, 6]] != x[[0, 2, 3, 5, 6]]).all()
    for label in (3, -1):
        with pytest.raises(ValueError, match="label must be from 0 to 2"):
            sample(model, 2, label=label)


def test_sampling_with_guidance(model):
    flow = flows.tarflow((2,), layers=2, width=4, depth=1, num_classes=3, seed=0)
    given = tfp_flows.FlowModel(perturb(flow, 0.5))
    x = sample(given, 4, guidance=1.0, temperature=0.7, seed=2)
    how = {"seed": 2, "temperature": 0.7}
    expected = latent.guided_sample(flow, np.array([0, 1, 2, 0]), 1.0, **how)
    np.testing.assert_array_equal(x, expected)
    assert np.abs(x - sample(given, 4, **how)).max() > 0.01
    softer = {"attention_temperature": 2.0}
    x = sample(given, 4, guidance=1.0, **softer, seed=2)
    expected = latent.guided_sample(flow, np.array([0, 1, 2, 0]), seed=2, **softer)
    np.testing.assert_array_equal(x, expected)
    with pytest.raises(ValueError, match=r"guidance=1\.0 needs a model of classes, or"):
        sample(model, 4, guidance=1.0)
    with pytest.raises(ValueError, match="needs a guidance"):
        sample(given, 4, **softer)


def test_sampling_with_guidance_and_no_classes():
    flow = flows.tarflow((2,), layers=2, width=4, depth=1, normalize=False, seed=0)
    model = tfp_flows.FlowModel(perturb(flow, 0.5))
    x = sample(model, 3, guidance=2.0, attention_temperature=2.0, seed=2)
    expected = latent.guided_sample(
        flow, weight=2.0, n=3, attention_temperature=2.0, seed=2
    )
    np.testing.assert_array_equal(x, expected)


def test_many_samples_are_drawn_in_parts(monkeypatch):
    flow = flows.real_nvp((2,), layers=2, width=4, normalize=False, num_classes=3)
    model = tfp_flows.FlowModel(perturb(flow, 0.5, seed=0))
    monkeypatch.setattr(module, "_PART_SAMPLES", 10)
    x = sample(model, 25, seed=3)
    assert x.shape == (25, 2)
    np.testing.assert_array_equal(x[:10], sample(model, 10, seed=3))
    np.testing.assert_array_equal(x, sample(model, 25, seed=3))
    assert len(np.unique(x[:, 0])) == 25
    # The classes go on in turn: the second part begins with class 1.
    second = sample(model, 25, label=1, seed=3)
    np.testing.assert_array_equal(second[10::3], x[10::3])
    assert (second[11::3] != x[11::3]).all()


def test_sampling_a_model_without_classes(model):
    with pytest.raises(ValueError, match="no classes"):
        sample(model, 2, label=0)
    flow = flows.real_nvp((2,), layers=2, width=4, normalize=False, context_shape=(3,))
    with pytest.raises(ValueError, match=r"contexts of shape \[3\]"):
        sample(tfp_flows.FlowModel(flow), 2)


def test_labels_that_the_model_does_not_know(tmp_path):
    flow = flows.real_nvp((2,), layers=2, width=4, normalize=False, num_classes=2)
    x = datasets.TOYS["moons"].sample(30, 0)
    source = datasets.load({"x": x, "labels": np.arange(30) % 3})
    with pytest.raises(ValueError, match=r"3 classes.*2"):
        evaluate(tfp_flows.FlowModel(flow), source)
