"""Initialisation from data."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow, perturb
from tests.training.support import (
    assert_same,
    compiled,
    image,
    images,
    points,
    values,
    vector,
)
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows, masks, networks
from tfp_flows.training import (
    initialize,
    needs_initialization,
    negative_log_likelihood,
)

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
    parts = [p for b in level.bijectors for p in getattr(b, "bijectors", [b])]
    parts = [p for b in parts for p in getattr(b, "bijectors", [b])]
    for part in parts:
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
    """Neither samples, nor densities; what would measure nonsense is refused."""
    flow = image()
    x, labels = images()
    before = values(flow)
    flow.sample(context=labels, seed=0)
    flow.sample_and_log_prob(context=labels, seed=0)
    flow.log_prob(x, context=labels)
    flow.decode(flow.encode(x, context=labels), context=labels)
    model = compiled(flow, run_eagerly=True)
    for method in (
        lambda: model.evaluate(x, labels, verbose=0),
        lambda: model.predict((x, labels), verbose=0),
        lambda: model.test_on_batch(x, labels),
        lambda: model.predict_on_batch((x, labels)),
        lambda: model((x, labels)),
        lambda: tf.function(model)((x, labels), training=True),
    ):
        with pytest.raises(ValueError, match="start from data and have seen none"):
            method()
    assert_same(before, values(flow))
    assert needs_initialization(flow)


# In Keras's methods.


def still(flow):
    return compiled(flow, keras.optimizers.SGD(0.0), run_eagerly=True)


KINDS = {
    "arrays": lambda x, labels: (x, labels),
    "dataset": lambda x, labels: (
        tf.data.Dataset.from_tensor_slices((x, labels)).batch(8),
    ),
    "generator": lambda x, labels: (
        ((x[i : i + 8], labels[i : i + 8]) for i in (0, 8, 16)),
    ),
}


@pytest.mark.parametrize("kind", fast_and_slow(KINDS, "dataset"))
def test_fit_initialises_from_many_batches_once(kind, tmp_path):
    x, labels = images()
    # The first batch as stored tells nothing of the others.
    x[:8] *= 0.1
    expected = image()
    initialize(expected, x, labels)

    flow = image()
    model = still(flow)
    options = {"batch_size": 8} if kind == "arrays" else {}
    options |= {"shuffle": False, "verbose": 0}
    history = model.fit(*KINDS[kind](x, labels), **options)
    assert_same(values(expected), values(flow))
    # What initialised is trained on, too.
    log_prob = flow.log_prob(x, context=labels)
    np.testing.assert_allclose(history.history["loss"], [-np.mean(log_prob)], 1e-5)

    other = 0.5 * images(seed=9)[0]
    model.fit(*KINDS[kind](other, labels), **options)
    assert_same(values(expected), values(flow))

    model.save_weights(tmp_path / "model.weights.h5")
    restored = FlowModel(image(seed=4))
    restored.load_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    for again in (restored, keras.models.load_model(tmp_path / "model.keras")):
        assert not needs_initialization(again.flow)
        again.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        again.fit(*KINDS[kind](other, labels), **options)
        assert_same(values(expected), values(again.flow))


def with_actnorm():
    return flow_of(
        bijectors.Chain([bijectors.ActNorm([2]), coupling(masks.half(2), 1)])
    )


def test_large_arrays_start_from_a_random_part():
    """The same for every seed, and not the first rows."""
    x = points(12_000)
    x[:10_000, 0] = np.linspace(-1e-3, 1e-3, 10_000)
    found = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        model = compiled(with_actnorm(), keras.optimizers.SGD(0.0))
        model.fit(x, batch_size=6_000, verbose=0)
        actnorm = model.flow.bijector.bijectors[0]
        found.append((actnorm.shift.numpy(), np.exp(actnorm.log_scale)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0][0], x.mean(0), atol=0.05)
    np.testing.assert_allclose(found[0][1], x.std(0), rtol=0.05)


def test_held_out_examples_do_not_initialise():
    x = points(40)
    x[30:] += 100.0
    model = still(with_actnorm())
    model.fit(x, validation_split=0.25, verbose=0)
    shift = model.flow.bijector.bijectors[0].shift
    np.testing.assert_allclose(shift, x[:30].mean(0), 1e-5)


def test_train_on_batch_initialises():
    x = points()
    model = compiled(with_actnorm(), keras.optimizers.SGD(0.0))
    loss = model.train_on_batch(x)[0]
    assert not needs_initialization(model.flow)
    np.testing.assert_allclose(loss, -np.mean(model.flow.log_prob(x)), 1e-5)
    np.testing.assert_allclose(model.test_on_batch(x)[0], loss, 1e-5)


class Outer(keras.Model):
    """A flow of what a layer makes of the data."""

    def __init__(self):
        super().__init__()
        self.scale = keras.layers.Rescaling(100.0)
        self.density = FlowModel(with_actnorm())

    def call(self, x):
        return self.density(self.scale(x))


def test_a_model_within_a_model_is_initialised_by_an_eager_call():
    x = points()
    model = Outer()
    model.compile(keras.optimizers.SGD(0.0), loss=negative_log_likelihood)
    with pytest.raises(ValueError, match="once with data and training=True"):
        model.fit(x, np.zeros(24), verbose=0)
    model(x, training=True)
    actnorm = model.density.flow.bijector.bijectors[0]
    np.testing.assert_allclose(actnorm.shift, 100.0 * x.mean(0), 1e-4)
    loss = model.fit(x, np.zeros(24), verbose=0).history["loss"]
    expected = -np.mean(model.density.flow.log_prob(100.0 * x))
    np.testing.assert_allclose(loss, [expected], 1e-5)


@pytest.mark.parametrize("method", ["log_prob", "prob", "encode", "bits_per_dim"])
def test_a_flow_that_has_seen_no_data_says_so_once(method):
    flow = flows.maf((2,), layers=1, width=8, seed=0)
    x = np.full((3, 2), 1e4, np.float32)
    with pytest.warns(UserWarning, match="parts of this flow"):
        getattr(flow, method)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.encode(x)
    np.testing.assert_array_equal(flow.prob(x), np.exp(flow.log_prob(x)))
