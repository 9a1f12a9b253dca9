"""Flow matching: what is minimised, and that the density is right afterwards."""

from __future__ import annotations

import copy
import itertools
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close, fast_and_slow, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, networks, training
from tfp_flows.training.flow_matching import _paired

tfd = tfp.distributions
PAIRINGS = ["independent", "optimal_transport"]
SIZE = {"width": 32, "depth": 1, "steps": 6, "seed": 0}
TINY = {"width": 4, "depth": 1, "steps": 1, "seed": 0}
KNOWN = tfd.MultivariateNormalTriL(
    tf.constant([2.0, -1.0]), tf.constant([[1.5, 0.0], [-0.6, 0.4]])
)


def trained(flow, x, y=None, steps=400, **options):
    keras.utils.set_random_seed(0)
    model = training.FlowMatching(flow, **options)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(x, y, batch_size=256, epochs=-(-steps * 256 // len(x)), verbose=0)
    return model


@pytest.mark.parametrize("pairing", fast_and_slow(PAIRINGS, "independent"))
def test_the_density_of_a_gaussian(pairing):
    x = KNOWN.sample(8192, seed=0).numpy()
    flow = trained(flows.ffjord((2,), **SIZE), x, steps=320, pairing=pairing).flow
    side = np.linspace(-6.0, 6.0, 41, dtype="float32")
    grid = np.stack(np.meshgrid(side + 2.0, side - 1.0), -1).reshape(-1, 2)
    density = np.exp(flow.log_prob(grid))
    close(density.sum() * (side[1] - side[0]) ** 2, 1.0, 0.01)
    points = KNOWN.sample(1000, seed=1)
    difference = KNOWN.log_prob(points) - flow.log_prob(points)
    # The divergence from the truth, in nats.
    assert -0.01 < np.mean(difference) < 0.06
    sample = flow.sample(2000, seed=2).numpy()
    close(sample.mean(0), [2.0, -1.0], 0.15)
    close(np.cov(sample.T), KNOWN.covariance(), 0.3)


@pytest.mark.slow
def test_labels_as_context():
    y = np.arange(2048) % 2
    x = normal(2048, 2, dtype="float32").numpy() * 0.3 + 3.0 * y[:, None]
    model = trained(flows.ffjord((2,), num_classes=2, **SIZE), x, y, steps=250)
    sample = model.flow.sample(500, context=np.array([0, 1]), seed=0).numpy()
    close(sample.mean(0), [[0.0, 0.0], [3.0, 3.0]], 0.2)
    close(sample.std(0), np.full((2, 2), 0.3), 0.15)
    other = model.flow.log_prob(x[:64], context=1 - y[:64])
    own = model.flow.log_prob(x[:64], context=y[:64])
    assert np.min(own - other) > 3.0


def test_what_is_minimised():
    """At rest, the squared distances of data and noise, over the entries."""
    flow = flows.ffjord((2,), normalize=False, **TINY)
    model = training.FlowMatching(flow)
    model.compile(keras.optimizers.SGD(0.0))
    x = np.array([3.0, 1.0]) + normal(20_000, 2)
    logs = model.fit(x, batch_size=20_000, verbose=0).history
    assert set(logs) == {"loss", "velocity_error"}
    close(logs["loss"][0], (3.0**2 + 1.0**2) / 2 + 2.0, 0.05)
    close(logs["loss"], logs["velocity_error"], 1e-5)
    x = np.tile([[3.0, 1.0]], (50, 1))
    # The best velocity for a single point is known: it has no error.
    inner = flow.bijector.bijectors[-1]

    def perfect(v, t, context=None):
        t = tf.reshape(t, [-1, 1])
        return (tf.constant([3.0, 1.0]) - v) / (1.0 - t)

    inner.velocity = perfect
    close(model(x, training=True)["velocity_error"], np.zeros(50), 1e-4)


def test_reports():
    flow = perturb(flows.ffjord((2,), **TINY))
    model = training.FlowMatching(flow)
    model.compile(keras.optimizers.SGD(0.0))
    x = normal(30, 2, dtype="float32").numpy()
    training.initialize(flow, x)
    logs = model.fit(x, validation_data=x[:20], batch_size=10, epochs=2, verbose=0)
    names = {"loss", "velocity_error"}
    of_density = {"val_nll", "val_bits_per_dim"}
    assert set(logs.history) == names | {f"val_{n}" for n in names} | of_density
    nll = -np.mean(flow.log_prob(x[:20]))
    close(logs.history["val_nll"], [nll] * 2, 1e-5)
    found = model.evaluate(x[:20], verbose=0, return_dict=True)
    close(found["nll"], nll, 1e-5)
    assert abs(found["loss"] - found["nll"]) > 0.01
    close(model.predict(x, verbose=0), flow.log_prob(x), 1e-5)
    close(model(x)["log_prob"], flow.log_prob(x), 1e-5)


def test_every_variable_learns_and_weights_count():
    flow = perturb(flows.ffjord((2,), context_shape=(1,), **TINY))
    model = training.FlowMatching(flow)
    model.compile(keras.optimizers.SGD(0.1))
    x, c = normal(8, 2, dtype="float32").numpy(), normal(8, 1, dtype="float32").numpy()
    training.initialize(flow, x, c)
    before = [v.numpy() for v in flow.trainable_variables]
    model.fit(x, c, sample_weight=np.zeros(8), verbose=0)
    for v, old in zip(flow.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(v, old)
    model.fit(x, c, verbose=0)
    for v, old in zip(flow.trainable_variables, before, strict=True):
        assert np.abs(v.numpy() - old).max() > 0, v.name


def test_pairs_are_the_best_of_all():
    x, noise = normal(5, 2), normal(5, 2, seed=1)

    def cost(noise):
        return np.square(x - noise).sum()

    best = min(cost(noise.numpy()[list(p)]) for p in itertools.permutations(range(5)))
    found = tf.function(_paired)(noise, x)
    close(cost(found), best)
    assert best < cost(noise)
    np.testing.assert_array_equal(np.sort(found, 0), np.sort(noise, 0))


@pytest.mark.slow
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_saving(tmp_path, pairing):
    flow = flows.ffjord((4, 4, 1), bounds=(0, 16), logit_margin=0.05, **TINY)
    model = training.FlowMatching(flow, pairing, dequantize=True)
    model.compile()
    x = np.random.default_rng(0).integers(0, 16, (8, 4, 4, 1))
    model.fit(x, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is training.FlowMatching
    assert (loaded.pairing, loaded.dequantize) == (pairing, 1.0)
    data = x.astype("float32") + 0.5
    close(loaded(data)["log_prob"], model(data)["log_prob"], 1e-6)
    assert set(loaded.fit(x, verbose=0).history) == {"loss", "velocity_error"}


@pytest.mark.slow
def test_xla():
    x = KNOWN.sample(64, seed=0).numpy()
    model = training.FlowMatching(flows.ffjord((2,), **TINY))
    model.compile(jit_compile=True)
    history = model.fit(x, validation_data=x, epochs=3, verbose=0).history
    assert np.isfinite(history["val_nll"]).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: flows.real_nvp((2,), width=4), "end at the noise with .*would be"),
        (
            lambda: flows.ffjord((2,), layers=2, **TINY),
            "one ContinuousFlow.*continuous_0",
        ),
        (lambda: flows.ffjord((2,), base="diagonal", **TINY), "would be trained"),
    ],
)
def test_flows_that_it_does_not_train(build, words):
    with pytest.raises(ValueError, match=words):
        training.FlowMatching(build())


def test_errors():
    flow = flows.ffjord((2,), context_shape=(1,), **TINY)
    with pytest.raises(ValueError, match=r"independent.*optimal_transport"):
        training.FlowMatching(flow, "nearest")
    with pytest.raises(ValueError, match="noise depend on the context"):
        training.FlowMatching(flow, "optimal_transport")
    with pytest.raises(TypeError, match=r"tfp_flows\.Flow"):
        training.FlowMatching(KNOWN)
    model = training.FlowMatching(flows.ffjord((2,), **TINY), "optimal_transport")
    with pytest.raises(ValueError, match="jit_compile must be False"):
        model.compile(jit_compile=True)


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_of_a_model_of_an_own_flow(make_copy):
    network = networks.MLP(2, (8,), activation="tanh", seed=0)
    flow = Flow(
        distributions.standard_normal((2,)),
        bijectors.ContinuousFlow(network, (2,), steps=2),
    )
    model = training.FlowMatching(flow, "optimal_transport", name="mine")
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    other = make_copy(model)
    assert type(other) is training.FlowMatching
    assert (other.pairing, other.name) == ("optimal_transport", "mine")
    x = normal(8, 2, dtype="float32").numpy()
    before = model(x)["log_prob"]
    close(other(x)["log_prob"], before, 1e-6)
    # It trains its own velocity, and that alone.
    other.fit(x, verbose=0)
    close(model(x)["log_prob"], before, 1e-6)
    assert np.abs(other.flow.log_prob(x) - before).max() > 1e-3
