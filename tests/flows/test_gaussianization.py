"""What is particular to Gaussianization flows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import datasets, flows, training


def test_the_start_is_an_estimate_already_and_layers_make_it_better():
    x = datasets.TOYS["moons"].sample(4000, 0)
    new = datasets.TOYS["moons"].sample(2000, 1)
    truth = np.mean(datasets.TOYS["moons"].log_prob(new))

    def loss(layers):
        flow = flows.gaussianization((2,), layers=layers, components=16, seed=0)
        training.initialize(flow, x)
        return truth - np.mean(flow.log_prob(new))

    losses = [loss(layers) for layers in (1, 3, 9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]


def test_densities_need_no_loop():
    flow = flows.gaussianization((3,), layers=2, components=2, seed=0)
    training.initialize(flow, np.random.default_rng(0).normal(size=[20, 3]))
    graph = tf.function(flow.log_prob).get_concrete_function(tf.zeros([2, 3])).graph
    assert not any("While" in op.type for op in graph.get_operations())


def test_a_context_decides():
    options = {"layers": 2, "components": 2, "width": 4, "depth": 1, "seed": 0}
    flow = flows.gaussianization((3,), num_classes=2, dtype="float64", **options)
    x = np.random.default_rng(0).normal(size=[20, 3])
    training.initialize(flow, x, np.arange(20) % 2)
    perturb(flow, 0.5)
    first, second = (flow.log_prob(x, context=[k] * 20).numpy() for k in (0, 1))
    assert np.abs(first - second).min() > 1e-4
    x, log_prob = flow.sample_and_log_prob(seed=0, context=[0, 1, 1])
    again = flow.log_prob(tf.constant(x.numpy()), context=[0, 1, 1])
    np.testing.assert_allclose(again, log_prob, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 4}, "width is for the networks that see a context"),
        ({"context_shape": (2, 2)}, r"context_shape must be.*\(C,\), got \(2, 2\)"),
        ({"components": 0}, "components must be at least 1"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        flows.gaussianization((3,), **options)
