"""Likelihoods of models whose posterior is known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows import flows
from tfp_flows.inference import NeuralLikelihood, simulate, surrogate_posterior

PRIOR = tfd.Normal(0.0, 2.0)


def simulator(theta, seed):
    """Two numbers, N(theta, 1) and N(-theta, 1)."""
    noise = np.random.default_rng(seed).normal(size=[len(theta), 2])
    return theta[:, None] * [1.0, -1.0] + noise


def small(prior, shape, **options):
    options = {"layers": 1, "width": 16, "seed": 0, **options}
    return NeuralLikelihood(prior, shape, flows.maf, **options)


@pytest.fixture(scope="module")
def likelihood():
    theta, x = simulate(PRIOR, simulator, 3000, seed=0)
    found = small(PRIOR, (2,))
    found.model.compile(keras.optimizers.Adam(0.01))
    found.fit(theta, x, epochs=15, batch_size=200, verbose=0)
    return found


@pytest.mark.parametrize("count", [None, 4])
def test_posterior(likelihood, count):
    x = np.array([[1.0, -2.0], [0.5, 0.3], [2.0, -1.0], [0.7, -1.9]], "float32")
    x = x[0] if count is None else x
    target = likelihood.given(x)
    grid = np.linspace(-3, 5, 400, dtype="float32")
    log_p = target.unnormalized_log_prob(parameters=grid).numpy()
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    # Each number is an observation of theta or -theta.
    precision = 0.25 + 2 * (count or 1)
    mean = np.sum(x * [1.0, -1.0]) / precision
    assert p @ grid == pytest.approx(mean, abs=0.15)
    found = np.sqrt(p @ (grid - p @ grid) ** 2)
    assert found == pytest.approx(precision**-0.5, rel=0.15)


def test_is_a_joint_distribution(likelihood):
    draw = likelihood.joint(3).sample(5, seed=[0, 1])
    assert draw["data"].shape == (5, 3, 2) and draw["parameters"].shape == (5,)
    surrogate = surrogate_posterior(likelihood.given([1.0, -1.0]), layers=2, seed=0)
    assert surrogate.sample(4)["parameters"].shape == (4,)


@pytest.mark.slow
def test_nuts(likelihood):
    x = np.array([1.0, -2.0], "float32")

    @tf.function(autograph=False)
    def run():
        return tfp.experimental.mcmc.windowed_adaptive_nuts(
            100,
            likelihood.joint(),
            n_chains=16,
            data=x,
            seed=[0, 1],
            num_adaptation_steps=100,
        )

    draws, _ = run()
    samples = draws["parameters"].numpy()
    assert samples.shape == (100, 16)
    assert samples.mean() == pytest.approx(3 / 2.25, abs=0.15)
    assert samples.std() == pytest.approx(1 / 1.5, abs=0.12)


def test_structures_of_any_dtype():
    prior = tfd.JointDistributionNamed(
        {
            "count": tfd.Poisson(3.0),
            "rows": tfd.Sample(tfd.Exponential(1.0), [2, 2]),
        }
    )
    found = small(prior, (2,))
    assert found.model.flow.context_shape == (5,)
    theta, x = simulate(prior, lambda t: t["rows"][:, 0] + t["count"][:, None], 50)
    found.fit(theta, x, epochs=1, verbose=0, validation_data=(theta, x))
    target = found.given([1.0, 2.0])
    assert target.unnormalized_log_prob(parameters=theta).shape == (50,)


def test_errors():
    class NoDensity(tfd.Distribution):
        def __init__(self):
            super().__init__(
                tf.float32, tfd.NOT_REPARAMETERIZED, False, True, parameters={}
            )

        def _batch_shape(self):
            return tf.TensorShape([])

        def _event_shape(self):
            return tf.TensorShape([])

        def _sample_n(self, n, seed=None):
            return tf.zeros([n])

    with pytest.raises(ValueError, match="prior must have a density"):
        NeuralLikelihood(NoDensity(), (2,))
    with pytest.raises(TypeError, match="prior must be a TFP distribution, got list"):
        NeuralLikelihood([PRIOR], (2,))
    with pytest.raises(ValueError, match="event_shape must be \\(D,\\)"):
        NeuralLikelihood(PRIOR, (2, 3))
    found = small(PRIOR, (2,))
    with pytest.raises(ValueError, match=r"\(2,\) or \(n, 2\), got \(3,\)"):
        found.given([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"\(2,\) or \(n, 2\), got \(1, 1, 2\)"):
        found.given([[[1.0, 2.0]]])
    with pytest.raises(ValueError, match="count must be at least 1"):
        found.joint(0)
    with pytest.raises(ValueError, match="structure of the prior"):
        found.fit({"a": [1.0]}, [[1.0, 2.0]])
