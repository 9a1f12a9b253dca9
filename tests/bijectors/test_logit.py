"""The logit on its bounds, beyond them, and inside TFP's distributions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors as B

tfd = tfp.distributions
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
MODES = {
    "eager": lambda f: f,
    "function": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, autograph=False, jit_compile=True),
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@modes
@dtypes
def test_outside_the_density_is_zero_and_nothing_else_changes(dtype, mode):
    logit = B.Logit(0.1, 0.0, 8.0)
    assert logit.domain == pytest.approx((-1.0, 9.0))
    inside = [-0.99, 0.0, 3.0, 8.0, 8.99]
    outside = [-1.01, 9.01, -1e6, 1e30, -np.inf, np.inf]
    y = tf.constant([*inside, *outside, np.nan], dtype)

    def evaluate(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            x, log_det = logit.inverse_and_log_det(y)
            density = tfd.Normal(tf.zeros([], y.dtype), 1.0).log_prob(x) + log_det
        return x, log_det, tape.gradient(density, y)

    x, log_det, gradient = (v.numpy() for v in mode(evaluate)(y))
    alone = [v.numpy() for v in mode(evaluate)(y[: len(inside)])]
    for all_of_them, expected in zip((x, log_det, gradient), alone, strict=True):
        tolerance = 1e-6 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(all_of_them[: len(inside)], expected, tolerance)
    here = slice(len(inside), -1)
    assert np.isfinite(x[here]).all() and np.isfinite(gradient[here]).all()
    np.testing.assert_array_equal(log_det[here], -np.inf)
    np.testing.assert_array_equal(np.sign(x[here]), np.sign(y[here].numpy() - 4))
    assert np.isnan(x[-1]) and np.isnan(log_det[-1])


@dtypes
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (18.0, 90.0), (-1.0, 1.0), (1e3, 1e3 + 1)]
)
def test_samples_from_far_out_are_inside(low, high, dtype):
    """They round to the ends of the domain, where a density is finite still."""
    logit = B.Logit(0.05, low, high)
    x = tf.constant([-1e4, -100.0, -20.0, 20.0, 100.0, 1e4], dtype)
    y = logit.forward(x)
    back, log_det = logit.inverse_and_log_det(tf.identity(y))
    assert np.isfinite(back).all() and np.isfinite(log_det).all()
    np.testing.assert_array_equal(np.sign(back), np.sign(x))


@dtypes
@pytest.mark.parametrize("margin", [1e-9, 1e-6, 0.05, 0.49])
def test_both_bounds_are_inside_and_alike(margin, dtype):
    logit = B.Logit(margin, 0.0, 256.0)
    y = tf.constant([0.0, 256.0], dtype)
    x, log_det = logit.inverse_and_log_det(y)
    expected = np.log1p(-margin) - np.log(margin)
    np.testing.assert_allclose(x, [-expected, expected], rtol=1e-5)
    expected = np.log((1 - 2 * margin) / 256 / margin / (1 - margin))
    np.testing.assert_allclose(log_det, [expected, expected], rtol=1e-5)


def test_a_mixture_of_bounded_densities():
    """Each part is zero where the other is."""

    def part(low, high):
        return tfd.TransformedDistribution(
            tfd.Normal(0.0, 1.0), B.Logit(0.05, low, high)
        )

    parts = part(0.0, 1.0), part(5.0, 6.0)
    mixture = tfd.Mixture(tfd.Categorical(probs=[0.3, 0.7]), list(parts))
    y = tf.constant([0.5, 5.5, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(y)
        log_prob = mixture.log_prob(y)
        total = tf.reduce_sum(log_prob[:2])
    expected = [
        np.log(0.3) + parts[0].log_prob(0.5),
        np.log(0.7) + parts[1].log_prob(5.5),
        -np.inf,
    ]
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(tape.gradient(total, y)[:2]).all()


@pytest.mark.parametrize("compose", [lambda b: b, lambda b: tfp.bijectors.Chain([b])])
def test_distribution_functions_of_what_it_transforms(compose):
    logit = B.Logit(0.05, 2.0, 4.0, dtype="float64")
    base = tfd.Normal(tf.constant(0.5, tf.float64), 1.2)
    distribution = tfd.TransformedDistribution(base, compose(logit))
    x = tf.constant([-1.0, 0.2, 3.0], tf.float64)
    y = logit.forward(x)
    np.testing.assert_allclose(distribution.cdf(y), base.cdf(x), rtol=1e-9)
    np.testing.assert_allclose(
        distribution.survival_function(y), base.survival_function(x), rtol=1e-9
    )
    np.testing.assert_allclose(distribution.quantile(base.cdf(x)), y, rtol=1e-9)
    # Nothing is below the domain, and all is below its end.
    np.testing.assert_allclose(distribution.cdf([1.0, 5.0]), [0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"logit_margin": 0.0}, ValueError, "logit_margin must be above 0 and below"),
        ({"logit_margin": 0.5}, ValueError, "above 0 and below 0.5, got 0.5"),
        ({"logit_margin": "0.1"}, TypeError, "logit_margin must be a number"),
        ({"logit_margin": 0.1, "low": 1.0, "high": 0.0}, ValueError, "low"),
        ({"low": 1.0, "high": 1.0}, ValueError, "low must be below high"),
        ({"high": np.inf}, ValueError, "high must be finite, got inf"),
    ],
)
def test_errors(arguments, error, words):
    with pytest.raises(error, match=words):
        B.Logit(**arguments)
