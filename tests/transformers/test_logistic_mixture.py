"""Mixtures of logistics: formula, widths, inverse."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import fast_and_slow
from tests.transformers.support import (
    parameters_of,
    smooth_bound,
)
from tfp_flows import transformers


def test_the_mixture_is_its_formula():
    mixture = transformers.LogisticMixture(3)
    theta = parameters_of(mixture, 1)
    logits, means, scales = (theta[3 * i : 3 * i + 3, 0].numpy() for i in range(3))
    weights = np.exp(logits) / np.exp(logits).sum()
    means += np.array([-1.0, 0.0, 1.0])
    scales = np.exp(smooth_bound(scales, 5))
    a, b = smooth_bound(theta[9, 0], 2), theta[10, 0]
    x = np.linspace(-4, 4, 30)
    f = (weights / (1 + np.exp(-(x[:, None] - means) / scales))).sum(1)
    want = np.exp(a) * np.log(f / (1 - f)) + b
    got, _ = mixture.forward_and_log_det(tf.constant(x), theta)
    np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_widths_of_a_mixture_have_a_bound_on_each_side(dtype):
    mixture = transformers.LogisticMixture(1, 2.0, 0.5, -3.0)
    raw = tf.constant([-1e4, -0.01, 0.0, 0.01, 1e4], dtype)
    theta = tf.stack([0 * raw, 0 * raw, raw, 0 * raw, 0 * raw])
    # A single logistic has the log-odds (x - mu) e^-s.
    _, log_det = mixture.forward_and_log_det(tf.zeros_like(raw), theta)
    np.testing.assert_allclose(-log_det, [-3.0, -0.01, 0.0, 0.01, 0.5], atol=1e-3)


@pytest.mark.parametrize("components", [1, 3, 16])
def test_slopes_of_a_mixture_far_out_in_single_precision(components):
    mixture = transformers.LogisticMixture(components)
    theta = parameters_of(mixture, 100)
    x = tf.constant(np.random.default_rng(1).choice([-1e6, -1e3, 1e3, 1e6], 100))
    for method in (mixture.forward_and_log_det, mixture.inverse_and_log_det):
        want, want_log_det = method(x, theta)
        got, log_det = method(tf.cast(x, "float32"), tf.cast(theta, "float32"))
        np.testing.assert_allclose(got, want, rtol=2e-6)
        np.testing.assert_allclose(log_det, want_log_det, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [1.0, 6.0, 20.0])
@pytest.mark.parametrize("raw_scale", fast_and_slow([-3.0, -10.0], -3.0))
def test_inverse_of_a_mixture_that_is_flat_in_its_middle(dtype, gap, raw_scale):
    """Between two narrow logistics the slope is zero to all digits."""
    mixture = transformers.LogisticMixture(2)
    theta = np.zeros((mixture.num_parameters, 1))
    theta[2:4, 0], theta[4:6] = [-gap, gap], raw_scale
    theta = tf.constant(theta, dtype)
    y = tf.constant(np.linspace(-3, 3, 13), dtype)
    with tf.GradientTape() as tape:
        tape.watch([y, theta])
        x, log_det = mixture.inverse_and_log_det(y, theta)
        total = tf.reduce_sum(x) + tf.reduce_sum(log_det)
    back, _ = mixture.forward_and_log_det(x, theta)
    tolerance = 1e-3 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(back, y, atol=tolerance)
    assert np.isfinite(log_det).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(total, [y, theta]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(0.1, 8.0),
    components=st.integers(1, 6),
    exponent=st.floats(-3, 6),
)
def test_the_inverse_of_any_mixture(seed, scale, components, exponent):
    mixture = transformers.LogisticMixture(components)
    theta = parameters_of(mixture, 5, scale, seed)
    draw = np.random.default_rng(seed)
    y = tf.constant(10**exponent * draw.standard_normal(5))
    x, log_det = mixture.inverse_and_log_det(y, theta)
    back, slope = mixture.forward_and_log_det(tf.constant(x), theta)
    np.testing.assert_allclose(back, y, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(log_det, -slope, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: transformers.LogisticMixture(0),
            "components must be at least 1, got 0",
        ),
        (
            lambda: transformers.LogisticMixture(2, max_log_scale=0.0),
            "max_log_scale must be above 0",
        ),
        (
            lambda: transformers.LogisticMixture(2, max_component_log_scale=-1.0),
            "max_component_log_scale",
        ),
        (
            lambda: transformers.LogisticMixture(2, min_component_log_scale=1.0),
            "min_component_log_scale must be below 0",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
