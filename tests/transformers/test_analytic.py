"""Analytic bijections."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.transformers.support import (
    parameters_of,
    smooth_bound,
    values,
)
from tfp_flows import transformers


@pytest.mark.parametrize("function", transformers.Analytic.functions)
def test_an_analytic_bijection_is_its_formula(function):
    analytic = transformers.Analytic(function, 2)
    theta = parameters_of(analytic, 1, 2.0)
    centers, scales, amounts, (log_scale, shift) = np.split(theta[:, 0], [2, 4, 6])
    x, spread = np.linspace(-4, 4, 9), np.array([-2.0, 2.0])
    y = x
    for center, scale, raw in zip(centers + spread, scales, amounts, strict=True):
        scale = np.exp(smooth_bound(scale, 3.0))
        u = (y - center) / scale
        if function == "cubic_rational":
            y = y + smooth_bound(raw, 7.92 if raw > 0 else 0.99) * scale * u / (
                1 + u**2
            )
        elif function == "sinh":
            y = center + scale * np.arcsinh(np.sinh(u) + smooth_bound(raw, 10.0))
        else:
            moved = u + u**3 + smooth_bound(raw, 10.0)
            roots = [np.roots([1, 0, 1, -m]) for m in moved]
            root = [r[np.abs(r.imag).argmin()].real for r in roots]
            y = center + scale * np.array(root)
    want = np.exp(smooth_bound(log_scale, 2.0)) * y + shift
    np.testing.assert_allclose(values(analytic, x, theta), want, atol=1e-9)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_the_slope_of_a_cubic_rational_bijection_stays_above_zero(raw):
    """The least one is 1 + lambda at the center, or 1 - lambda / 8 beside it."""
    x = tf.constant(np.linspace(-4, 4, 4001))
    theta = tf.constant([[0.0], [0.0], [raw], [0.0], [0.0]], "float64")
    _, log_det = transformers.Analytic("cubic_rational", 1).forward_and_log_det(
        x, theta
    )
    assert abs(np.exp(log_det).min() - 0.01) < 1e-3


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: transformers.Analytic("tanh"),
            "function must be one of 'cubic_rational', 'sinh', 'cubic'",
        ),
        (lambda: transformers.Analytic(count=0), "count must be at least 1"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
