"""Densities over a model's parameters, in its support and outside of it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import inference
from tfp_flows.inference import simulators

tfd = tfp.distributions


@tfd.JointDistributionCoroutineAutoBatched
def model():
    s = yield tfd.HalfNormal(1.0, name="s")
    p = yield tfd.Beta(2.0, 2.0, name="p")
    m = yield tfd.Normal(tf.zeros(2), s, name="m")
    yield tfd.Normal(m * p, 1.0, name="y")


def test_a_surrogate_is_zero_out_of_the_support():
    q = inference.surrogate_posterior(model.experimental_pin(y=[1.0, 2.0]), seed=0)
    inside = q.sample(4, seed=0)
    expected = q.log_prob(inside).numpy()
    assert np.isfinite(expected).all()
    moved = inside._replace(
        s=tf.concat([[-1.0], inside.s[1:]], 0),
        p=tf.concat([inside.p[:1], [1.5], inside.p[2:]], 0),
        m=tf.tensor_scatter_nd_update(inside.m, [[2, 0]], [np.nan]),
    )
    expected[:2], expected[2] = -np.inf, np.nan
    for log_prob in (q.log_prob, tf.function(q.log_prob), q.copy().log_prob):
        np.testing.assert_allclose(log_prob(moved), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_posterior_is_zero_out_of_the_support_of_the_prior():
    prior = simulators.two_moons_prior()
    theta, x = inference.simulate(prior, simulators.two_moons, 64, seed=0)
    posterior = inference.NeuralPosterior(prior, x.shape[1:], width=8, seed=0)
    posterior.fit(theta, x, epochs=1, verbose=0)
    points = tf.constant([[0.0, 0.0], [1.1, 0.0], [0.0, -3.0], [np.nan, 0.0]])
    found = posterior.given(x[0]).log_prob(points).numpy()
    assert np.isfinite(found[0])
    np.testing.assert_array_equal(found[1:], [-np.inf, -np.inf, np.nan])
    # An observation that is none has no posterior.
    assert np.isnan(posterior.given(np.nan * x[0]).log_prob(points[:1])).all()
