from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.svm import LinearSVC

from tests.diagnostics.support import check, every_posterior, simulated
from tfp_flows.diagnostics import two_sample_test

MODEL = simulated(1)


@every_posterior
def test_posteriors_of_one_observation(kind):
    exact, samples = (
        MODEL.sample(k, 2000, seed=seed)[:, 0] for k, seed in (("exact", 1), (kind, 2))
    )
    found = two_sample_test(exact, samples, classifier=QuadraticDiscriminantAnalysis())
    check(kind, found.p_value)
    assert found.accuracies.shape == (5,)
    assert found.accuracy == pytest.approx(found.accuracies.mean())
    if kind == "biased":
        # The best classifier cuts between the means, a deviation apart in each.
        best = norm.cdf(np.sqrt(2) / 2)
        assert found.accuracy == pytest.approx(best, abs=0.02)


def test_default_network_sees_what_moments_do_not():
    draw = np.random.default_rng(0)
    square = draw.uniform(-1, 1, [600, 2])
    turned = draw.uniform(-1, 1, [600, 2]) @ [[1, 1], [1, -1]] / np.sqrt(2)
    found = two_sample_test(100 + 10 * square, 100 + 10 * turned, folds=2)
    # A square and the same one on its tip share 83% of their areas.
    best = 0.5 + 0.5 * (1 - 2 * (np.sqrt(2) - 1))
    assert best - 0.06 < found.accuracy < best + 0.03
    assert found.p_value < 0.001


def test_p_value():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=[2, 400, 1])
    found = two_sample_test(a, b, classifier=QuadraticDiscriminantAnalysis())
    assert found.deviation == pytest.approx(0.5 / np.sqrt(800))
    z = (found.accuracy - 0.5) / found.deviation
    assert found.p_value == pytest.approx(norm.sf(z))
    assert str(found).startswith(f"C2ST {found.accuracy:.3f}, p-value")


def test_errors(monkeypatch):
    a = np.zeros([20, 2])
    with pytest.raises(ValueError, match=r"equally many .* \(20, 2\) and \(19, 2\)"):
        two_sample_test(a, a[1:])
    with pytest.raises(ValueError, match="equally many"):
        two_sample_test(a, a[:, :1])
    with pytest.raises(ValueError, match="second must not hold NaN"):
        two_sample_test(a, a + np.nan)
    with pytest.raises(ValueError, match="folds"):
        two_sample_test(a, a, folds=1)
    with pytest.raises(TypeError, match="predict_proba, got LinearSVC"):
        two_sample_test(a, a, classifier=LinearSVC())
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    with pytest.raises(ImportError, match="tfp_flows\\[data\\]"):
        two_sample_test(a, a)
