from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tests.inference.support import Y, bent, conjugate, gaussian, normal
from tfp_flows.inference import neutra

COVARIANCE = np.array([[2.0, 1.2], [1.2, 1.0]], "float32")
NORMAL = tfd.MultivariateNormalTriL([1.0, -2.0], np.linalg.cholesky(COVARIANCE))

HMC = {
    "kernel": tfp.mcmc.HamiltonianMonteCarlo,
    "step_size": 0.3,
    "num_leapfrog_steps": 3,
}


def run(kernel, start, steps, burn_in=100):
    @tf.function
    def sample():
        return tfp.mcmc.sample_chain(
            steps,
            start,
            kernel=kernel,
            num_burnin_steps=burn_in,
            trace_fn=None,
            seed=[0, 1],
        )

    return sample()


@pytest.mark.parametrize("kind", ["hmc", pytest.param("nuts", marks=pytest.mark.slow)])
def test_stationary_distribution_is_the_target(kind):
    flow = bent((2,))
    if kind == "hmc":
        options = {"num_leapfrog_steps": 3, "kernel": tfp.mcmc.HamiltonianMonteCarlo}
    else:
        options = {"max_tree_depth": 4}
    kernel = neutra(NORMAL, flow, step_size=0.4, **options)
    steps = 300 if kind == "hmc" else 100
    states = run(kernel, flow.sample(100, seed=0), steps)
    x = states.numpy().reshape(-1, 2)
    np.testing.assert_allclose(x.mean(0), [1.0, -2.0], atol=0.06)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=0.12)


def test_density_and_gradient_in_the_space_of_noise():
    flow = bent((2,))
    kernel = neutra(
        NORMAL,
        flow,
        tfp.mcmc.HamiltonianMonteCarlo,
        step_size=0.1,
        num_leapfrog_steps=1,
    )
    x = flow.sample(3, seed=0)
    results = kernel.bootstrap_results(x)
    z = results.transformed_state
    np.testing.assert_allclose(flow.bijector.forward(z), x, atol=1e-5)

    def by_autodiff(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = flow.bijector.forward(z)
        return NORMAL.log_prob(y) + tf.math.log(
            tf.abs(tf.linalg.det(tape.batch_jacobian(y, z)))
        )

    with tf.GradientTape() as tape:
        tape.watch(z)
        value = by_autodiff(z)
    inner = results.inner_results.accepted_results
    np.testing.assert_allclose(inner.target_log_prob, value, rtol=1e-4)
    (slope,) = inner.grads_target_log_prob
    np.testing.assert_allclose(slope, tape.gradient(value, z), rtol=1e-3, atol=1e-4)


def test_parts_of_states():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    kernel = neutra(pinned, surrogate, **HMC)
    # The flow is z + 0.7.
    surrogate.trainable_variables[0].assign([0.7])
    sample = surrogate.sample(4, seed=0)
    results = kernel.bootstrap_results([sample["mean"]])
    np.testing.assert_allclose(
        results.inner_results.accepted_results.target_log_prob,
        pinned.unnormalized_log_prob(**sample),
        rtol=1e-5,
    )
    (z,) = results.transformed_state
    np.testing.assert_allclose(z[:, 0], sample["mean"] - 0.7, atol=1e-5)


@pytest.mark.slow
def test_structured_states():
    # A list of scalar and vector, with a constrained part.
    joint = tfd.JointDistributionSequential(
        [tfd.Gamma(4.0, 2.0), tfd.Sample(tfd.Normal(1.0, 1.0), 2)]
    )
    surrogate = gaussian(joint)
    kernel = neutra(joint, surrogate, **{**HMC, "step_size": 0.5})
    states = run(kernel, surrogate.sample(100, seed=0), 200)
    assert [part.shape for part in states] == [[200, 100], [200, 100, 2]]
    assert np.mean(states[0]) == pytest.approx(2.0, abs=0.05)
    assert np.var(states[0]) == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(np.mean(states[1], (0, 1)), [1.0, 1.0], atol=0.05)


@pytest.mark.slow
def test_states_of_a_dict_are_a_list():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    kernel = neutra(pinned, surrogate, **HMC)
    start = tf.nest.flatten(surrogate.sample(100, seed=0))
    (mean,) = run(kernel, start, 100)
    assert np.mean(mean) == pytest.approx(Y.sum() / 4, abs=0.03)
    assert np.std(mean) == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_step_sizes_adapt():
    @tfd.JointDistributionCoroutineAutoBatched
    def joint():
        yield tfd.Normal(0.0, 1.0, name="a")
        yield tfd.Normal([0.0, 0.0], 1.0, name="b")

    surrogate = gaussian(joint)
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(
        neutra(
            joint,
            surrogate,
            tfp.mcmc.HamiltonianMonteCarlo,
            step_size=0.01,
            num_leapfrog_steps=2,
        ),
        num_adaptation_steps=80,
    )
    states = run(kernel, surrogate.sample(50, seed=0), 50)
    assert type(states).__name__ == "StructTuple"
    assert np.std(states.a) == pytest.approx(1.0, abs=0.1)


def test_errors():
    with pytest.raises(ValueError, match="surrogate must be a transformed"):
        neutra(NORMAL, normal((2,)), step_size=0.1)
