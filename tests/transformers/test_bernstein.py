"""Bernstein polynomials."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import BPoly

from tests.support import softplus
from tests.transformers.support import (
    parameters_of,
    values,
)
from tfp_flows import transformers


def test_a_bernstein_polynomial_is_scipys():
    polynomial = transformers.Bernstein(6, bound=2.0)
    theta = parameters_of(polynomial, 1)
    raw = theta[1:, 0].numpy() + np.log(np.expm1(0.999))
    steps = (0.001 + softplus(raw)) * 4 / 6
    alpha = np.append(0, np.cumsum(steps)) - steps.sum() / 2 + theta[0, 0].numpy()
    want = BPoly(alpha[:, None], [-2, 2])
    grid = np.linspace(-2, 2, 31)
    np.testing.assert_allclose(values(polynomial, grid, theta), want(grid), atol=1e-12)
    # Beyond, the line that touches it at its end.
    line = want(2.0) + 5 * want(2.0, 1)
    got, log_det = polynomial.forward_and_log_det(tf.constant([7.0], "float64"), theta)
    np.testing.assert_allclose(got[0], line, rtol=1e-12)
    np.testing.assert_allclose(log_det[0], np.log(want(2.0, 1)), rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.Bernstein(0), "degree must be at least 1, got 0"),
        (lambda: transformers.Bernstein(bound=-1.0), "bound must be above 0"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
