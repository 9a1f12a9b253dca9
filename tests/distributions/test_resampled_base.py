"""Learned accept/reject sampling."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tensorflow as tf

from tests.distributions.support import make_chain
from tests.support import close, normal
from tfp_flows import Flow, FlowModel, bijectors, distributions
from tfp_flows.networks import MLP


def hole(z):
    """Accepts what is far from the origin: a ring."""
    return 3.0 * (tf.reduce_sum(z**2, -1, keepdims=True) - 2.0)


def ring(truncation=4, draws=100000, dtype="float64", **options):
    return distributions.ResampledBase(
        hole, (2,), dtype, truncation=truncation, draws=draws, **options
    )


def network(dtype="float32", scale=1.0, size=2, **options):
    layer = MLP(1, (8,), activation="tanh", seed=0, dtype=dtype)
    base = distributions.ResampledBase(layer, (size,), dtype, **options)
    draw = np.random.default_rng(3)
    for v in base.trainable_variables:
        v.assign_add(tf.constant(scale * draw.standard_normal(v.shape), v.dtype))
    return base


def grid(n=400, size=6.0):
    """Points on a square, and the area of each."""
    line = np.linspace(-size, size, n)
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    return points, (line[1] - line[0]) ** 2


@pytest.mark.parametrize("truncation", [2, 4, 100])
def test_density_is_the_formula(truncation):
    base = ring(truncation)
    z, area = grid()
    gaussian = np.exp(-0.5 * (z**2).sum(-1)) / (2 * np.pi)
    a = 1 / (1 + np.exp(-3 * ((z**2).sum(-1) - 2)))
    normalizer = (gaussian * a).sum() * area
    alpha = (1 - normalizer) ** (truncation - 1)
    expected = gaussian * ((1 - alpha) * a / normalizer + alpha)
    density = np.exp(base.log_prob(z))
    np.testing.assert_allclose(density, expected, rtol=0.02)
    close(density.sum() * area, 1.0, 0.01)
    close(base.acceptance(z), a, 1e-10)
    estimate, error = base.normalizer()
    assert 0 < error < 0.002
    assert abs(estimate - normalizer) < 4 * error
    finer, smaller = base.normalizer(draws=400000, seed=5)
    close(smaller, error / 2, 0.05 * error)
    assert abs(finer - normalizer) < 4 * smaller


@pytest.mark.parametrize("truncation", [2, 100])
def test_samples_have_the_density(truncation):
    base = ring(truncation)
    z, area = grid()
    density = np.exp(base.log_prob(z)) * area
    sample = base.sample(40000, seed=1).numpy()
    radius, expected = np.linalg.norm(sample, axis=-1), np.linalg.norm(z, axis=-1)
    for edge in (0.5, 1.0, 1.5, 2.0, 3.0):
        probability = density[expected < edge].sum()
        error = np.sqrt(probability * (1 - probability) / 40000)
        assert abs((radius < edge).mean() - probability) < 4 * error + 0.003
    angle = np.arctan2(*sample.T)
    close(np.histogram(angle, 4)[0] / 40000, np.full(4, 0.25), 0.015)


def test_mean_is_that_of_the_density():
    base = network(scale=2.0, dtype="float64", draws=100000, truncation=6)
    z, area = grid()
    density = np.exp(base.log_prob(z)) * area
    mean = (density[:, None] * z).sum(0)
    assert np.abs(mean).max() > 0.1
    close(base.mean(), mean, 0.02)
    variance = (density[:, None] * (z - mean) ** 2).sum(0)
    close(base.stddev(), np.sqrt(variance), 0.02)
    close(tf.reduce_mean(base.sample(40000, seed=0), 0), mean, 0.02)


def test_a_network_at_zero_changes_nothing():
    base = distributions.ResampledBase(MLP(1, (8,)), (3,))
    z = normal(5, 3, dtype="float32")
    close(base.log_prob(z), distributions.standard_normal((3,)).log_prob(z), 1e-5)
    close(base.normalizer(), (0.5, 0.0), 1e-6)


@pytest.mark.parametrize("logit", [-40.0, -8.0, 40.0])
def test_extreme_acceptance_is_finite(logit):
    """Nothing accepted, or everything: the proposal either way."""
    for dtype in ("float32", "float64"):
        bias = tf.Variable(tf.constant(logit, dtype))

        def acceptance(z, bias=bias):
            return bias + 0.0 * z[:, :1]

        base = distributions.ResampledBase(acceptance, (2,), dtype)
        z = normal(5, 2, dtype=dtype)
        with tf.GradientTape() as tape:
            log_prob = base.log_prob(z)
        expected = distributions.standard_normal((2,), dtype).log_prob(z)
        close(log_prob, expected, 1e-4)
        assert np.isfinite(tape.gradient(log_prob, bias))


def test_density_is_a_function_of_its_variables_alone():
    base = network("float64", draws=500)
    z = normal(5, 2, dtype="float64")
    expected = base.log_prob(z)
    np.testing.assert_array_equal(base.log_prob(z), expected)
    for jit in (False, True):
        close(tf.function(base.log_prob, jit_compile=jit)(z), expected, 1e-10)
        sample = tf.function(lambda: base.sample(7, seed=[1, 2]), jit_compile=jit)
        close(sample(), base.sample(7, seed=[1, 2]), 1e-10)
    close(tf.vectorized_map(base.log_prob, z), expected, 1e-10)
    spec = [tf.TensorSpec([None, 2], tf.float64)]
    close(tf.function(base.log_prob, input_signature=spec)(z), expected, 1e-10)
    other = network("float64", draws=500, seed=1)
    assert np.abs(other.log_prob(z) - expected).min() > 1e-4
    # Nothing of it is stored: assigned variables count at once.
    for v in base.trainable_variables:
        v.assign(v + 0.3)
    for v, w in zip(base.trainable_variables, other.trainable_variables, strict=True):
        w.assign(v)
    same = network("float64", draws=500)
    for v, w in zip(base.trainable_variables, same.trainable_variables, strict=True):
        w.assign(v)
    np.testing.assert_array_equal(same.log_prob(z), base.log_prob(z))
    assert np.abs(base.log_prob(z) - expected).min() > 1e-4


def test_training_draws_anew():
    base = network("float64", draws=200)
    z = normal(5, 2, dtype="float64")
    fixed = base.log_prob(z)
    training = tf.function(lambda: base.log_prob(z, training=True))
    seen = [training() for _ in range(400)]
    values = np.stack([np.asarray(s) for s in seen])
    assert len({float(v[0]) for v in values}) == 400
    close(base.log_prob(z), fixed, 0)
    # About the truth within the documented error, which is the same for all z.
    exact = network("float64", draws=400000).log_prob(z)
    normalizer, _ = base.normalizer(400000)
    bound = float(tf.sqrt((1 - normalizer) / normalizer / 200))
    deviation = values - exact.numpy()
    close(deviation - deviation[:, :1], np.zeros_like(deviation), 0.02)
    assert 0.1 * bound < deviation.std() < bound
    assert abs(deviation.mean()) < bound**2 / 2 + 4 * bound / 20


def test_gradient_counts_the_normalizer():
    """Against finite differences: not only the numerator learns."""
    base = network("float64", draws=300)
    z = normal(4, 2, dtype="float64")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(base.log_prob(z))
    for v, g in zip(
        base.trainable_variables,
        tape.gradient(loss, base.trainable_variables),
        strict=True,
    ):
        start = v.numpy()
        step = np.zeros_like(start)
        step.flat[0] = 1e-6
        values = []
        for sign in (1, -1):
            v.assign(start + sign * step)
            values.append(float(tf.reduce_sum(base.log_prob(z))))
        v.assign(start)
        difference = (values[0] - values[1]) / 2e-6
        close(g.numpy().flat[0], difference, 1e-6)


def test_shapes():
    base = network()
    assert (base.event_shape, base.batch_shape) == ((2,), ())
    assert base.sample(seed=0).shape == (2,)
    assert base.sample((3, 4), seed=0).shape == (3, 4, 2)
    assert base.sample(0, seed=0).shape == (0, 2)
    assert base.log_prob(normal(2, dtype="float32")).shape == ()
    assert base.log_prob(normal(0, 2, dtype="float32")).shape == (0,)
    assert base.log_prob(normal(3, 1, 2, dtype="float32")).shape == (3, 1)


@pytest.mark.slow
def test_fit_copy_save_and_export(tmp_path):
    """A ring, which a flow cannot make of one bump without a thread."""
    draw = np.random.default_rng(0)
    angle = draw.uniform(0, 2 * np.pi, (400, 1))
    x = 1.8 * np.concatenate([np.cos(angle), np.sin(angle)], -1)
    x = (x + 0.2 * draw.standard_normal((400, 2))).astype("float32")

    def build(seed):
        layer = MLP(1, (16,), activation="tanh", seed=seed)
        base = distributions.ResampledBase(layer, (2,), draws=256)
        return Flow(base, bijectors.ActNorm([2]))

    model = FlowModel(build(0))
    model.compile("adam")
    model.optimizer.learning_rate = 0.03
    history = model.fit(x, batch_size=100, epochs=40, verbose=0).history["nll"]
    assert history[-1] < history[0] - 0.3
    base = model.flow.distribution
    assert int(base.non_trainable_variables[0]) == 160
    # The middle of the ring is empty.
    assert base.acceptance([0.0, 0.0]) < 0.5 * tf.reduce_mean(
        base.acceptance(model.flow.encode(x))
    )

    expected = model.flow.log_prob(x)
    again = copy.deepcopy(model.flow)
    assert not {v.ref() for v in again.variables} & {
        v.ref() for v in model.flow.variables
    }
    np.testing.assert_array_equal(again.log_prob(x), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(build(1))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.flow.log_prob(x), expected)
    assert int(other.flow.distribution.non_trainable_variables[0]) == 160
    model.export(tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    close(loaded.log_prob(x)["log_prob"], expected, 1e-5)
    sample = loaded.sample(tf.constant(2), tf.constant(1), tf.constant(0.7))["x"]
    close(sample, model.flow.sample(2, seed=1, temperature=0.7), 1e-5)


def test_training_reaches_the_base_only():
    flow = Flow(network(size=4, draws=50), make_chain())
    assert flow.keywords == {"training"}
    x = normal(5, 4, dtype="float32")
    fixed = flow.log_prob(x)
    assert np.abs(flow.log_prob(x, training=True) - fixed).max() > 1e-4
    close(flow.log_prob(x), fixed, 0)
    flow.sample(2, seed=0, training=True)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: ring(1), ValueError, "truncation.*2.*1"),
        (lambda: ring(draws=0), ValueError, "draws.*1.*0"),
        (
            lambda: distributions.ResampledBase(lambda z: z, (2,)),
            ValueError,
            r"\[batch, 1\].*logit",
        ),
        (lambda: distributions.ResampledBase(3, (2,)), TypeError, "callable"),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error, match=words):
        build()
