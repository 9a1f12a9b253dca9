"""The exact posterior of a conjugate model passes; wrong ones fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, ncx2

from tests.diagnostics.support import (
    POSTERIORS,
    check,
    every_posterior,
    simulated,
)
from tfp_flows.diagnostics import (
    expected_coverage,
    simulation_based_calibration,
    tarp,
)

MODEL = simulated()


@every_posterior
def test_simulation_based_calibration(kind):
    samples = MODEL.sample(kind, 99)
    found = simulation_based_calibration(MODEL.truth, samples)
    check(kind, found.p_value)
    low, middle, high = np.mean(found.fractions[[9, 49, 89]], -1)
    if kind == "overconfident":
        assert low > 0.15 and high < 0.85 and abs(middle - 0.5) < 0.06
    if kind == "biased":
        # Ranks are too low, as the posterior is too high.
        assert low > 0.15 and high > 0.9


@every_posterior
def test_expected_coverage(kind):
    samples = MODEL.sample(kind, 99)
    found = expected_coverage(
        MODEL.log_prob(kind, MODEL.truth), MODEL.log_prob(kind, samples)
    )
    check(kind, found.p_value)
    # Of regions with credibility 1/2.
    factor, shift = POSTERIORS[kind]
    square = chi2.ppf(0.5, 2) * factor**2
    exact = ncx2.cdf(square, 2, 2 * shift**2) if shift else chi2.cdf(square, 2)
    assert found.fractions[49, 0] == pytest.approx(exact, abs=0.05)


@every_posterior
def test_tarp(kind):
    samples = MODEL.sample(kind, 99)
    found = tarp(MODEL.truth, samples)
    check(kind, found.p_value)
    if kind == "overconfident":
        # The truth is nearer than all samples, or farther, too often.
        assert found.fractions[9, 0] > 0.12 and found.fractions[89, 0] < 0.88


def test_references_that_depend_on_data_see_the_prior():
    """The prior is no posterior, but all other tests pass it."""
    prior = np.random.default_rng(2).standard_normal([99, *MODEL.truth.shape])
    assert simulation_based_calibration(MODEL.truth, prior).p_value > 0.01
    assert tarp(MODEL.truth, prior).p_value > 0.01
    assert tarp(MODEL.truth, prior, 2 * MODEL.data).p_value < 0.001
    samples = MODEL.sample("exact", 99)
    assert tarp(MODEL.truth, samples, 2 * MODEL.data).p_value > 0.01


def test_structures_and_shapes():
    truth = {"b": np.zeros([20, 2, 1]), "a": np.arange(20.0)}
    samples = {"b": np.ones([3, 20, 2, 1]), "a": np.zeros([3, 20])}
    found = simulation_based_calibration(truth, samples)
    assert found.names == ("a", "b[0]", "b[1]")
    # 0 ties with three samples, all others are above: ranks are 3 of 3.
    assert np.mean(found.values[1:, 0] == 3.5 / 4) == 1.0
    assert np.all(found.values[:, 1:] == 0.5 / 4)
    assert simulation_based_calibration(truth["a"], samples["a"]).names == ("value",)


def test_ties_count_at_random():
    counts = np.random.default_rng(0).poisson(1.0, size=[100, 400])
    found = simulation_based_calibration(counts[0], counts[1:])
    assert found.p_value > 0.05


TRUTH, SAMPLES = np.zeros([20, 2]), np.zeros([5, 20, 2])


@pytest.mark.parametrize(
    ("words", "truth", "samples"),
    [
        ("got shapes \\(20, 5, 2\\) and \\(20, 2", TRUTH, np.zeros([20, 5, 2])),
        ("got shapes \\(20, 2\\)", TRUTH, TRUTH),
        ("truth must not hold NaN", TRUTH + np.nan, SAMPLES),
        ("samples must not hold NaN or infinity, but 200", TRUTH, SAMPLES + np.inf),
        ("same structure", {"a": TRUTH}, {"b": SAMPLES}),
        ("got shapes \\(5, 0, 2\\)", TRUTH[:0], SAMPLES[:, :0]),
        (
            "equally many",
            {"a": TRUTH, "b": TRUTH[1:]},
            {"a": SAMPLES, "b": SAMPLES[:, 1:]},
        ),
    ],
)
def test_errors(words, truth, samples):
    for test in (simulation_based_calibration, tarp):
        with pytest.raises(ValueError, match=words):
            test(truth, samples)


def test_errors_of_single_tests():
    with pytest.raises(ValueError, match=r"at least 10, got shape \(3, 2\)"):
        simulation_based_calibration(TRUTH[:3], SAMPLES[:, :3])
    with pytest.raises(ValueError, match="log_prob must be \\[N\\]"):
        expected_coverage(np.zeros(20), np.zeros([20, 5]))
    with pytest.raises(ValueError, match="log_prob must not hold NaN, but 20"):
        expected_coverage(np.full(20, np.nan), np.zeros([5, 20]))
    # Outside of the support is no error.
    assert expected_coverage(np.full(20, -np.inf), np.zeros([5, 20])).p_value < 0.01
    with pytest.raises(ValueError, match="got shapes \\(1, 20\\) and \\(20, 2\\)"):
        tarp(TRUTH, SAMPLES, np.zeros(20))
