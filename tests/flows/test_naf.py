"""What is particular to neural autoregressive flows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import fast_and_slow, perturb
from tfp_flows import flows
from tfp_flows.flows.naf import _TRANSFORMERS

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

SMALL = {"width": 8, "depth": 1, "components": 2, "layers": 1, "seed": 0}
DIRECT = ("analytic", "rational_quadratic", "linear_rational")


@pytest.mark.parametrize("transformer", _TRANSFORMERS)
def test_a_density_of_one_entry_integrates_to_one(transformer):
    flow = flows.naf((1,), transformer=transformer, dtype="float64", **SMALL)
    perturb(flow, 0.5)
    grid = np.linspace(-40, 40, 16_001)[:, None]
    log_prob = flow.log_prob(tf.constant(grid)).numpy()
    assert abs(np.exp(log_prob).mean() * 80 - 1) < 1e-3
    # It is no Gaussian, unlike one of affine transforms.
    curvature = np.diff(log_prob[7600:8400], 2)
    assert np.ptp(curvature) > 1e-2 * np.abs(curvature).max()


@pytest.mark.parametrize(
    "transformer", fast_and_slow(_TRANSFORMERS, "sigmoids", "bernstein", "analytic")
)
def test_densities_need_no_loop(transformer):
    flow = flows.naf((3,), transformer=transformer, **SMALL)
    x = tf.zeros([2, 3])

    def loops(function, value):
        graph = tf.function(function).get_concrete_function(value).graph
        return sum(op.type.endswith("While") for op in graph.get_operations())

    assert loops(flow.log_prob, x) == 0
    (name,) = {
        type(b.transformer).__name__
        for b in flow.submodules
        if hasattr(b, "transformer")
    }
    assert (name != "Inverted") == (transformer in DIRECT)


@pytest.mark.parametrize("order", ["reverse", "random"])
def test_samples_have_the_density_that_is_told(order):
    options = {**SMALL, "transformer": "bernstein", "layers": 2, "order": order}
    flow = perturb(flows.naf((3,), dtype="float64", **options))
    x, log_prob = flow.sample_and_log_prob(5, seed=0)
    again = flow.log_prob(tf.constant(x.numpy()))
    np.testing.assert_allclose(again, log_prob, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transformer": "spline"}, "'sigmoids', 'sigmoid_network'.*got 'spline'"),
        ({"components": 0}, "components must be at least 1"),
        ({"components": 1, "transformer": "cubic"}, "bins must be at least 2, got 1"),
        ({"order": "natural"}, "'reverse', 'random'; got 'natural'"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        flows.naf((3,), **{**SMALL, **options})
