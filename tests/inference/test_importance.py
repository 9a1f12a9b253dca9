from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.inference.support import WithoutDensity, conjugate, gaussian, log_evidence
from tfp_flows import inference
from tfp_flows.inference import (
    effective_sample_size,
    importance_sampling,
    pareto_smooth,
)


def funnel(width=1.0):
    """Neal's funnel, v ~ N(0, 3^2), x ~ N(0, e^v) in three dimensions."""
    return tfd.JointDistributionSequential(
        [
            tfd.Normal(0.0, 3.0),
            lambda v: tfd.Sample(tfd.Normal(0.0, width * tf.exp(v / 2)), 3),
        ]
    )


def test_evidence_of_a_funnel():
    model = funnel()
    found = importance_sampling(
        lambda v, x: model.log_prob(v, x) + 5.0, funnel(1.3), 20_000
    )
    np.testing.assert_allclose(found.log_evidence, 5.0, atol=0.02)
    assert 0.001 < found.log_evidence_error < 0.01
    assert abs(found.log_evidence - 5.0) < 4 * found.log_evidence_error
    # E[log w] = 3 (log 1.3 + 1/2 - 1.3^2 / 2).
    exact = 5.0 + 3 * (np.log(1.3) + 0.5 - 0.5 * 1.69)
    assert abs(found.bound - exact) < 4 * found.bound_error < 0.05
    assert found.pareto_k < 0.5
    assert found.samples[1].shape == [20_000, 3]
    assert str(found).startswith("bound 4.75") and "of 20000" in str(found)


def test_exact_surrogate():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    shift, lu = surrogate.trainable_variables
    shift.assign([0.375])
    lu.assign([[np.log(0.5)]])
    found = importance_sampling(pinned, surrogate, 1000)
    np.testing.assert_allclose(found.bound, log_evidence(), atol=1e-4)
    np.testing.assert_allclose(found.log_evidence, log_evidence(), atol=1e-4)
    assert found.effective_sample_size > 999.9
    assert found.pareto_k < 0.2


def test_effective_sample_size():
    assert effective_sample_size([3.0] * 7) == pytest.approx(7.0)
    assert effective_sample_size([0.0, -np.inf]) == pytest.approx(1.0)
    # 4^2 / 10.
    weights = np.log([1.0, 3.0])
    assert effective_sample_size(weights + 1e4) == pytest.approx(1.6)


@pytest.mark.parametrize("k", [-0.5, 0.0, 0.3, 0.7, 1.0])
def test_shape_of_a_tail(k):
    # Quantiles of a generalised Pareto distribution, whose tails have the same shape.
    u = (np.arange(100_000) + 0.5) / 100_000
    x = -np.log(u) if k == 0 else (u**-k - 1) / k
    shuffled = np.random.default_rng(0).permutation(np.log1p(x))
    smooth, found = pareto_smooth(shuffled)
    # The prior pulls to 1/2 with the weight of 10 among 949.
    assert found == pytest.approx(k, abs=0.05)
    assert np.exp(smooth).sum() == pytest.approx(1.0)
    # Quantiles were smoothed into themselves, and their order stays; only at the
    # greatest weight there was may several meet.
    ordered = smooth[np.argsort(shuffled)]
    assert ((np.diff(ordered) > 0) | (ordered[1:] == ordered.max())).all()
    raw = shuffled - np.logaddexp.reduce(shuffled)
    np.testing.assert_allclose(np.sort(smooth)[:-20], np.sort(raw)[:-20], atol=0.05)


def test_smoothing_replaces_the_tail_only():
    log_weights = np.random.default_rng(0).normal(size=400) * 2
    smooth, _ = pareto_smooth(log_weights)
    shift = smooth - log_weights
    order = np.argsort(log_weights)
    # 3 sqrt(400) of them.
    assert np.ptp(shift[order[:-60]]) < 1e-9
    assert np.ptp(shift[order[-60:]]) > 0.01
    assert np.argmax(smooth) == order[-1]


def test_equal_weights():
    smooth, k = pareto_smooth(np.zeros(100))
    assert k == -np.inf
    np.testing.assert_allclose(smooth, -np.log(100))


def test_errors():
    with pytest.raises(ValueError, match="at least 25, got shape"):
        pareto_smooth([0.0] * 24)
    with pytest.raises(ValueError, match="a vector"):
        effective_sample_size(np.zeros([2, 2]))
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf] * 2):
        with pytest.raises(ValueError, match="hold no NaN"):
            effective_sample_size(bad)
    q = tfd.Normal(0.0, 1.0)
    with pytest.raises(ValueError, match="samples must be at least 100"):
        importance_sampling(q, q, 99)
    with pytest.raises(ValueError, match="one number for each sample"):
        importance_sampling(lambda x: tf.stack([x, x], -1), q)
    with pytest.raises(ValueError, match=r"target fails at 64 samples .* \(64,\)"):
        importance_sampling(tfd.Normal([0.0, 1.0, 2.0], 1.0), q)
    with pytest.raises(ValueError, match=r"target is not finite .-inf. at 64 of 64"):
        importance_sampling(tfd.Uniform(9.0, 10.0), q)
    with pytest.raises(ValueError, match=r"^target has no density.*: WithoutDensity"):
        importance_sampling(WithoutDensity(), q)


@pytest.mark.slow
def test_flow_finds_the_evidence_of_a_funnel():
    model = funnel()

    def target(v, x):
        return model.log_prob(v, x) + 5.0

    surrogate = inference.surrogate_posterior(model, seed=0)
    fit = inference.VariationalModel(
        target, surrogate, sample_size=128, path_gradient=True
    )
    fit.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 1500))
    )
    fit.fit(1500, verbose=0, seed=0)
    found = fit.importance_sampling(20_000)
    np.testing.assert_allclose(found.log_evidence, 5.0, atol=0.08)
    assert 4.85 < found.bound < 5.0
    assert found.pareto_k < 0.8
