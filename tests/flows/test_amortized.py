"""Planar, radial and Sylvester flows: densities, both ways, contexts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import flows
from tfp_flows.core.walk import runs_of

READY = {
    "planar": lambda **k: flows.planar((2,), layers=3, **k),
    "planar_leaky": lambda **k: flows.planar(
        (2,), layers=3, activation="leaky_relu", **k
    ),
    "radial": lambda **k: flows.radial((2,), layers=3, **k),
    "orthogonal": lambda **k: flows.sylvester((2,), layers=2, **k),
    "householder": lambda **k: flows.sylvester(
        (2,), layers=2, columns=1, parametrization="householder", **k
    ),
    "triangular": lambda **k: flows.sylvester(
        (2,), layers=2, parametrization="triangular", **k
    ),
}


# Densities of flows that sample need a root for each point of the grid.
@pytest.mark.parametrize(
    ("name", "explicit"),
    [
        pytest.param(name, explicit, marks=() if name in fast else pytest.mark.slow)
        for explicit, fast in [
            ("density", ("planar", "triangular")),
            ("sampling", ("radial",)),
        ]
        for name in READY
    ],
)
def test_densities_of_external_points_integrate_to_one(name, explicit):
    flow = READY[name](explicit=explicit, seed=0, dtype="float64")
    perturb(flow, 0.7)
    axis = np.linspace(-30, 30, 601)
    points = np.array(list(itertools.product(axis, axis)))
    density = tf.function(lambda x: tf.exp(flow.log_prob(x)))
    total = sum(float(tf.reduce_sum(density(p))) for p in np.array_split(points, 9))
    kinks = 3e-3 if name in ("planar_leaky", "radial") else 1e-5
    assert abs(total * (axis[1] - axis[0]) ** 2 - 1) < kinks
    x = normal(4, 2)
    assert np.abs(flow.log_prob(x) - flow.distribution.log_prob(x)).max() > 0.1


@pytest.mark.parametrize("name", [n for n in READY if n != "triangular"])
def test_explicit_way_is_a_matter_of_inversion(name):
    """The same layers, one way round and the other."""
    x = normal(4, 2)
    for explicit in ("density", "sampling"):
        flow = perturb(READY[name](explicit=explicit, seed=0, dtype="float64"), 0.5)
        layers = [
            step.bijector
            for run in runs_of(flow.bijector, explicit == "sampling", 1)
            for step in run.steps
            if isinstance(step.bijector, (B.Planar, B.Radial, B.Sylvester))
        ]
        assert len(layers) >= 2
        expected = x
        for layer in layers:
            expected = layer.forward(expected)
        got = flow.encode(x) if explicit == "density" else flow.decode(x)
        close(got, expected, 1e-12)


@pytest.mark.parametrize("build", [flows.planar, flows.radial, flows.sylvester])
def test_a_context_by_vector_or_label(build):
    for options, context, other in (
        ({"context_shape": (2,)}, normal(4, 2, seed=8), normal(4, 2, seed=9)),
        ({"num_classes": 3}, tf.constant([0, 1, 2, 1]), tf.constant([1, 2, 0, 0])),
    ):
        flow = build((3,), layers=2, width=6, seed=0, dtype="float64", **options)
        perturb(flow, 0.5)
        x = normal(4, 3)
        log_prob = flow.log_prob(x, context=context)
        assert np.abs(flow.log_prob(x, context=other) - log_prob).min() > 1e-6
        z = flow.encode(x, context=context)
        close(flow.decode(z, context=context), x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(x, context=context))
        for v, g in zip(
            flow.trainable_variables,
            tape.gradient(loss, flow.trainable_variables),
            strict=True,
        ):
            assert g is not None and np.abs(g).max() > 0, v.name


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: flows.radial((2,), explicit="both"), "density.*sampling.*'both'"),
        (lambda: flows.planar((2,), layers=0), "layers must be at least 1, got 0"),
        (lambda: flows.planar((2,), context_shape=(2, 2)), r"\(C,\), got \(2, 2\)"),
        (lambda: flows.sylvester((3,), columns=5), "columns.*got 5"),
        (lambda: flows.sylvester((3,), parametrization="full"), "orthogonal.*'full'"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
