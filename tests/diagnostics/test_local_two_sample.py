from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from tests.diagnostics.support import check, every_posterior, simulated
from tfp_flows.diagnostics import local_two_sample_test

MODEL = simulated(2000)
AT = np.array([[0.0, 0.0], [1.0, -1.0]])


def run(samples, observed_samples, **options):
    return local_two_sample_test(
        MODEL.truth,
        samples,
        MODEL.data,
        observed_samples,
        AT,
        **{"classifier": QuadraticDiscriminantAnalysis(), **options},
    )


@every_posterior
def test_posteriors_of_two_observations(kind):
    samples = MODEL.sample(kind, 1, seed=2)[0]
    found = run(samples, MODEL.sample(kind, 500, AT), permutations=120)
    assert found.null.shape == (120, 2)
    for p_value in found.p_values:
        check(kind, p_value)


def test_is_local():
    """Wrong by a deviation where the first number is above 1, and only there."""
    wrong = np.where(MODEL.data[:, :1] > 1, MODEL.data, MODEL.data / 2)

    class Known:
        """The exact classifier, but for labels that are permuted."""

        def get_params(self, deep=True):
            return {}

        def fit(self, x, y):
            self.knows = y[: len(y) // 2].sum() == 0

        def predict_proba(self, x):
            p = 0.5 + 0.4 * self.knows * (x[:, 2] > 0.5)
            return np.stack([1 - p, p], -1)

    found = run(
        MODEL.sample("exact", 1, wrong)[0],
        MODEL.sample("exact", 50, AT),
        classifier=Known(),
        permutations=19,
    )
    np.testing.assert_allclose(found.statistics, [0.0, 0.16])
    np.testing.assert_allclose(found.p_values, [1.0, 1 / 20])
    assert str(found).startswith("L-C2ST 0.0000, p-value 1.0000, L-C2ST 0.1600")


def test_errors():
    samples, at = MODEL.sample("exact", 1)[0], MODEL.sample("exact", 5, AT)
    with pytest.raises(ValueError, match=r"got shapes \(1, 9, 2\) and \(2000, 2\)"):
        run(samples[:9], at)
    with pytest.raises(ValueError, match="columns of samples"):
        run(samples, at[:, :1])
    with pytest.raises(ValueError, match="same parameters, got 1 and 2"):
        run(samples, at[..., :1])
    with pytest.raises(ValueError, match="must not hold NaN"):
        run(samples, at * np.nan)
    with pytest.raises(ValueError, match="permutations"):
        run(samples, at, permutations=0)
