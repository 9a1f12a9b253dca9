from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import solve_ivp

from tfp_flows.inference import simulate
from tfp_flows.inference.simulators import (
    sir,
    sir_log_likelihood,
    sir_prior,
    slcp,
    slcp_log_likelihood,
    slcp_prior,
    two_moons,
    two_moons_log_likelihood,
    two_moons_posterior,
    two_moons_prior,
)


def test_two_moons_density():
    theta = np.array([0.3, -0.7], "float32")
    x = two_moons(np.broadcast_to(theta, [20_000, 2]), seed=0)
    assert x.shape == (20_000, 2)
    # It integrates to one, over a box that holds all samples.
    low, high = np.min(x, 0) - 0.02, np.max(x, 0) + 0.02
    cells = [np.linspace(a, b, 401) for a, b in zip(low, high, strict=True)]
    cells = [(c[1:] + c[:-1]) / 2 for c in cells]
    grid = np.stack(np.meshgrid(*cells, indexing="ij"), -1)
    p = np.exp(two_moons_log_likelihood(theta, grid))
    area = np.prod(high - low) / 400**2
    assert p.sum() * area == pytest.approx(1.0, abs=0.01)
    # Its moments are those of the samples.
    mean = (p[..., None] * grid).sum((0, 1)) * area
    np.testing.assert_allclose(np.mean(x, 0), mean, atol=0.003)


def test_two_moons_posterior():
    x = np.array([0.1, 0.2], "float32")
    theta = two_moons_posterior(x, 4000, seed=0)
    assert theta.shape == (4000, 2) and theta.dtype == np.float32
    # All could have made x, and both moons are as likely.
    log_p = two_moons_log_likelihood(theta, x).numpy()
    assert np.isfinite(log_p).all()
    assert abs(np.mean(theta.sum(-1) > 0) - 0.5) < 0.03
    # The moments of importance samples of the prior.
    grid = np.linspace(-1, 1, 800, dtype="float32")
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    weights = np.exp(two_moons_log_likelihood(points, x))
    weights /= weights.sum()
    np.testing.assert_allclose(theta.mean(0), weights @ points, atol=0.02)
    np.testing.assert_allclose(
        np.abs(theta).mean(0), weights @ np.abs(points), atol=0.01
    )
    # At an edge, samples stay in the prior.
    assert np.abs(two_moons_posterior([-0.9, 0.1], 500, seed=0)).max() <= 1
    with pytest.raises(ValueError, match="hardly possible"):
        two_moons_posterior([5.0, 0.0], 10)
    with pytest.raises(ValueError, match=r"one point \(2,\), got shape \(1, 2\)"):
        two_moons_posterior([[0.0, 0.0]], 10)


def test_slcp():
    theta = np.array([0.5, -1.0, 1.2, -0.7, 0.6], "float32")
    x = slcp(np.broadcast_to(theta, [2, 4000, 5]), seed=0).numpy()
    assert x.shape == (2, 4000, 8)
    points = x.reshape(-1, 2)
    np.testing.assert_allclose(points.mean(0), theta[:2], atol=0.03)
    s1, s2, r = 1.44, 0.49, np.tanh(0.6)
    covariance = [[s1**2, r * s1 * s2], [r * s1 * s2, s2**2]]
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=0.05)
    # Points of a data set are independent of each other.
    assert np.abs(np.corrcoef(x[0].T)[:2, 2:]).max() < 0.06
    # Minus the entropy of four normals.
    entropy = 4 * (1 + np.log(2 * np.pi) + 0.5 * np.log(np.linalg.det(covariance)))
    log_p = slcp_log_likelihood(theta, x)
    assert log_p.shape == (2, 4000)
    assert np.mean(log_p) == pytest.approx(-entropy, abs=0.1)


def test_sir():
    theta = {"contact": np.array([0.5, 0.3]), "recovery": np.array([0.1, 0.15])}
    x = sir({k: np.tile(v, 200) for k, v in theta.items()}, seed=0)
    assert x.shape == (400, 10) and x.min() >= 0 and x.max() <= 1000
    assert np.all(x == np.round(x))
    x = x.reshape(200, 2, 10).mean(0)
    times = 1 + 16 * np.arange(10)
    for i in range(2):
        beta, gamma = theta["contact"][i], theta["recovery"][i]

        def slope(_, y):
            new = beta * y[0] * y[1]
            return [-new, new - gamma * y[1]]

        found = solve_ivp(
            slope, (0, 145), [1 - 1e-6, 1e-6], t_eval=times, rtol=1e-8, atol=1e-12
        )
        np.testing.assert_allclose(x[i], 1000 * found.y[1], atol=3)


def test_sir_log_likelihood():
    theta = {"contact": np.array([0.5, 0.3]), "recovery": np.array([0.1, 0.15])}
    many = {k: np.broadcast_to(v, [20_000, 2]) for k, v in theta.items()}
    x = sir(many, seed=0)
    log_p = sir_log_likelihood(theta, x)
    assert log_p.shape == (20_000, 2)
    # Minus the sum of the entropies of ten counts, by how often each was found.
    for i in range(2):
        counts = (np.unique(c, return_counts=True)[1] for c in x[:, i].T)
        shares = [c / 20_000 for c in counts]
        entropy = -sum(np.sum(s * np.log(s)) for s in shares)
        assert np.mean(log_p[:, i]) == pytest.approx(-entropy, abs=0.05)


@pytest.mark.parametrize(
    ("prior", "simulator", "compiled", "shape"),
    [
        (two_moons_prior, two_moons, True, (2,)),
        (slcp_prior, slcp, True, (8,)),
        (sir_prior, sir, False, (10,)),
    ],
)
def test_simulate_takes_them(prior, simulator, compiled, shape):
    prior = prior()
    theta, x = simulate(prior, simulator, 50, compiled=compiled, seed=0)
    assert x.shape == (50, *shape)
    assert np.all(np.isfinite(prior.log_prob(theta)))
    _, again = simulate(prior, simulator, 50, compiled=compiled, seed=0)
    np.testing.assert_array_equal(x, again)
    tf.nest.assert_same_structure(theta, prior.event_shape)
