"""Base distributions, against formulas and TFP."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import normal
from tfp_flows import distributions
from tfp_flows.distributions import marginals

tfd = tfp.distributions


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
def test_formulas(shape, dtype):
    z = normal(5, *shape, dtype=dtype)
    axes = tuple(range(1, z.shape.rank))
    expected = {
        distributions.standard_normal: -(z**2 + np.log(2 * np.pi)) / 2,
        distributions.standard_logistic: -np.log1p(np.exp(z)) - np.log1p(np.exp(-z)),
        distributions.diagonal_normal: -(z**2 + np.log(2 * np.pi)) / 2,
    }
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for build, terms in expected.items():
        base = build(shape, dtype)
        assert base.event_shape == shape
        assert base.batch_shape == ()
        assert base.dtype == dtype
        np.testing.assert_allclose(
            base.log_prob(z), np.sum(terms, axes), rtol=tolerance, atol=tolerance
        )
        assert base.sample(2, seed=0).shape == (2, *shape)


BASES = {
    "normal": lambda: distributions.standard_normal((2,)),
    "diagonal": lambda: distributions.diagonal_normal((2,)),
    "student_t": lambda: distributions.student_t((2,)),
    "mixture": lambda: distributions.gaussian_mixture((2,)),
    "fitted_mixture": lambda: distributions.FittedMixture((2,)),
}


@pytest.mark.parametrize("build", BASES.values(), ids=BASES)
def test_seeds_of_any_size_repeat_samples(build):
    """In TFP's own distributions, integers overflow, or depend on what was drawn."""
    base, samples = build(), set()
    for seed in (1, -1, 2**64 - 1, int(np.random.SeedSequence(5).entropy)):
        for draw in (base.sample, base.experimental_sample_and_log_prob):
            first, again = (tf.nest.flatten(draw(3, seed=seed))[0] for _ in range(2))
            np.testing.assert_array_equal(first, again)
        samples.add(tuple(np.ravel(first)))
    assert len(samples) == 4
    assert np.abs(base.sample(3) - base.sample(3)).max() > 0


@pytest.mark.parametrize("build", BASES.values(), ids=BASES)
def test_values_that_are_no_real_numbers(build):
    base = build()
    masked = np.ma.masked_array([0.0, 1.0], [True, False])
    for use in (base.log_prob, base.prob):
        with pytest.raises(ValueError, match="value must be a tensor, got None"):
            use(None)
        for value in (np.array([1.0, 1j]), tf.constant([1.0 + 0j, 1j])):
            with pytest.raises(TypeError, match="must hold real numbers, got dtype co"):
                use(value)
        with pytest.raises(TypeError, match="value has masked entries"):
            use(masked)


def test_logistic_is_tfps():
    z = 20 * normal(50, 3, dtype="float64")
    base = distributions.standard_logistic((3,), "float64")
    reference = tfd.Logistic(tf.zeros([], tf.float64), 1.0)
    np.testing.assert_allclose(
        base.log_prob(z), tf.reduce_sum(reference.log_prob(z), -1), rtol=1e-12
    )
    sample = base.sample(20000, seed=1)
    np.testing.assert_allclose(tf.math.reduce_std(sample, 0), np.pi / 3**0.5, rtol=0.03)


def test_logistic_is_finite_far_out():
    base = distributions.standard_logistic((2,))
    log_prob = base.log_prob([[1e4, -1e4]])
    np.testing.assert_allclose(log_prob, [-2e4], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_diagonal_normal_learns_mean_and_deviation(dtype):
    base = distributions.diagonal_normal((3,), dtype)
    assert len(base.trainable_variables) == 2
    z = normal(6, 3, dtype=dtype)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(base.log_prob(z))
    gradients = {
        v.name: g
        for v, g in zip(
            base.trainable_variables,
            tape.gradient(loss, base.trainable_variables),
            strict=True,
        )
    }
    (mean,) = (g for name, g in gradients.items() if "mean" in name)
    (log_scale,) = (g for name, g in gradients.items() if "mean" not in name)
    # d/dm = z - m, and d/ds = (z - m)^2 e^{-2s} - 1, at m = 0 and s = 0.
    np.testing.assert_allclose(mean, tf.reduce_sum(z, 0), rtol=1e-5)
    np.testing.assert_allclose(
        log_scale, tf.reduce_sum(z**2 - 1, 0), rtol=1e-5, atol=1e-5
    )


def test_standard_bases_have_nothing_to_train():
    for build in (distributions.standard_normal, distributions.standard_logistic):
        assert build((3,)).variables == ()


@pytest.mark.parametrize(
    "build",
    [
        distributions.standard_normal,
        distributions.standard_logistic,
        distributions.diagonal_normal,
        lambda shape: distributions.uniform(np.zeros(shape), np.ones(shape)),
        lambda shape: distributions.ClassConditionalNormal(shape, 2, seed=0),
        lambda shape: distributions.FittedMixture(shape, seed=0),
    ],
)
def test_noise_is_drawn_by_one_algorithm_whoever_compiles(build):
    """TensorFlow's own choice is another one under XLA, slow on a CPU."""
    base = build((2,))
    given = {"context": tf.eye(2)} if hasattr(base, "context_shape") else {}

    def sample(seed):
        return base.sample(3, seed=seed, **given)

    graph = tf.function(sample).get_concrete_function(tf.zeros([2], tf.int32)).graph
    kinds = {op.type for op in graph.get_operations() if "Random" in op.type}
    assert kinds & {"StatelessRandomNormalV2", "StatelessRandomUniformV2"}
    assert "StatelessRandomGetKeyCounter" not in kinds


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", ["Normal", "Logistic", "Uniform"])
def test_marginals_are_those_of_tfp(family, dtype, compiled):
    parameters = tf.constant([0.0, 3.0], dtype), tf.constant([1.0, 3.5], dtype)
    ours, theirs = (getattr(module, family)(*parameters) for module in (marginals, tfd))
    seed = tf.constant([1, 2])
    x = tf.function(lambda: ours.sample(20_000, seed=seed), jit_compile=compiled)()
    assert x.dtype == dtype
    assert x.shape == (20_000, 2)
    if not compiled:
        np.testing.assert_array_equal(x, theirs.sample(20_000, seed=seed))
    # Uniform by its own distribution function, within five standard errors.
    u = theirs.cdf(x)
    np.testing.assert_allclose(np.mean(u, 0), 0.5, atol=5 / np.sqrt(12 * 20_000))
    np.testing.assert_allclose(np.var(u, 0), 1 / 12, atol=5 * 0.075 / np.sqrt(20_000))
    x = ours.sample(0, seed=seed)
    assert x.shape == (0, 2)
