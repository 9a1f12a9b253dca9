"""What is particular to neural spline flows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import fast_and_slow, perturb
from tfp_flows import FlowModel, flows

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

SMALL = {"width": 4, "depth": 1, "bins": 4, "seed": 0}


@pytest.mark.parametrize("linear", ["plu", "qr", "lu", "permutation"])
@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("size", fast_and_slow([2, 5], 5))
def test_two_transforms_change_every_entry(autoregressive, linear, size):
    x = tf.random.stateless_uniform((20, size), (0, 1), -1, 1)
    for seed in range(5):
        flow = flows.neural_spline_flow(
            (size,),
            autoregressive=autoregressive,
            linear=linear,
            layers=2,
            **{**SMALL, "seed": seed},
        )
        perturb(flow, 0.5)
        z = flow.encode(x).numpy()
        copies = np.abs(z[:, :, None] - x[:, None]).max(0) < 1e-6
        assert not copies.any()


def test_a_single_entry():
    flow = flows.neural_spline_flow((1,), autoregressive=True, **SMALL)
    perturb(flow, 0.5)
    grid = tf.constant(np.linspace(-8, 8, 20_001)[:, None], "float32")
    mass = np.mean(np.exp(flow.log_prob(grid))) * 16
    assert abs(mass - 1) < 1e-3
    with pytest.raises(ValueError, match="two or more features"):
        flows.neural_spline_flow((1,), **SMALL)


def test_linear_where_the_splines_end():
    """Beyond the bound of all splines, the flow is its linear layers."""
    flow = flows.neural_spline_flow(
        (2,), linear="permutation", layers=2, bound=1.5, dtype="float64", **SMALL
    )
    perturb(flow, 0.5)
    x = tf.constant([[1e6, -1e6], [2.0, 3.0]], tf.float64)
    np.testing.assert_array_equal(np.sort(flow.encode(x)), np.sort(x))
    inside = tf.constant([[1.0, 0.3]], tf.float64)
    assert np.abs(np.sort(flow.encode(inside)) - np.sort(inside)).min() > 1e-3


@pytest.mark.parametrize("spline", ["linear_rational", "cubic"])
def test_other_splines(spline):
    options = {**SMALL, "linear": "permutation", "spline": spline, "dtype": "float64"}
    flow = perturb(flows.neural_spline_flow((2,), layers=2, **options), 0.2)
    (spline_of_flow,) = {
        repr(b.transformer) for b in flow.submodules if hasattr(b, "transformer")
    }
    assert spline.replace("_", "") in spline_of_flow.lower()
    x = tf.constant([[0.3, -1.0], [5.0, 0.1]], tf.float64)
    np.testing.assert_allclose(flow.decode(flow.encode(x)), x, atol=1e-9)
    assert abs(mass(flow) - 1) < 1e-3


def mass(flow):
    """The integral of a density over two numbers."""
    ticks = np.linspace(-6, 6, 301)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    density = np.exp(flow.log_prob(tf.constant(grid, flow.dtype)))
    return density.sum() * (ticks[1] - ticks[0]) ** 2


def test_parameters_and_bins():
    """Durkan et al. 2019, section 3.1: 3K - 1 numbers for each entry."""
    flow = flows.neural_spline_flow(
        (4,), layers=1, linear="permutation", width=8, depth=1, bins=5
    )
    network = (2 * 8 + 8) + 2 * (8 * 8 + 8) + (8 + 1) * 2 * (3 * 5 - 1)
    assert sum(v.shape.num_elements() for v in flow.trainable_variables) == network


def test_as_the_authors_arrange_it():
    """A linear layer before each coupling and after the last, and marginal splines."""
    size, layers, bins = 4, 3, 5
    shared = {"layers": layers, "width": 8, "depth": 1, "bins": bins, "seed": 0}
    flow = flows.neural_spline_flow(
        (size,), linear="lu", marginals=True, normalize=False, **shared
    )
    # New splines are the identity, and new matrices permutations.
    x = np.arange(8.0, dtype=np.float32).reshape(2, size)
    np.testing.assert_array_equal(np.sort(flow.encode(x)), x)
    plain = flows.neural_spline_flow((size,), linear="permutation", **shared)
    count = lambda f: sum(v.shape.num_elements() for v in f.trainable_variables)
    matrices, splines = (layers + 1) * size**2, layers * size * (3 * bins - 1)
    assert count(flow) == count(plain) + matrices + splines


@pytest.mark.parametrize("autoregressive", [False, True])
def test_dropout_is_for_training(autoregressive):
    options = {**SMALL, "layers": 2, "width": 32, "normalize": False}
    options["autoregressive"] = autoregressive
    one, other = (
        flows.neural_spline_flow((3,), dropout=rate, **options) for rate in (0.5, 0.0)
    )
    for flow in (one, other):
        perturb(flow, 0.5)
    model = FlowModel(one)
    x = tf.random.stateless_normal((50, 3), (0, 1))
    np.testing.assert_array_equal(one.log_prob(x), other.log_prob(x))
    np.testing.assert_array_equal(model(x), one.log_prob(x))
    first, second = (model(x, training=True).numpy() for _ in range(2))
    assert (np.abs(first - second) > 1e-3).mean() > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"linear": "lr"}, "'plu', 'qr', 'lu', 'permutation'; got 'lr'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": 0.1, "recompute_gradients": True}, "recompute_gradients=False"),
        ({"autoregressive": True, "marginals": True}, "marginals is for couplings"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"bins": 1}, "bins must be at least 2, got 1"),
        ({"bound": -1.0}, "bound must be above 0"),
        ({"spline": "b"}, "'rational_quadratic', 'linear_rational', 'cubic'; got 'b'"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        flows.neural_spline_flow((3,), **{**SMALL, **options})
