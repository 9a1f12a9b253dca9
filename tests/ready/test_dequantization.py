"""Every ready flow as a distribution of integers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import SMALL
from tests.support import perturb
from tfp_flows import flows
from tfp_flows.distributions import VariationalDequantization

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

NOISE = {"name": "variational", "layers": 2, "depth": 1, "width": 4, "components": 2}
NAMES = ["nice", "real_nvp_image", "maf_image", "neural_spline_flow", "planar", "glow"]


@pytest.mark.parametrize("dequantize", ["uniform", NOISE], ids=["uniform", "learned"])
@pytest.mark.parametrize("name", NAMES)
def test_ready_flows_of_integers(name, dequantize):
    small = SMALL[name]
    flow = small.make(0, bounds=(0, 8), dequantize=dequantize)
    if isinstance(dequantize, dict) and small.build is not flows.glow:
        perturb(flow, 0.1)
    assert isinstance(flow, VariationalDequantization)
    assert (flow.levels, flow.name) == (8, small.build.__name__)
    sample = flow.sample(20, seed=0)
    assert set(np.unique(sample)) <= set(range(8))
    log_prob = flow.log_prob(sample, seed=1)
    assert (np.isfinite(log_prob) & (log_prob.numpy() < 0)).all()
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    assert again.config == flow.config
    for v, other in zip(flow.variables, again.variables, strict=True):
        other.assign(v)
    np.testing.assert_array_equal(again.log_prob(sample, seed=1), log_prob)


@pytest.mark.parametrize("dequantize", ["uniform", NOISE], ids=["uniform", "learned"])
def test_probabilities_are_those_of_the_intervals(dequantize):
    if dequantize != "uniform":
        dequantize = {**dequantize, "samples": 400}
    flow = flows.maf(
        (2,), layers=2, width=8, seed=0, bounds=(0, 3), dequantize=dequantize
    )
    perturb(flow)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 2), -1).reshape(-1, 2)
    found = np.exp(flow.log_prob(grid, seed=0, samples=400))
    fine = (np.arange(40) + 0.5) / 40
    inside = np.stack(np.meshgrid(fine, fine), -1).reshape(-1, 1, 2)
    points = tf.constant(grid + inside, tf.float32)
    expected = np.exp(flow.flow.log_prob(points)).mean(0)
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_labels_and_single_features():
    flow = flows.real_nvp(
        (3,), layers=1, width=4, num_classes=2, bounds=(0, 4), dequantize=NOISE
    )
    x = np.array([[0, 1, 3], [2, 2, 2]])
    assert flow.log_prob(x, context=[0, 1], seed=0).shape == (2,)
    uniform = flows.neural_spline_flow(
        (1,), autoregressive=True, width=4, bounds=(0, 4), dequantize="uniform"
    )
    assert uniform.sample(3, seed=0).shape == (3, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dequantize": "both"}, "dequantize must be one of 'uniform', 'variational'"),
        ({"bounds": (0.0, 1.5)}, r"bounds=\(0, K\); got bounds=\[0.0, 1.5\]"),
        ({"bounds": (1, 8)}, r"bounds=\(0, K\)"),
        ({"bounds": (0, 1)}, r"bounds=\(0, K\)"),
        ({"bounds": ([0, 0], [8, 8])}, r"bounds=\(0, K\)"),
        ({"dequantize": {**NOISE, "layers": 0}}, "layers must be at least 1"),
        ({"dequantize": {**NOISE, "samples": 0}}, "samples must be at least 1"),
        ({"dequantize": {**NOISE, "heads": 2}}, "heads is for"),
    ],
)
def test_errors(options, words):
    options = {"bounds": (0, 8), "dequantize": "uniform", **options}
    with pytest.raises(ValueError, match=words):
        flows.maf((2,), width=4, **options)
