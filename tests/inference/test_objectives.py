from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.inference.support import WithoutDensity, conjugate, gaussian, log_evidence
from tfp_flows.inference import forward_kl, importance_weighted, reverse_kl

# log Z = 2.
P = tfd.Normal(1.0, 2.0)


def target(x):
    return P.log_prob(x) + 2.0


def surrogate(loc=0.5, scale=1.5):
    return tfd.Normal(tf.Variable(loc), tf.Variable(scale))


def gradients(objective, q, **options):
    with tf.GradientTape() as tape:
        loss, _ = objective(target, q, seed=3, **options)
    return np.array(tape.gradient(loss, q.trainable_variables))


def expected_gradient(q):
    """Of KL(q | p), in location and scale."""
    return np.array([(q.loc - 1.0) / 4.0, q.scale / 4.0 - 1.0 / q.scale])


def test_reverse_kl():
    q = surrogate()
    loss, log_weights = reverse_kl(target, q, sample_size=100_000, seed=0)
    np.testing.assert_allclose(loss, tfd.kl_divergence(q, P) - 2.0, atol=0.01)
    np.testing.assert_allclose(loss, -np.mean(log_weights), rtol=1e-5)
    for path_gradient in (False, True):
        found = gradients(
            reverse_kl, q, sample_size=400_000, path_gradient=path_gradient
        )
        np.testing.assert_allclose(found, expected_gradient(q), atol=0.01)


def test_path_gradient_vanishes_at_the_posterior():
    q = surrogate(1.0, 2.0)
    np.testing.assert_allclose(
        gradients(reverse_kl, q, sample_size=4, path_gradient=True), 0.0, atol=1e-6
    )
    assert np.abs(gradients(reverse_kl, q, sample_size=4)).max() > 0.05


def test_path_gradient_of_a_structured_surrogate():
    # The surrogate holds the posterior, N(3/8, 1/4).
    pinned = conjugate()
    q = gaussian(pinned)
    shift, lu = q.trainable_variables
    shift.assign([0.375])
    lu.assign([[math.log(0.5)]])
    for path_gradient in (True, False):
        with tf.GradientTape() as tape:
            loss, log_weights = reverse_kl(
                pinned, q, sample_size=5, path_gradient=path_gradient, seed=0
            )
        slopes = np.concatenate([np.ravel(g) for g in tape.gradient(loss, [shift, lu])])
        assert (np.abs(slopes).max() < 1e-4) == path_gradient
        np.testing.assert_allclose(log_weights, log_evidence(), atol=1e-4)


def test_importance_weighted_bound():
    q = surrogate()
    loss, log_weights = importance_weighted(
        target, q, sample_size=2000, importance_size=50, seed=0
    )
    assert log_weights.shape == [2000, 50]
    by_hand = np.log(np.mean(np.exp(log_weights), -1)).mean()
    np.testing.assert_allclose(loss, -by_hand, rtol=1e-4)
    bound = float(reverse_kl(target, q, sample_size=100_000, seed=0)[0])
    assert -2.0 < loss < -1.95 < bound
    one, log_weights = importance_weighted(target, q, importance_size=1, seed=1)
    np.testing.assert_allclose(one, -np.mean(log_weights), rtol=1e-5)


def test_gradients_of_the_importance_weighted_bound():
    q = surrogate()
    options = {"sample_size": 100_000, "importance_size": 4}
    plain = gradients(importance_weighted, q, **options)
    paths = gradients(importance_weighted, q, path_gradient=True, **options)
    np.testing.assert_allclose(paths, plain, atol=0.01)
    # Not that of the evidence lower bound.
    assert np.abs(paths - expected_gradient(q)).max() > 0.05
    loss = importance_weighted(target, q, path_gradient=True, seed=0)[0]
    np.testing.assert_allclose(loss, importance_weighted(target, q, seed=0)[0])


def test_forward_kl():
    q = surrogate()
    x = P.sample(1000, seed=0)
    loss, log_weights = forward_kl(target, q, samples=x)
    np.testing.assert_allclose(loss, -np.mean(q.log_prob(x)), rtol=1e-5)
    np.testing.assert_allclose(log_weights, target(x) - q.log_prob(x), rtol=1e-5)
    # Of the cross-entropy: (m - 1) / s^2 and 1/s - (4 + (m - 1)^2) / s^3.
    expected = [-0.5 / 2.25, 1 / 1.5 - 4.25 / 1.5**3]
    x = P.sample(400_000, seed=0)
    np.testing.assert_allclose(gradients(forward_kl, q, samples=x), expected, atol=0.01)
    wide = surrogate(0.5, 3.0)
    expected = [-0.5 / 9.0, 1 / 3.0 - 4.25 / 27.0]
    np.testing.assert_allclose(
        gradients(forward_kl, wide, sample_size=400_000), expected, atol=0.01
    )


def test_errors():
    with pytest.raises(ValueError, match=r"reparametrised samples.*forward_kl"):
        reverse_kl(target, tfd.Poisson(tf.Variable(1.0)))
    with pytest.raises(ValueError, match="sample_size must be at least 1"):
        reverse_kl(target, surrogate(), sample_size=0)
    with pytest.raises(ValueError, match="importance_size must be at least 1"):
        importance_weighted(target, surrogate(), importance_size=0)
    with pytest.raises(TypeError, match="target must be a pinned joint"):
        reverse_kl(3.0, surrogate())
    for objective in (reverse_kl, importance_weighted, forward_kl):
        with pytest.raises(ValueError, match=r"^target has no density"):
            objective(WithoutDensity(), tfd.Normal(tf.Variable(0.0), 1.0))
