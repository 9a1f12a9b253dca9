"""Integrals of sums of squares."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transformers.support import (
    parameters_of,
    values,
)
from tfp_flows import transformers


def test_a_sum_of_squares_is_its_integral():
    polynomial = transformers.SumOfSquares(2, 3, bound=2.0)
    theta = parameters_of(polynomial, 1)
    a = theta[:-1, 0].numpy().reshape(4, 2) + polynomial._start[..., 0]
    # At zero parameters, squares of the constants add up to one.
    assert abs((polynomial._start[0] ** 2).sum() + polynomial.min_slope - 1) < 1e-12
    want = sum(np.polynomial.Polynomial(p) ** 2 for p in a.T) + polynomial.min_slope
    want = 2 * want.integ() + theta[-1, 0].numpy()
    grid = np.linspace(-2, 2, 31)
    got = values(polynomial, grid, theta)
    np.testing.assert_allclose(got, want(grid / 2), atol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.SumOfSquares(0), "polynomials must be at least 1"),
        (lambda: transformers.SumOfSquares(2, 0), "degree must be at least 1"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
