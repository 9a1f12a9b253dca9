"""Ready flows of angles, directions and shares."""

from __future__ import annotations

import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.command.support import call
from tests.flows.support import SURFACES, gradients
from tests.support import close, fast_and_slow, perturb
from tfp_flows import FlowModel, flows

every = pytest.mark.parametrize("small", SURFACES.values(), ids=SURFACES)


def cells(low, high, count):
    """Middles of the cells of a grid over a rectangle, and the size of a cell."""
    sides = [
        a + (np.arange(count) + 0.5) * (b - a) / count
        for a, b in zip(low, high, strict=True)
    ]
    size = math.prod((b - a) / count for a, b in zip(low, high, strict=True))
    return np.array(list(itertools.product(*sides))), size


def on_torus(period):
    return cells([-period / 2] * 2, [period / 2] * 2, 60)


def on_sphere():
    """Heights and angles of equal area."""
    grid, area = cells([-1, -math.pi], [1, math.pi], 80)
    height, angle = grid.T
    radius = np.sqrt(1 - height**2)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)
    return x, area


def on_simplex():
    """Points of a density that is large at the edges, per unit of two shares.

    The triangle that they are in is larger by root three.
    """
    known = tfd.Dirichlet(np.full(3, 0.3))
    x = known.sample(100_000, seed=0)
    x = x[tf.reduce_min(x, 1) > 1e-12].numpy()
    return x, math.sqrt(3) / known.prob(x).numpy() / 100_000


@pytest.mark.parametrize(
    ("build", "options", "grid"),
    [
        (flows.torus, {"event_shape": (2,), "period": 24.0}, lambda: on_torus(24)),
        (flows.sphere, {"event_shape": (3,)}, on_sphere),
        (flows.simplex, {"event_shape": (3,)}, on_simplex),
    ],
    ids=["torus", "sphere", "simplex"],
)
@pytest.mark.parametrize("given", [False, True])
def test_densities_integrate_to_one(build, options, grid, given):
    small = {"layers": 2, "bins": 4, "width": 8, "depth": 1, "dtype": "float64"}
    flow = build(**options, **small, seed=0, context_shape=(1,) if given else None)
    perturb(flow, 0.15)
    x, area = grid()
    keywords = {"context": np.full((len(x), 1), 0.7)} if given else {}
    density = np.exp(flow.log_prob(x, **keywords))
    assert density.std() > 0.1 * density.mean()
    close((density * area).sum(), 1.0, 0.01)
    # Samples have the mean of the density.
    keywords = {"context": [[0.7]]} if given else {}
    sample = np.reshape(flow.sample(20_000, seed=0, **keywords), (-1, x.shape[1]))
    mean = (x * (density * area)[:, None]).sum(0)
    close(sample.mean(0) / x.std(), mean / x.std(), 0.05)


def test_a_single_angle():
    for options in ({}, {"context_shape": (1,)}):
        flow = flows.torus(
            (1,), bins=4, period=360.0, seed=0, dtype="float64", **options
        )
        perturb(flow, 0.3)
        x = np.linspace(0, 360, 2000, endpoint=False)[:, None]
        keywords = {"context": np.full((2000, 1), 0.3)} if options else {}
        density = np.exp(flow.log_prob(x, **keywords))
        close(density.mean() * 360, 1.0, 0.01)
        close(flow.log_prob(x - 360, **keywords), np.log(density), 1e-6)


@every
def test_round_trip_and_gradients(small):
    flow = small.make(0.1, dtype="float64")
    x = small.data(16)
    z = flow.encode(x)
    assert z.shape == (16, *flow.distribution.event_shape)
    back = flow.decode(z)
    if small.build is flows.torus:
        x = (x.numpy() + np.pi) % (2 * np.pi) - np.pi
    close(back, x, 1e-8)
    for v, g in zip(flow.trainable_variables, gradients(flow, x), strict=True):
        assert g is not None and np.abs(g).max() > 0, v.name
    assert flow.log_prob(x[:0]).shape == (0,)
    assert flow.sample((2, 3), seed=0).shape == (2, 3, *small.shape)
    given = small.make(0.1, num_classes=3)
    x = small.data(3, "float32")
    one, other = (given.log_prob(x, context=[i] * 3) for i in (0, 2))
    assert np.abs(one - other).min() > 1e-4


@pytest.mark.parametrize("name", fast_and_slow(SURFACES, "torus_one"))
@pytest.mark.parametrize("jit", [False, True])
def test_compiled(name, jit):
    small = SURFACES[name]
    flow, x = small.make(0.1, dtype="float64"), small.data()
    log_prob = tf.function(flow.log_prob, jit_compile=jit)
    close(log_prob(x), flow.log_prob(x), 1e-8)
    z = flow.encode(x)
    close(tf.function(flow.decode, jit_compile=jit)(z), flow.decode(z), 1e-8)


@every
def test_config_and_saving(small, tmp_path):
    flow = small.make(0.2)
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    assert again.config == flow.config
    FlowModel(flow).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = small.data(dtype="float32")
    close(loaded.flow.log_prob(x), flow.log_prob(x), 1e-6)


WRONG = {
    "torus": ([[0.1, 0.2], [6.0, 200.0]], r"angles from -6\.28319 to 6\.28319; row 1"),
    "sphere": ([[0.6, 0.0, 0.8], [0.6, 0.1, 0.9]], "unit vectors; row 1"),
    "simplex": ([[0.5, 0.5], [0.3, 0.3]], "positive numbers that add up to one; row 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_data_elsewhere_name_the_row(name):
    rows, words = WRONG[name]
    flow = flows.READY[name]((len(rows[0]),), layers=1, width=4)
    model = FlowModel(flow)
    model.compile("adam")
    with pytest.raises(ValueError, match=f"x must hold {words}, counted from 0"):
        model.fit(np.array(rows), verbose=0)
    np.testing.assert_array_equal(np.isfinite(flow.log_prob(rows)), [True, False])
    for options in ({"noise": 0.1}, {"dequantize": True}):
        with pytest.raises(ValueError, match="off the surface"):
            FlowModel(flow, **options)


def test_other_shapes():
    with pytest.raises(ValueError, match=r"sphere needs event_shape \(3,\).*\(4,\)"):
        flows.sphere((4,))
    with pytest.raises(ValueError, match="event_shape must be at least 2, got 1"):
        flows.simplex((1,))
    for build in (flows.torus, flows.sphere, flows.simplex):
        with pytest.raises(ValueError, match=r"vectors, \(D,\)"):
            build((4, 4, 1))


def table(name):
    """Data of known densities, and these; per unit of the flow's surface."""
    if name == "torus":
        known = tfd.Independent(tfd.VonMises([3.0, -1.0], [4.0, 2.0]), 1)
        return known.sample(2000, seed=0), known.log_prob
    if name == "sphere":
        known = tfd.VonMisesFisher([0.6, 0.0, 0.8], 5.0)
        return known.sample(2000, seed=0), known.log_prob
    known = tfd.Dirichlet([2.0, 3.0, 5.0])
    return known.sample(2000, seed=0), lambda x: known.log_prob(x) - 0.5 * math.log(3)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_known_densities_are_learnt_from_the_command_line(name, tmp_path):
    x, log_prob = table(name)
    path, output = tmp_path / "x.csv", tmp_path / "run"
    np.savetxt(path, x, delimiter=",", fmt="%.9g")
    options = ["--epochs", 8, "--width", 16, "--learning-rate", 0.01]
    words = ["train", path, "--flow", name, "-o", output, "--verbose", 0, *options]
    assert call(*words) == 0
    report = json.loads((output / "report.json").read_text())
    assert "baselines" not in report
    flow = keras.saving.load_model(output / "model.keras").flow
    assert abs(np.mean(log_prob(x) - flow.log_prob(x))) < 0.06
    drawn = np.load(output / "samples.npy")
    assert np.isfinite(log_prob(drawn)).all()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables(name, tmp_path, capsys):
    rows, words = WRONG[name]
    path = tmp_path / "x.csv"
    np.savetxt(path, np.tile(rows, (20, 1)), delimiter=",")
    tiny = ["--layers", 1, "--width", 4, "-o", tmp_path / "run"]
    assert call("train", path, "--flow", name, *tiny) == 2
    assert words.partition(";")[0].replace("\\", "") in capsys.readouterr().err
