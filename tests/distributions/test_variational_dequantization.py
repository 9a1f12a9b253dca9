"""Integers under a flow: the bound against the exact probability."""

from __future__ import annotations

import copy
import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import perturb
from tfp_flows import Flow, FlowModel, bijectors, distributions, masks, networks
from tfp_flows.distributions import VariationalDequantization

tfb = tfp.bijectors
tfd = tfp.distributions

LEVELS = 4
MEAN = np.array([1.3, 2.2])
SCALE = np.array([0.5, 1.1])
CELLS = np.array(list(itertools.product(range(LEVELS), repeat=2)))


def gaussian(context_shape=None, dtype="float64") -> Flow:
    """A Gaussian of `MEAN` and `SCALE`; a context that nothing depends on, if asked."""
    bijector = bijectors.Chain(
        [tfb.Shift(tf.constant(MEAN, dtype)), tfb.Scale(tf.constant(SCALE, dtype))]
    )
    base = distributions.standard_normal((2,), dtype)
    if context_shape is not None:
        mask = masks.half(2)
        network = networks.MLP(2, (4,), seed=0, dtype=dtype)
        coupling = bijectors.AffineCoupling(
            mask, network, context_shape=context_shape, dtype=dtype
        )
        bijector = bijectors.Chain([bijector, coupling])
    return Flow(base, bijector)


def exact(x) -> np.ndarray:
    """The logarithm of the Gaussian's mass in each cell."""
    normal = tfd.Normal(MEAN, SCALE)
    return np.log(normal.cdf(x + 1.0) - normal.cdf(x + 0.0)).sum(-1)


def noise_flow(dtype="float64", perturbed=0.1) -> Flow:
    def coupling(mask, seed):
        network = networks.MLP(2, (8,), activation="tanh", seed=seed, dtype=dtype)
        return bijectors.AffineCoupling(mask, network, context_shape=(2,), dtype=dtype)

    mask = masks.half(2)
    flow = Flow(
        distributions.standard_logistic((2,), dtype),
        bijectors.Chain([tfb.Sigmoid(), coupling(mask, 1), coupling(~mask, 2)]),
    )
    perturb(flow, perturbed)
    return flow


def best_noise() -> distributions.Conditional:
    """The noise's density given the data, under the Gaussian."""

    def given(context):
        x = (context + 0.5) * LEVELS - 0.5
        normal = tfd.TruncatedNormal(MEAN - x, SCALE, *np.array([0.0, 1.0]))
        return tfd.Independent(normal, 1)

    return distributions.Conditional(given, (2,), (2,), "float64")


NOISE = {"uniform": lambda: None, "flow": noise_flow, "best": best_noise}
every = pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
learned = pytest.mark.parametrize("noise", [NOISE["uniform"], NOISE["flow"]])


def test_the_best_noise_makes_the_bound_exact():
    """q(u|x) = p(x + u) / P(x): every draw is log P(x), whatever the noise."""
    flow = VariationalDequantization(gaussian(), best_noise(), LEVELS)
    for seed in (0, 1):
        np.testing.assert_allclose(flow.log_prob(CELLS, seed=seed), exact(CELLS))


@learned
def test_a_bound_in_the_mean_that_rises_to_the_probability(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS)
    x = np.repeat(CELLS[:, None], 4000, 1)
    gaps, errors = [], []
    for samples in (1, 2, 8):
        values = flow.log_prob(x, samples=samples, seed=samples).numpy()
        gaps.append(exact(CELLS) - values.mean(1))
        errors.append(values.std(1) / math.sqrt(values.shape[1]))
    for gap, error in zip(gaps, errors, strict=True):
        assert (gap > -4 * error).all()
    means = [gap.mean() for gap in gaps]
    assert means[0] > 1.5 * means[1] > 1.5**3 * means[2] > 0
    many = flow.log_prob(CELLS, samples=40_000, seed=0)
    np.testing.assert_allclose(many, exact(CELLS), atol=0.05)


@every
def test_dequantize_is_a_density_on_the_cell(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS)
    v, log_q = flow.dequantize(CELLS, [50_000], seed=0)
    u = v - CELLS
    assert u.shape == (50_000, *CELLS.shape)
    assert log_q.shape == (50_000, len(CELLS))
    assert 0 <= np.min(u) < 0.01
    assert 0.99 < np.max(u) <= 1
    # E_q[1 / q] is the volume of the cell.
    np.testing.assert_allclose(np.exp(-log_q).mean(0), 1.0, atol=0.1)


def test_log_prob_is_flow_minus_noise():
    flow = VariationalDequantization(gaussian(), noise_flow(), LEVELS, samples=3)
    v, log_q = flow.dequantize(CELLS, [3], seed=5)
    ratio = np.exp(flow.flow.log_prob(v) - log_q)
    np.testing.assert_allclose(
        flow.log_prob(CELLS, seed=5), np.log(ratio.mean(0)), rtol=1e-10
    )
    assert flow.samples == 3


@every
def test_values_stand_for_the_integers_below_them(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS)
    expected = flow.log_prob(CELLS.astype("float64"), seed=0)
    for same in (CELLS, CELLS.astype("uint8"), CELLS + 0.99, tf.constant(CELLS)):
        np.testing.assert_array_equal(flow.log_prob(same, seed=0), expected)
    top = np.array([[LEVELS - 1, 1.0], [LEVELS, 1.0]])
    first, second = (flow.log_prob(row, seed=0) for row in top)
    assert first == second
    outside = np.array([[-0.1, 1.0], [1.0, LEVELS + 0.1]])
    assert np.isneginf(flow.log_prob(outside, seed=0)).all()


@learned
def test_seeds(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS)
    first = flow.log_prob(CELLS, seed=3)
    np.testing.assert_array_equal(flow.log_prob(CELLS, seed=3), first)
    np.testing.assert_array_equal(flow.log_prob(CELLS, seed=tf.constant([0, 3])), first)
    for other in (flow.log_prob(CELLS, seed=4), flow.log_prob(CELLS)):
        assert np.abs(other - first).min() > 0
    assert np.abs(flow.log_prob(CELLS) - flow.log_prob(CELLS)).min() > 0
    # Equal data do not share noise.
    assert len(np.unique(flow.log_prob(np.ones((50, 2)), seed=0))) == 50


@learned
def test_compiled(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS)
    first = flow.log_prob(CELLS, seed=3)
    spec = [tf.TensorSpec([None, 2], tf.float64)]
    for jit in (False, True):
        run = tf.function(
            lambda x: flow.log_prob(x, seed=3), input_signature=spec, jit_compile=jit
        )
        found = run(tf.constant(CELLS, tf.float64))
        if not jit or flow.noise_flow is None:
            np.testing.assert_allclose(found, first, rtol=1e-9)
        assert np.isfinite(found).all()
        assert run(tf.zeros([0, 2], tf.float64)).shape == (0,)

    @tf.function
    def twice(x):
        return flow.log_prob(x), flow.log_prob(x)

    assert np.abs(np.subtract(*twice(CELLS))).min() > 0


@learned
def test_batch_shapes(noise):
    flow = VariationalDequantization(gaussian(), noise(), LEVELS, samples=2)
    for batch in ((), (16,), (4, 4), (0,), (2, 0)):
        x = np.resize(CELLS, (*batch, 2)).astype("float64")
        assert flow.log_prob(x).shape == batch
        assert flow.sample(batch, seed=0).shape == (*batch, 2)
    assert flow.event_shape == (2,)
    assert flow.batch_shape == ()


def test_samples_are_the_flows_rounded_down():
    flow = VariationalDequantization(gaussian(), noise_flow(), LEVELS)
    x = flow.sample(2000, seed=0).numpy()
    assert x.dtype == np.float64
    assert set(np.unique(x)) == set(range(LEVELS))
    continuous = flow.flow.sample(2000, seed=0).numpy()
    assert (continuous < 0).any()
    assert (continuous > LEVELS).any()
    np.testing.assert_array_equal(x, np.floor(continuous).clip(0, LEVELS - 1))
    cold = flow.sample(2000, seed=0, temperature=0.1)
    assert np.std(cold) < np.std(x)
    # Cells away from the ends, which collect what is beyond, have their probability.
    for cell in ([1, 2], [2, 1]):
        share = (x == cell).all(-1).mean()
        assert abs(share - np.exp(exact(np.array(cell)))) < 0.03


def test_bits_per_dim_of_integers():
    flow = VariationalDequantization(gaussian(), best_noise(), LEVELS)
    bits = flow.bits_per_dim(CELLS)
    np.testing.assert_allclose(bits, -exact(CELLS) / (2 * math.log(2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_reach_both_flows(dtype):
    inner = gaussian((1,), dtype)
    flow = VariationalDequantization(inner, noise_flow(dtype), LEVELS)
    perturb(inner, 0.3)
    context = tf.ones([len(CELLS), 1], dtype)
    assert flow.context_shape == (1,)
    assert flow.context_dtype == dtype
    assert len(flow.trainable_variables) == 3 * 4
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(CELLS, context=context, seed=0, samples=2)
        loss = tf.reduce_mean(log_prob)
    assert log_prob.dtype == dtype
    for gradient in tape.gradient(loss, flow.trainable_variables):
        assert np.abs(gradient).max() > 0
        assert np.isfinite(gradient).all()
    other = flow.log_prob(CELLS, context=context + 1.0, seed=0, samples=2)
    assert np.abs(other - log_prob).max() > 1e-3
    assert flow.sample(3, seed=0, context=context).shape == (3, *CELLS.shape)
    with pytest.raises(ValueError, match="context is required"):
        flow.log_prob(CELLS)


def test_training_closes_the_gap():
    """The noise flow learns what uniform noise misses; the Gaussian stays."""
    noise = noise_flow("float32", perturbed=0.0)
    flow = VariationalDequantization(gaussian(dtype="float32"), noise, LEVELS)
    draw = np.random.default_rng(0)
    x = CELLS[draw.choice(len(CELLS), 2000, p=np.exp(exact(CELLS)) / _mass())]
    x = x.astype("float32")

    def gap():
        return float(exact(x).mean() - np.mean(flow.log_prob(x, seed=0, samples=1)))

    before = gap()
    # Logistic noise through the sigmoid: uniform until it learns.
    uniform = VariationalDequantization(gaussian(), None, LEVELS)
    loose = exact(x).mean() - np.mean(uniform.log_prob(x, seed=1))
    assert abs(before - loose) < 0.1
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(x, batch_size=100, epochs=6, verbose=0).history
    after = gap()
    assert 0 < after < 0.3 * before
    # Cells are integers: in nats, not in units of some noise.
    entropy = -exact(x).mean()
    assert abs(history["nll"][-1] - entropy) < 0.3 * before


def _mass():
    return np.exp(exact(CELLS)).sum()


def test_copies_and_checkpoints(tmp_path):
    flow = VariationalDequantization(gaussian((1,)), noise_flow(), LEVELS)
    keywords = {"context": np.ones((16, 1)), "seed": 0}
    expected = flow.log_prob(CELLS, **keywords)
    deep, shared = copy.deepcopy(flow), flow.copy(samples=5)
    assert shared.samples == 5
    assert [v.ref() for v in shared.variables] == [v.ref() for v in flow.variables]
    assert not {v.ref() for v in deep.variables} & {v.ref() for v in flow.variables}
    path = tf.train.Checkpoint(flow=flow).save(str(tmp_path / "checkpoint"))
    perturb(flow, 0.3)
    assert np.abs(flow.log_prob(CELLS, **keywords) - expected).max() > 1e-3
    np.testing.assert_array_equal(deep.log_prob(CELLS, **keywords), expected)
    tf.train.Checkpoint(flow=flow).restore(path).assert_consumed()
    np.testing.assert_array_equal(flow.log_prob(CELLS, **keywords), expected)


def test_errors():
    flow = gaussian()
    float32 = Flow(
        distributions.standard_logistic((2,)),
        bijectors.AffineCoupling(
            masks.half(2), networks.MLP(2, (4,)), context_shape=(2,)
        ),
    )
    for error, arguments, words in (
        (TypeError, {"flow": flow.distribution}, "flow must be.*Independent"),
        (TypeError, {"noise_flow": 1}, "noise_flow.*int"),
        (ValueError, {"noise_flow": flow}, r"context_shape \(2,\).*None"),
        (ValueError, {"noise_flow": float32}, "dtype float64.*float32"),
        (ValueError, {"levels": 1}, "levels.*1"),
        (TypeError, {"levels": 2.5}, "levels.*2.5"),
        (ValueError, {"samples": 0}, "samples.*0"),
    ):
        with pytest.raises(error, match=words):
            VariationalDequantization(**{"flow": flow, **arguments})
    flow = VariationalDequantization(flow, None, LEVELS)
    for error, keywords, words in (
        (TypeError, {"sed": 1}, r"\['sed'\]; known: \['samples', 'seed'\]"),
        (ValueError, {"samples": 0}, "samples"),
        (ValueError, {"context": CELLS}, "takes none"),
    ):
        with pytest.raises(error, match=words):
            flow.log_prob(CELLS, **keywords)
    with pytest.raises(ValueError, match="value must end in"):
        flow.log_prob(np.ones((3, 3)))
