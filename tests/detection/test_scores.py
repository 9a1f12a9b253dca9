"""Scores of distributions whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close
from tfp_flows import Flow, bijectors, detection, distributions, flows

tfd = tfp.distributions

LOG_2PI = math.log(2 * math.pi)
X = np.array([[0.0, 0.0], [3.0, 4.0], [-1.0, 2.0]])


def scaled(scale=2.0):
    """x = scale * z in two dimensions, in float64."""
    base = distributions.standard_normal((2,), "float64")
    return Flow(base, tfp.bijectors.Scale(tf.constant(scale, "float64")))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_negative_log_likelihood(batch_size):
    found = detection.negative_log_likelihood(scaled(), X, batch_size=batch_size)
    squares = np.square(X).sum(1)
    close(found, squares / 8 + LOG_2PI + 2 * math.log(2))
    assert found.dtype == np.float64


def test_no_data():
    assert detection.negative_log_likelihood(scaled(), np.zeros([0, 2])).shape == (0,)


def test_outside_of_the_range():
    flow = flows.nice((2,), width=4, bounds=(0, 1), logit_margin=0.01, seed=0)
    x = np.array([[0.5, 0.5], [0.5, 3.0]])
    assert np.isposinf(detection.negative_log_likelihood(flow, x)).tolist() == [0, 1]
    assert np.isposinf(detection.likelihood_ratio(flow, flow, x)).tolist() == [0, 1]


def test_typicality():
    """Of a standard normal in D dimensions, whose entropy is D (1 + log 2 pi) / 2."""
    size = 50
    flow = distributions.standard_normal((size,), "float64")
    draw = np.random.default_rng(0).normal(size=(200, size))
    entropy = size * (1 + LOG_2PI) / 2
    score = detection.typicality(flow, draw, entropy)
    # The mode has the highest density, but is not typical.
    mode = detection.typicality(flow, np.zeros([1, size]), entropy)
    close(mode, [size / 2])
    assert detection.auroc(score, mode) == 1.0
    nll = detection.negative_log_likelihood(flow, draw)
    assert detection.auroc(nll, [size * LOG_2PI / 2]) == 0.0
    # Groups average before the absolute value is taken.
    groups = detection.typicality(flow, draw, entropy, group_size=100)
    close(groups, np.abs(nll.reshape(2, 100).mean(1) - entropy))
    assert groups.max() < score.mean() / 3


def test_typicality_errors():
    with pytest.raises(ValueError, match="group_size must divide 3 events, got 2"):
        detection.typicality(scaled(), X, 1.0, group_size=2)
    with pytest.raises(ValueError, match="entropy must be finite, got nan"):
        detection.typicality(scaled(), X, math.nan)
    with pytest.raises(TypeError, match="group_size must be an integer"):
        detection.typicality(scaled(), X, 1.0, group_size=1.5)


def test_likelihood_ratio():
    found = detection.likelihood_ratio(scaled(1.0), scaled(2.0), X)
    close(found, np.square(X).sum(1) * (1 / 2 - 1 / 8) - 2 * math.log(2))
    with pytest.raises(ValueError, match="background must have the event shape"):
        detection.likelihood_ratio(scaled(), flows.nice((3,), seed=0), X)


def test_gradient_norm():
    close(detection.gradient_norm(scaled(), X), np.linalg.norm(X, axis=1) / 4)
    # Of whole events, and of each on its own.
    image = distributions.standard_normal((2, 2, 1), "float64")
    x = np.full((3, 2, 2, 1), [[[[2.0]]], [[[0.0]]], [[[1.0]]]])
    close(detection.gradient_norm(image, x), [4.0, 0.0, 2.0])


def test_latent_norm():
    close(detection.latent_norm(scaled(), X), np.linalg.norm(X, axis=1) / 2)
    base = tfd.MultivariateNormalDiag(
        np.array([1.0, 0.0]), scale_diag=np.array([3.0, 0.5])
    )
    flow = Flow(base, bijectors.Scaling((2,), dtype="float64"))
    close(detection.latent_norm(flow, [[4.0, 0.0], [1.0, 2.0]]), [1.0, 4.0])
    with pytest.raises(ValueError, match="flow must be a Flow, got Mul"):
        detection.latent_norm(base, X)


SCORES = {
    "density": detection.negative_log_likelihood,
    "gradient": detection.gradient_norm,
    "norm": detection.latent_norm,
}


@pytest.mark.parametrize("name", SCORES)
def test_contexts(name):
    flow = flows.real_nvp((2,), layers=2, width=4, num_classes=3, seed=0)
    for v in flow.trainable_variables:
        v.assign_add(tf.random.stateless_normal(v.shape, [0, 1]))
    labels = np.array([0, 2, 1])
    found = SCORES[name](flow, X, context=labels, batch_size=2)
    one = SCORES[name](flow, X[1:2], context=labels[1:2])
    close(found[1:2], one, 1e-5)
    assert abs(one - SCORES[name](flow, X[1:2], context=[0])) > 1e-3
    with pytest.raises(ValueError, match=r"context must have shape \(3,\)"):
        SCORES[name](flow, X)
    with pytest.raises(ValueError, match=r"context must have shape \(3,\)"):
        SCORES[name](flow, X, context=[0])


def test_wrong_data():
    with pytest.raises(ValueError, match=r"x must be \[N, \*\(2,\)\], got shape \(3,"):
        detection.negative_log_likelihood(scaled(), np.zeros([3, 3]))
    with pytest.raises(ValueError, match=r"x must be \[N, "):
        detection.gradient_norm(scaled(), np.zeros([2]))
    with pytest.raises(TypeError, match="x must hold real numbers"):
        detection.negative_log_likelihood(scaled(), np.array([["a", "b"]]))
    with pytest.raises(ValueError, match="context was given"):
        detection.negative_log_likelihood(scaled(), X, context=[0, 0, 0])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        detection.negative_log_likelihood(scaled(), X, batch_size=0)


class TestMutate:
    def test_rate_and_levels(self):
        x = np.full((100, 100), 3, np.uint8)
        found = detection.mutate(x, 0.2, levels=5, seed=1)
        assert found.dtype == np.uint8
        # A fifth of what is replaced becomes what it was.
        assert (found != 3).mean() == pytest.approx(0.2 * 4 / 5, abs=0.02)
        counts = np.bincount(found[found != 3], minlength=5) / (found != 3).sum()
        np.testing.assert_allclose(counts, [0.25, 0.25, 0.25, 0, 0.25], atol=0.05)

    def test_seeds(self):
        x = np.zeros(100, int)
        one = detection.mutate(x, 0.5, seed=1)
        np.testing.assert_array_equal(one, detection.mutate(x, 0.5, seed=1))
        assert (one != detection.mutate(x, 0.5, seed=2)).any()
        np.testing.assert_array_equal(detection.mutate(x, 0.0), x)

    def test_errors(self):
        for wrong in ([0.5], [-1], [17]):
            with pytest.raises(ValueError, match="whole numbers from 0 to 16"):
                detection.mutate(wrong, 0.1, levels=17)
        with pytest.raises(ValueError, match=r"rate must be .* got 1\.5"):
            detection.mutate([0], 1.5)


def test_many_calls_are_no_reason_to_warn(caplog, monkeypatch):
    flow = scaled()
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    for _ in range(8):
        detection.negative_log_likelihood(flow, X, batch_size=2)
    assert not caplog.records
