from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tfp_flows.diagnostics import uniformity


def test_band_holds_whole_functions_as_often_as_it_says():
    draw = np.random.default_rng(0)
    values = draw.uniform(size=[200, 500])
    found = uniformity(values, level=0.9, seed=1)
    inside = (found.fractions >= found.lower[:, None]) & (
        found.fractions <= found.upper[:, None]
    )
    # Of 500, 450 +- 7.
    assert 0.86 <= inside.all(0).mean() <= 0.95
    # A pointwise band of this level would be narrower.
    middle = len(found.points) // 2
    assert found.upper[middle] - found.lower[middle] > np.diff(
        binom.ppf([0.05, 0.95], 200, 0.5) / 200
    )
    # A function leaves the band where its p-value is below 1 - level.
    leaves = ~inside.all(0)
    assert found.p_values[leaves].max() <= 0.105
    assert found.p_values[~leaves].min() > 0.095
    # p-values of uniform numbers are uniform.
    assert abs(np.mean(found.p_values < 0.5) - 0.5) < 0.08


def test_ranks():
    ranks = np.tile(np.arange(10), 20)
    found = uniformity(ranks, 10)
    np.testing.assert_allclose(found.points, np.arange(1, 10) / 10)
    np.testing.assert_allclose(found.fractions[:, 0], found.points)
    assert found.p_value == 1.0 and found.names == ("value",)
    # Ranks from 0 to 4 alone, of which half are below 2.5 / 10.
    low = uniformity(ranks // 2, 10)
    assert low.fractions[4, 0] == 1.0 and low.p_value < 0.001
    # More samples than points.
    many = uniformity(np.arange(1000), 1000)
    np.testing.assert_allclose(many.fractions[:, 0], many.points)
    assert len(many.points) == 99


def test_several_kinds():
    draw = np.random.default_rng(0)
    u = draw.uniform(size=[300, 2])
    found = uniformity(np.stack([u[:, 0], u[:, 1] ** 1.5], -1), names=["a", "b"])
    assert found.p_values[0] > 0.05 > found.p_values[1]
    assert found.p_value == pytest.approx(2 * found.p_values[1])
    assert str(found).startswith("p-value 0.0010 (a 0.")


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("at least 10, got shape \\(5,", {"values": [0.1] * 5}),
        ("got shape \\(20, 1, 1\\)", {"values": np.full([20, 1, 1], 0.5)}),
        ("lie in \\[0, 1\\], got from 0 to 1.5", {"values": [0.0, 1.5] * 10}),
        ("lie in \\[0, 4\\], got from 0 to 5", {"values": [0, 5] * 10, "bins": 5}),
        ("must be integers", {"values": [0.5] * 10, "bins": 5}),
        ("lie in \\[0, 1\\]", {"values": [np.nan] * 10}),
        ("names must be 1", {"values": [0.5] * 10, "names": ["a", "b"]}),
        ("level must be", {"values": [0.5] * 10, "level": 1.0}),
    ],
)
def test_errors(words, arguments):
    with pytest.raises(ValueError, match=words):
        uniformity(**arguments)
