"""Areas under ROC curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfp_flows.detection import auroc


@pytest.mark.parametrize(
    ("usual", "unusual", "expected"),
    [
        ([0, 1], [2, 3], 1.0),
        ([2, 3], [0, 1], 0.0),
        ([0, 2], [1, 3], 0.75),
        ([1, 1], [1, 1], 0.5),
        ([0, math.inf], [math.inf, math.inf], 0.75),
        ([0, -math.inf], [1.0], 1.0),
    ],
)
def test_known(usual, unusual, expected):
    assert auroc(usual, unusual) == pytest.approx(expected)


def test_gaussians():
    """Two of them at a distance of one deviation: Phi(1 / sqrt 2) = 0.760."""
    draw = np.random.default_rng(0).normal(size=(2, 20_000))
    assert auroc(draw[0], draw[1] + 1) == pytest.approx(0.760, abs=0.01)


@pytest.mark.parametrize("wrong", [[], [math.nan, 0.0], 1.0, [[1.0]]])
def test_errors(wrong):
    with pytest.raises(ValueError, match=r"^unusual must be a vector of scores"):
        auroc([1.0], wrong)
    with pytest.raises(ValueError, match=r"^usual must be a vector of scores"):
        auroc(wrong, [1.0])
