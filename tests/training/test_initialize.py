"""Initialisation from data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.training.conftest import (
    assert_same,
    compiled,
    image,
    images,
    perturb,
    points,
    values,
    vector,
)
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows, masks, networks
from tfp_flows.training import initialize, needs_initialization

tfb = tfp.bijectors
tfd = tfp.distributions


def coupling(mask, seed):
    network = networks.MLP(2, (8,), seed=seed)
    return perturb(bijectors.AffineCoupling(mask, network), seed=seed)


def stack():
    """ActNorms before and behind couplings that are not the identity."""
    mask = masks.half(2)
    return [
        bijectors.ActNorm([2], name="first"),
        coupling(mask, 1),
        coupling(~mask, 2),
        bijectors.ActNorm([2], name="second"),
    ]


def flow_of(chain):
    return Flow(distributions.standard_normal((2,)), chain)


BUILD = {
    "chain": lambda parts: flow_of(bijectors.Chain(parts)),
    "tfp_chain": lambda parts: flow_of(tfb.Chain(parts)),
    "tfp_distribution": lambda parts: tfd.TransformedDistribution(
        distributions.standard_normal((2,)), tfb.Chain(parts)
    ),
    "nested": lambda parts: flow_of(
        bijectors.Chain([tfb.Chain(parts[:2]), bijectors.Chain(parts[2:])])
    ),
}


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_outputs_have_mean_0_and_deviation_1(build):
    parts, x = stack(), points(50)
    flow = build(parts)
    assert needs_initialization(flow)
    noise = initialize(flow, x)
    assert not needs_initialization(flow)
    h = tf.constant(x)
    for part in parts:
        assert part.name not in ("first", "second") or not np.allclose(
            np.mean(h, 0), 0, atol=0.1
        )
        h = part.inverse(h)
        if isinstance(part, bijectors.ActNorm):
            np.testing.assert_allclose(np.mean(h, 0), 0, atol=1e-5)
            np.testing.assert_allclose(np.std(h, 0), 1, atol=1e-5)
    np.testing.assert_allclose(noise, h, atol=1e-5)


def test_outputs_of_an_image_flow():
    """Each channel over all positions, below a conditional coupling."""
    flow = perturb(image(steps=2))
    x, labels = images(40)
    initialize(flow, x, labels)
    level = flow.bijector.bijectors[-1].levels[0]
    context = {"context": tf.one_hot(labels, 3)}
    h = (tf.constant(x) / 256.0) - 0.5
    seen = 0
    for part in level.bijectors:
        h = part.inverse(
            h, **(context if isinstance(part, bijectors.AffineCoupling) else {})
        )
        if isinstance(part, bijectors.ActNorm):
            seen += 1
            np.testing.assert_allclose(np.mean(h, (0, 1, 2)), 0, atol=1e-4)
            np.testing.assert_allclose(np.std(h, (0, 1, 2)), 1, atol=1e-3)
    assert seen == 2


def test_scaling_of_nice():
    flow = flows.nice((2,), layers=2, depth=1, width=8, seed=0)
    assert needs_initialization(flow)
    noise = initialize(flow, points(50))
    np.testing.assert_allclose(np.std(noise, 0), 1, rtol=1e-4)
    assert not needs_initialization(flow)


def test_a_second_time_changes_nothing():
    flow = BUILD["chain"](stack())
    initialize(flow, points())
    once = values(flow)
    initialize(flow, 10 * points(seed=5))
    assert_same(once, values(flow))


def test_what_needs_none():
    flow = vector()
    assert not needs_initialization(flow)
    before = values(flow)
    noise = initialize(flow, points())
    assert_same(before, values(flow))
    np.testing.assert_array_equal(noise, flow.encode(points()))
    assert not needs_initialization(tfd.Normal(tf.Variable(0.0), 1.0))


def test_errors():
    flow = image()
    x, labels = images()
    with pytest.raises(ValueError, match="empty batch"):
        initialize(flow, x[:0], labels[:0])
    with pytest.raises(ValueError, match="must end in"):
        initialize(flow, x[:, :2], labels)
    with pytest.raises(ValueError, match="context is required"):
        initialize(flow, x)
    with pytest.raises(ValueError, match="context was given"):
        initialize(vector(), points(), labels)
    assert needs_initialization(flow)
    assert_same(values(image()), values(flow))


def test_only_data_initialise():
    """Neither samples, nor densities, nor a model that is built or evaluated."""
    flow = image()
    x, labels = images()
    before = values(flow)
    flow.sample(context=labels, seed=0)
    flow.sample_and_log_prob(context=labels, seed=0)
    flow.log_prob(x, context=labels)
    flow.decode(flow.encode(x, context=labels), context=labels)
    model = compiled(flow, run_eagerly=True)
    model.evaluate(x, labels, verbose=0)
    model.predict((x, labels), verbose=0)
    assert_same(before, values(flow))
    assert needs_initialization(flow)


# In fit.


def still(flow):
    return compiled(flow, keras.optimizers.SGD(0.0), run_eagerly=True)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "generator"])
def test_fit_initialises_from_the_first_batch_once(kind, tmp_path):
    x, labels = images()
    expected = image()
    initialize(expected, x[:8], labels[:8])

    def given(x, labels):
        if kind == "arrays":
            return x, labels
        if kind == "dataset":
            return (tf.data.Dataset.from_tensor_slices((x, labels)).batch(8),)
        return (((x[i : i + 8], labels[i : i + 8]) for i in (0, 8, 16)),)

    flow = image()
    model = still(flow)
    options = {"batch_size": 8} if kind == "arrays" else {}
    history = model.fit(*given(x, labels), shuffle=False, verbose=0, **options)
    assert_same(values(expected), values(flow))
    # The first batch is trained on too.
    log_prob = flow.log_prob(x, context=labels)
    np.testing.assert_allclose(history.history["loss"], [-np.mean(log_prob)], 1e-5)

    other = 0.5 * images(seed=9)[0]
    model.fit(*given(other, labels), shuffle=False, verbose=0, **options)
    assert_same(values(expected), values(flow))

    model.save_weights(tmp_path / "model.weights.h5")
    restored = FlowModel(image(seed=4))
    restored.load_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    for again in (restored, keras.models.load_model(tmp_path / "model.keras")):
        assert not needs_initialization(again.flow)
        again.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        again.fit(*given(other, labels), shuffle=False, verbose=0, **options)
        assert_same(values(expected), values(again.flow))
