"""What is said of tables, and what flows of them are compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tfp_flows import datasets
from tfp_flows.command import tables
from tfp_flows.distributions import FittedMixture

DRAW = np.random.default_rng(0)


def test_odd_columns(tmp_path):
    n = 200
    x = np.stack(
        [
            DRAW.standard_normal(n),
            np.full(n, 3.5),
            DRAW.integers(0, 2, n) * 2.5,
            DRAW.integers(0, 50, n),
            DRAW.random(n),
            np.full(n, 2.0),
        ],
        1,
    )
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c,d,e,f", comments="")
    expected = {"constant": ["b", "f"], "binary": ["c"], "integer": ["d"]}
    assert tables.odd_columns(datasets.load(tmp_path / "x.csv")) == expected
    assert tables.odd_columns(datasets.load(x))["integer"] == ["feature 3"]
    assert tables.odd_columns(datasets.load(x[:, [0, 4]])) == {}
    # Integers get noise, and images are no tables.
    assert tables.odd_columns(datasets.load(np.zeros((9, 4), np.uint8))) == {}
    assert tables.odd_columns(datasets.load(np.zeros((9, 4, 4), np.uint8))) == {}


def test_the_gaussian_is_that_of_the_stored_units():
    scales = np.array([1e-6, 1.0, 300.0])
    cholesky = np.array([[1, 0, 0], [0.5, 1, 0], [-0.3, 0.2, 1]]) * scales[:, None]
    mean = np.array([2e-6, -7.0, 1e3])
    x = mean + DRAW.standard_normal((3000, 3)) @ cholesky.T
    source = datasets.load(x)
    found = tables.baselines(source)
    test = source.arrays("test")[0].astype(np.float64)
    unit = stats.norm.logpdf(np.linalg.solve(cholesky, (test - mean).T)).sum(0)
    exact = unit - np.log(np.diagonal(cholesky)).sum()
    assert found["gaussian"]["components"] == 1
    for name in ("gaussian", "mixture"):
        assert found[name]["log_likelihood"] == pytest.approx(exact.mean(), abs=0.03)
        assert found[name]["standard_error"] == pytest.approx(
            exact.std() / math.sqrt(len(test)), rel=0.05
        )


def test_the_mixture_finds_modes():
    source = datasets.load("eight_gaussians", n=(1000, 500, 2000))
    found = tables.baselines(source, seed=1)
    exact = datasets.TOYS["eight_gaussians"].log_prob(source.arrays("test")[0]).mean()
    assert found["mixture"]["components"] >= 8
    assert found["mixture"]["log_likelihood"] == pytest.approx(exact, abs=0.1)
    assert found["gaussian"]["log_likelihood"] < exact - 0.5
    assert tables.baselines(source, seed=1) == found


def test_few_rows_have_their_variances_raised():
    """Eleven numbers of one covariance are all that 40 rows can tell of it."""
    clusters = DRAW.standard_normal((4, 10)) * 4
    x = clusters[np.arange(4000) % 4] + DRAW.standard_normal((4000, 10))
    few, many = (tables.suited_start(datasets.load(x[:n])) for n in (60, 4000))
    assert few["base"]["ridge"] > tables.RIDGE
    assert many["base"] == {
        "name": "fitted_mixture",
        "components": 4,
        "ridge": tables.RIDGE,
    }
    # It is worth it.
    found = []
    for ridge in (few["base"]["ridge"], tables.RIDGE):
        base = FittedMixture((10,), few["base"]["components"], ridge, seed=0)
        base.initialize(x[:60])
        found.append(np.mean(base.log_prob(x[60:].astype("float32"))))
    assert found[0] > found[1] + 1.0


@pytest.mark.parametrize(("rows", "turns"), [(50, 10), (1250, 10), (4000, 4)])
def test_a_thousand_rows_held_out_are_enough(rows, turns, monkeypatch):
    taken = []

    def by_folds(mixture, rows, turns, seed):
        taken.append(turns)
        return _by_folds(mixture, rows[:50], turns, seed)

    _by_folds = tables._by_folds
    monkeypatch.setattr(tables, "_by_folds", by_folds)
    x = datasets.load(DRAW.standard_normal((rows, 2)))
    assert tables.suited_start(x)["base"]["components"] == 1
    assert set(taken) == {turns}


def test_awkward_tables_have_a_gaussian():
    n = 100
    one = DRAW.standard_normal((n, 1))
    for x, validation in (
        (np.concatenate([one, np.full((n, 1), 7.0), one], 1), 0.0),
        (DRAW.standard_normal((12, 30)), 0.1),
        (DRAW.integers(0, 256, (n, 1), dtype=np.uint8), 0.1),
    ):
        found = tables.baselines(datasets.load(x, validation=validation))
        assert all(math.isfinite(v["log_likelihood"]) for v in found.values())


def test_a_constant_feature_is_no_merit():
    x = DRAW.standard_normal((500, 2))
    both = [
        tables.baselines(datasets.load(data))
        for data in (x, np.insert(x, 1, 1e6 + 0.1, axis=1))
    ]
    for name in ("gaussian", "mixture"):
        plain, wider = (found[name]["log_likelihood"] for found in both)
        assert wider == pytest.approx(plain - 0.5 * math.log(2 * math.pi), abs=1e-9)
    alone = tables.baselines(datasets.load(np.full((50, 2), 3.0)))
    assert alone["gaussian"]["log_likelihood"] == pytest.approx(-math.log(2 * math.pi))


def test_the_cost_is_bounded(monkeypatch):
    wide = datasets.load(DRAW.standard_normal((40, 2001)))
    assert tables.baselines(wide) == {}
    source = datasets.load(DRAW.standard_normal((100, 3)))
    monkeypatch.setattr(tables, "_MULTIPLICATIONS", 0)
    assert tables.baselines(source).keys() == {"gaussian"}
    assert tables.suited_start(source) == {"normalize": True}


@pytest.mark.parametrize(
    ("log_likelihood", "expected"),
    [
        (-2.0, None),
        (-3.05, None),
        (-3.2, "below"),
        (-4.9, "below"),
        (-5.1, "far below"),
        (-1e9, "far below"),
        (-math.inf, "far below"),
        (math.nan, "far below"),
    ],
)
def test_shortfall(log_likelihood, expected):
    results = {"log_likelihood": log_likelihood, "standard_error": 0.03}
    gaussian = {"log_likelihood": -3.0, "standard_error": 0.02}
    assert tables.shortfall(results, gaussian, 2) == expected


def test_outliers_do_not_excuse_a_flow():
    gaussian = {"log_likelihood": -3.0, "standard_error": 0.02}
    # One row in a thousand has -1e9: so are the mean and its error alike.
    results = {"log_likelihood": -1e6, "standard_error": 1e6}
    assert tables.shortfall(results, gaussian, 2) == "far below"
    # Three nats are more than one for each feature, but not more than the Gaussian's
    # error.
    results["log_likelihood"] = -6.0
    noisy = {"log_likelihood": -3.0, "standard_error": 2.0}
    assert tables.shortfall(results, noisy, 2) is None
