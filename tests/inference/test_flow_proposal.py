from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tests.inference.support import WithoutDensity, Y, bent, conjugate, gaussian
from tfp_flows.inference import InTurn, flow_proposal


def run(kernel, start, steps, trace=lambda _, results: results.is_accepted):
    @tf.function
    def sample():
        return tfp.mcmc.sample_chain(
            steps, start, kernel=kernel, trace_fn=trace, seed=[0, 1]
        )

    return sample()


def test_all_are_accepted_if_the_flow_is_the_target():
    flow = bent((2,))
    # Up to rounding: the density of the start is by the inverse.
    states, accepted = run(flow_proposal(flow, flow), flow.sample(20, seed=0), 50)
    assert accepted.numpy().mean() > 0.999
    assert len(np.unique(states[:, 0, 0])) == 50


def test_stationary_distribution_is_the_target():
    target = tfd.Normal(1.0, 1.0)
    kernel = flow_proposal(target, tfd.Normal(0.0, 2.0))
    states, accepted = run(kernel, tf.zeros(500), 200)
    x = states.numpy()[20:]
    assert x.mean() == pytest.approx(1.0, abs=0.02)
    assert x.std() == pytest.approx(1.0, abs=0.02)
    # E min(1, r) with both of the pair stationary, by quadrature.
    grid = np.linspace(-9, 11, 1501)
    p = np.exp(target.log_prob(grid.astype("float32")))
    q = np.exp(tfd.Normal(0.0, 2.0).log_prob(grid.astype("float32")))
    step = grid[1] - grid[0]
    rate = np.minimum(np.outer(p, q), np.outer(q, p)).sum() * step**2
    assert accepted.numpy()[20:].mean() == pytest.approx(rate, abs=0.01)


def test_structures():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    start = tf.nest.flatten(surrogate.sample(300, seed=0))
    (mean,), _ = run(flow_proposal(pinned, surrogate), start, 100)
    assert np.mean(mean[10:]) == pytest.approx(Y.sum() / 4, abs=0.03)
    assert np.std(mean[10:]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_structures_with_constraints():
    joint = tfd.JointDistributionSequential([tfd.Gamma(4.0, 2.0), tfd.Normal(0.0, 1.0)])
    surrogate = gaussian(joint)
    surrogate.trainable_variables[0].assign([2.0, 0.0])
    surrogate.trainable_variables[1].assign(np.diag(np.log([2.0, 1.0])))
    states, _ = run(flow_proposal(joint, surrogate), surrogate.sample(300, seed=0), 100)
    assert np.mean(states[0][20:]) == pytest.approx(2.0, abs=0.04)
    assert np.var(states[0][20:]) == pytest.approx(1.0, abs=0.06)


def test_in_turn_with_a_local_kernel():
    # Two modes far apart, which local steps never leave.
    target = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.3, 0.7]), tfd.Normal([-8.0, 8.0], 1.0)
    )
    local = tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, 0.8, 2)
    leaps = flow_proposal(target, tfd.Normal(0.0, 10.0))
    kernel = InTurn([local, leaps], [2, 1])
    assert kernel.is_calibrated
    states, accepted = run(
        kernel,
        tf.fill([500], 8.0),
        150,
        lambda _, results: [r.is_accepted for r in results.results],
    )
    x = states.numpy()[50:]
    assert (x < 0).mean() == pytest.approx(0.3, abs=0.03)
    assert x[x > 0].std() == pytest.approx(1.0, abs=0.03)
    assert accepted[0].numpy().mean() > 0.8 > accepted[1].numpy().mean()


def test_steps_in_turn():
    class Count(tfp.mcmc.TransitionKernel):
        is_calibrated, parameters = True, {}

        def __init__(self, by):
            self.by, self.seeds = by, []

        def one_step(self, current_state, previous_kernel_results, seed=None):
            self.seeds.append(tuple(seed.numpy()))
            return current_state + self.by, previous_kernel_results + 1

        def bootstrap_results(self, init_state):
            return tf.zeros([])

    kernels = [Count(1.0), Count(10.0)]
    state, results = InTurn(kernels, [3, 2]).one_step(tf.zeros([]), None, seed=0)
    assert state == 23.0
    assert [float(r) for r in results.results] == [3.0, 2.0]
    seeds = [seed for kernel in kernels for seed in kernel.seeds]
    assert len(set(seeds)) == 5


def test_errors():
    target = tfd.Normal(0.0, 1.0)
    with pytest.raises(ValueError, match=r"^target has no density.*: WithoutDensity"):
        flow_proposal(WithoutDensity(), target).bootstrap_results(0.0)
    local = tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, 0.8, 2)
    with pytest.raises(ValueError, match="one or more"):
        InTurn([])
    with pytest.raises(ValueError, match="1 kernels and steps"):
        InTurn([local], [1, 2])
    with pytest.raises(ValueError, match="at least 1"):
        InTurn([local], [0])
    adaptive = tfp.mcmc.SimpleStepSizeAdaptation(local, 10)
    with pytest.raises(ValueError, match="SimpleStepSizeAdaptation: each turn"):
        InTurn([tfp.mcmc.TransformedTransitionKernel(adaptive, tfp.bijectors.Exp())])
