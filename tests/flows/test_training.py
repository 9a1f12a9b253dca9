"""Ready flows train with `compile()` and `fit`, on data as they come."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from sklearn import datasets

from tests.flows.support import SURFACES
from tests.support import fast_and_slow
from tfp_flows import FlowModel, flows, training

# Small networks, where their size is not the point.
SIZES = {
    "nice": {"width": 32},
    "real_nvp": {"width": 16},
    "maf": {"width": 32, "layers": 3},
    "naf": {"width": 32, "layers": 2, "components": 4},
    "bnaf": {"width": 4, "layers": 2},
    "gaussianization": {"layers": 3, "components": 8},
    "iaf": {"width": 32, "layers": 1, "depth": 1},
    "neural_spline_flow": {"width": 16, "layers": 2},
    "planar": {"layers": 4},
    "radial": {"layers": 8},
    "sylvester": {"layers": 2},
    "residual_flow": {"layers": 2, "width": 16},
    "flow_plus_plus": {"width": 16, "layers": 2, "components": 4, "depth": 1},
    "tarflow": {"width": 16, "layers": 2, "depth": 1},
    "ffjord": {"width": 16, "depth": 1, "steps": 1},
}
IMAGE_SIZES = {
    "nice": {"width": 64},
    "real_nvp": {"width": 8, "depth": 1},
    "glow": {"width": 16, "steps": 4},
    "residual_flow": {"layers": 1, "width": 8},
    "flow_plus_plus": {
        "width": 8,
        "layers": 1,
        "components": 4,
        "depth": 1,
        "heads": 2,
    },
    "tarflow": {"width": 32, "layers": 2, "depth": 1},
    "jet": {"width": 32, "layers": 5, "depth": 1},
}
ALL = {name: flow for name, flow in flows.READY.items() if ":" not in name}


@functools.cache
def moons():
    return datasets.make_moons(640, noise=0.05, random_state=0)[0]


@functools.cache
def cancer():
    """A table in raw units: deviations from 0.003 to 570."""
    return datasets.load_breast_cancer().data


@functools.cache
def scales():
    draw = np.random.default_rng(0)
    return draw.standard_normal((640, 20)) * np.geomspace(0.5, 325, 20)


@functools.cache
def digits():
    x = datasets.load_digits().images[:640, ..., None]
    return x + np.random.default_rng(0).uniform(size=x.shape)


@functools.cache
def smooth():
    """48 images of 32x32x3 of a few waves, as 8-bit pixels with noise."""
    draw = np.random.default_rng(0)
    grid = np.linspace(0, 1, 32)
    x = np.zeros((48, 32, 32, 3))
    for _ in range(4):
        a, b, phase, height = draw.uniform(-6, 6, (4, 48, 1, 1, 1))
        color = draw.uniform(0, 1, (48, 1, 1, 3))
        wave = np.sin(a * grid[:, None, None] + b * grid[:, None] + phase)
        x = x + height * color * wave
    x = 255 * (x - x.min()) / np.ptp(x)
    return np.floor(x) + draw.uniform(size=x.shape)


def train(flow, x, steps):
    """nll before and after some steps of defaults, and samples in units of ranges."""
    keras.utils.set_random_seed(0)
    x = x.astype("float32")
    model = FlowModel(flow)
    model.compile()
    training.initialize(flow, x)
    before = model.evaluate(x[:256], verbose=0, return_dict=True)["nll"]
    rows = np.random.default_rng(1).integers(0, len(x), (steps, 64))
    model.fit(x[rows.ravel()], batch_size=64, shuffle=False, verbose=0)
    after = model.evaluate(x[:256], verbose=0, return_dict=True)["nll"]
    sample = flow.sample(200 if x[0].size <= 64 else 50, seed=0).numpy()
    # Of each feature; images have one range for all positions.
    axes = tuple(range(x.ndim - 1)) if x.ndim == 4 else 0
    center, half = (x.max(axes) + x.min(axes)) / 2, np.ptp(x, axes) / 2
    far = (np.abs(sample - center) / half).reshape(len(sample), -1).max(1)
    return before, after, far


def check(flow, x, steps=20, furthest=20.0):
    before, after, far = train(flow, x, steps)
    assert np.isfinite([before, after]).all()
    assert after < before
    assert np.isfinite(far).all()
    # The noise of a flow that has not begun lies within five half ranges of 0: the
    # largest of 64 standard normal numbers, where data fill [-0.5, 0.5]. Of 3,072
    # the largest is 1.4 times as far, and averages of BatchNorm lag behind.
    assert np.median(far) < (5.5 if x[0].size <= 64 else 10.0)
    assert far.max() < furthest


# By default a flow or two of each kind of computation.
@pytest.mark.parametrize(
    "name",
    fast_and_slow(SIZES, "real_nvp", "maf", "neural_spline_flow", "radial", "tarflow"),
)
def test_a_table_in_raw_units(name):
    check(ALL[name]((30,), seed=0, **SIZES[name]), cancer())


# Samples of 30 features take a residual flow long.
@pytest.mark.parametrize(
    "name", fast_and_slow(["residual_flow", "planar", "ffjord"], "residual_flow")
)
def test_pairs(name):
    check(ALL[name]((2,), seed=0, **SIZES[name]), moons())


LAYERS = {"nice": 32, "real_nvp": 32, "neural_spline_flow": 12, "maf": 3}


@pytest.mark.parametrize("name", fast_and_slow(LAYERS, "maf"))
def test_twenty_features_in_many_units(name):
    options = {**SIZES[name], "layers": LAYERS[name]}
    check(ALL[name]((20,), seed=0, **options), scales())


@pytest.mark.parametrize("name", fast_and_slow(IMAGE_SIZES, "nice"))
def test_digits(name):
    # One without a logit suffices.
    logit_margin = None if name == "glow" else 0.05
    options = {"bounds": (0, 17), "logit_margin": logit_margin, **IMAGE_SIZES[name]}
    check(ALL[name]((8, 8, 1), seed=0, **options), digits())


@pytest.mark.slow
def test_averages_of_batch_norm_keep_up_with_training():
    """Densities by them are near to those by the statistics of the data themselves."""
    x = digits().astype("float32")
    flow = flows.real_nvp((8, 8, 1), width=16, depth=1, seed=0)
    model = FlowModel(flow)
    model.compile()
    keras.utils.set_random_seed(0)
    model.fit(x, epochs=4, verbose=0)
    by_averages = -np.mean(flow.log_prob(x))
    by_statistics = -np.mean(flow.log_prob(x, training=True))
    assert by_averages < by_statistics + 5.0


# Networks of all pixels, convolutions with and without attention, and transformers.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["nice", "glow", "flow_plus_plus", "tarflow"])
def test_colour_images(name):
    options = {"bounds": (0, 256), **IMAGE_SIZES[name]}
    check(ALL[name]((32, 32, 3), seed=0, **options), smooth(), steps=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "data"),
    [("real_nvp", 32, scales), ("flow_plus_plus", 16, cancer)],
)
def test_many_couplings_of_the_default_width(name, layers, data):
    check(ALL[name](data().shape[1:], layers=layers, seed=0), data())


@pytest.mark.slow
def test_glow_of_32_steps_and_width_512():
    x = np.random.default_rng(0).standard_normal((32, 8, 8, 1))
    flow = flows.glow((8, 8, 1), seed=0)
    check(flow, x, steps=2)


def test_every_ready_flow_is_trained_here():
    # Those of surfaces have data of their own, in `test_surfaces.py`.
    assert {*SIZES, *IMAGE_SIZES, *SURFACES} >= set(ALL)
