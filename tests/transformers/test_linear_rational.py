"""Linear rational splines."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import softplus
from tests.transformers.support import (
    parameters_of,
    values,
    widths_and_heights,
)
from tfp_flows import transformers


def test_a_linear_rational_spline_is_its_algorithm():
    """Dolatabadi et al. 2020, algorithm 1, with values at both ends of each bin."""
    spline = transformers.LinearRational(5, bound=2.0)
    theta = parameters_of(spline, 1)
    x, y = widths_and_heights(spline, theta)
    raw = theta[10:14, 0].numpy() + np.log(np.expm1(1 - spline.min_slope))
    d = np.concatenate([[1], spline.min_slope + softplus(raw), [1]])
    meet = 0.025 + 0.95 / (1 + np.exp(-theta[14:, 0].numpy()))
    inputs, want = [], []
    for k in range(5):
        phi = np.linspace(0.01, 0.99, 7)
        w0, w1 = 1.0, np.sqrt(d[k] / d[k + 1])
        wm = meet[k] * w0 * d[k] + (1 - meet[k]) * w1 * d[k + 1]
        wm *= (x[k + 1] - x[k]) / (y[k + 1] - y[k])
        ym = (1 - meet[k]) * w0 * y[k] + meet[k] * w1 * y[k + 1]
        ym /= (1 - meet[k]) * w0 + meet[k] * w1
        left = w0 * y[k] * (meet[k] - phi) + wm * ym * phi
        left /= w0 * (meet[k] - phi) + wm * phi
        right = wm * ym * (1 - phi) + w1 * y[k + 1] * (phi - meet[k])
        right /= wm * (1 - phi) + w1 * (phi - meet[k])
        inputs.append(x[k] + phi * (x[k + 1] - x[k]))
        want.append(np.where(phi <= meet[k], left, right))
    got = values(spline, np.concatenate(inputs), theta)
    np.testing.assert_allclose(got, np.concatenate(want), atol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.LinearRational(1), "bins must be at least 2, got 1"),
        (lambda: transformers.LinearRational(min_slope=0.0), "min_slope"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
