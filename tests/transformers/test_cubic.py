"""Cubic splines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from tests.transformers.support import (
    parameters_of,
    values,
    widths_and_heights,
)
from tfp_flows import transformers


def test_a_cubic_spline_has_steffens_slopes():
    spline = transformers.Cubic(6, bound=2.0)
    theta = parameters_of(spline, 1, 2.0, seed=57)
    x, y = widths_and_heights(spline, theta)
    w = np.diff(x)
    s = np.diff(y) / w
    p = (s[:-1] * w[1:] + s[1:] * w[:-1]) / (w[:-1] + w[1:])
    inner = 2 * np.minimum(np.minimum(s[:-1], s[1:]), 0.5 * p)
    assert s[0] < 1 / 3 < s[-1] < 1
    want = CubicHermiteSpline(x, y, np.concatenate([[3 * s[0]], inner, [1.0]]))
    grid = np.linspace(-2, 2, 101)
    np.testing.assert_allclose(values(spline, grid, theta), want(grid), atol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.Cubic(4, min_bin=0.25), "min_bin.*0.25, got 0.25"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
