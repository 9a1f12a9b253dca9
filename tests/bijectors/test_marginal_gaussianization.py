"""Marginal Gaussianization: the formula, and where it starts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from tests.support import close, normal, perturb
from tfp_flows import bijectors as B


def test_it_is_the_normal_quantile_of_a_mixture():
    marginals = perturb(B.MarginalGaussianization([2], 3, dtype="float64"), 0.3)
    y = 2.0 * normal(50, 2)
    x, log_det = marginals.inverse_and_log_det(y)
    (logits, means, log_scales), a, b = marginals._mixture._split(
        tf.convert_to_tensor(marginals.trainable_variables[0])
    )
    u = (y[:, None] - means) * np.exp(-log_scales)
    f = np.sum(np.exp(logits) * special.expit(u), 1)
    f = special.expit(special.logit(f) * np.exp(a) + b)
    close(x, stats.norm.ppf(f), 1e-9)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x = marginals.inverse(y)
    close(log_det, tf.reduce_sum(tf.math.log(tape.gradient(x, y)), -1))


@pytest.mark.parametrize("components", [1, 4, 30])
def test_a_new_one_is_near_the_identity(components):
    marginals = B.MarginalGaussianization([3], components, dtype="float64")
    y = normal(100, 3)
    assert np.abs(marginals.inverse(y) - y).max() < 0.6


@pytest.mark.parametrize(
    "draw",
    [
        lambda random: random.exponential(size=[4000, 2]),
        lambda random: random.standard_cauchy(size=[4000, 2]).clip(-20, 20),
        lambda random: (
            random.normal(size=[4000, 2]) + random.choice([-4, 4], [4000, 2])
        ),
        lambda random: random.normal(size=[4000, 2]) * [0.2, 8.0],
    ],
    ids=["exponential", "heavy", "modes", "units"],
)
def test_data_that_it_starts_from_become_normal(draw):
    y = draw(np.random.default_rng(0))
    marginals = B.MarginalGaussianization([2], 30, dtype="float64")
    assert marginals.needs_initialization
    x = marginals.initialize(y).numpy()
    assert not marginals.needs_initialization
    for column in x.T:
        assert stats.kstest(column, "norm").statistic < 0.05
    shaped = B.MarginalGaussianization([2], 30, dtype="float64")
    close(shaped.initialize(y.reshape([40, 100, 2])), x.reshape([40, 100, 2]))


def test_what_is_constant_keeps_its_start():
    y = np.random.default_rng(0).normal(size=[100, 2])
    y[:, 1] = 7.0
    marginals = B.MarginalGaussianization([2], dtype="float64")
    before = marginals.trainable_variables[0].numpy()
    assert np.isfinite(marginals.initialize(y)).all()
    after = marginals.trainable_variables[0].numpy()
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert (after[:, 0] != before[:, 0]).any()


def test_a_copy_does_not_start_anew():
    marginals = perturb(B.MarginalGaussianization([2], 3))
    before = marginals.trainable_variables[0].numpy()
    marginals.copy(name="other")
    np.testing.assert_array_equal(marginals.trainable_variables[0], before)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (
            lambda: B.MarginalGaussianization([2], 0),
            ValueError,
            "components must be at least 1, got 0",
        ),
        (
            lambda: B.MarginalGaussianization([2], 2.5),
            TypeError,
            "components must be an integer",
        ),
        (lambda: B.MarginalGaussianization([]), ValueError, "event_shape must have"),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error, match=words):
        build()
