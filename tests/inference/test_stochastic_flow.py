"""Steps of Markov chains between the layers of a flow."""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.inference.support import normal
from tests.support import perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks
from tfp_flows.inference import (
    StochasticFlow,
    VariationalModel,
    forward_kl,
    importance_sampling,
)

tfb, tfd, mcmc = tfp.bijectors, tfp.distributions, tfp.mcmc
WALK = {"new_state_fn": mcmc.random_walk_normal_fn(0.5)}
KERNELS = {
    "metropolis": WALK,
    "hmc": {
        "kernel": mcmc.HamiltonianMonteCarlo,
        "step_size": 0.3,
        "num_leapfrog_steps": 3,
    },
    # Long steps, so that only the right correction makes up for it.
    "langevin": {"kernel": mcmc.UncalibratedLangevin, "step_size": 0.1},
    "unadjusted_hmc": {
        "kernel": mcmc.UncalibratedHamiltonianMonteCarlo,
        "step_size": 0.3,
        "num_leapfrog_steps": 2,
    },
}
GRID = np.linspace(-6.0, 6.0, 10_001)


def double_well(x):
    """Two wells, of which one is deeper."""
    a, b = x[..., 0], x[..., 1]
    return 1.5 * a**2 - 0.25 * a**4 - 0.3 * a - 0.5 * b**2


@functools.cache
def known():
    """The log-normaliser of the double well, and the share of its right well."""
    density = np.exp(1.5 * GRID**2 - 0.25 * GRID**4 - 0.3 * GRID)
    area = np.trapezoid(density, GRID)
    right = np.trapezoid(density[GRID > 0], GRID[GRID > 0])
    return math.log(area) + 0.5 * math.log(2 * math.pi), right / area


def wide():
    """A nonlinear flow with tails that are wider than those of the targets."""

    def network(x):
        return tf.concat([0.3 * tf.sin(x), 0.2 * tf.tanh(x)], -1)

    coupling = bijectors.AffineCoupling(masks.half(2), network)
    scale = bijectors.Scaling([2], log_scale=[0.4, 0.6])
    return Flow(normal((2,)), bijectors.Chain([scale, coupling]))


def small(**options):
    options = {"layers": 4, "width": 8, "normalize": False, "seed": 0, **options}
    return perturb(flows.real_nvp((2,), **options))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "hmc" in name else ())
        for name in KERNELS
    ],
)
def test_weights_give_normaliser_and_means(name):
    """Whatever the flow is: here it is far from the target."""
    path = StochasticFlow(wide(), double_well, (0.3, 0.7), 4, **KERNELS[name])
    found = importance_sampling(double_well, path, 20_000, seed=1)
    log_z, share = known()
    assert found.log_evidence_error < 0.02 and found.pareto_k < 0.6
    assert abs(found.log_evidence - log_z) < 4 * found.log_evidence_error
    weights = np.exp(found.log_weights - found.log_evidence)
    right = (found.samples.numpy()[:, 0] > 0) - share
    error = np.std(weights * right) / math.sqrt(len(weights))
    assert error < 0.01
    assert abs(np.mean(weights * right)) < 4 * error


@pytest.mark.parametrize(
    "name", ["metropolis", pytest.param("hmc", marks=pytest.mark.slow)]
)
def test_a_flow_that_is_the_target_has_no_weights(name):
    target = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    flow = Flow(normal((2,)), bijectors.Chain([]))
    path = StochasticFlow(flow, target, (0.0, 0.4, 1.0), 3, **KERNELS[name])
    x, log_q = path.experimental_sample_and_log_prob(50, seed=0)
    np.testing.assert_allclose(target.log_prob(x), log_q, atol=1e-5)
    # They have moved.
    assert np.abs(x - flow.sample(50, seed=0)).min(-1).max() > 0.1


def test_steps_at_the_target_leave_weights_as_they_are():
    flow = wide()
    path = StochasticFlow(flow, double_well, (1.0,), 5, **WALK)
    x, log_q = path.experimental_sample_and_log_prob(200, seed=0)
    first = tf.random.split(tf.constant([0, 0]), 2)[0]
    start, of_start = flow.experimental_sample_and_log_prob(200, seed=first)
    expected = double_well(start) - of_start
    np.testing.assert_allclose(double_well(x) - log_q, expected, atol=1e-3)
    assert np.abs(x - start).max(-1).min() < 1e-6 < np.abs(x - start).max()


def test_the_bijectors_are_divided_into_parts():
    flow = small(layers=5)
    path = StochasticFlow(flow, double_well, (0.2, 0.5, 1.0), **WALK)
    parts = [part.bijectors for part in path._parts]
    assert sorted(map(len, parts)) == [1, 2, 2]
    order = [b for part in reversed(parts) for b in part]
    z = flow.distribution.sample(7, seed=0)
    whole = bijectors.Chain(order).forward(z)
    np.testing.assert_allclose(whole, flow.bijector.forward(z), rtol=1e-6)


def test_a_target_with_a_border():
    """Where its density is 0, so is the weight, and there is no NaN."""

    def target(x):
        inside = tf.reduce_all(x > 0, -1)
        value = math.log(3.0) - tf.reduce_sum(x, -1)
        return tf.where(inside, value, tf.constant(-math.inf, x.dtype))

    path = StochasticFlow(wide(), target, (0.5, 1.0), 5, **WALK)
    x, log_q = path.experimental_sample_and_log_prob(20_000, seed=0)
    weights = np.exp(target(x) - log_q)
    error = np.std(weights) / math.sqrt(len(weights))
    assert abs(np.mean(weights) - 3.0) < 4 * error < 0.4
    # Some start beyond the border.
    assert 0.2 < np.mean(weights == 0) < 0.8


def test_gradients_of_langevin_steps_are_those_of_the_bound():
    scale = bijectors.Scaling([2], dtype="float64")
    (variable,) = scale.trainable_variables
    variable.assign([0.1, -0.2])
    flow = Flow(distributions.standard_normal((2,), tf.float64), scale)
    path = StochasticFlow(flow, double_well, (0.5, 1.0), 3, **KERNELS["langevin"])

    @tf.function(autograph=False)
    def bound():
        x, log_q = path.experimental_sample_and_log_prob(20, seed=3)
        return tf.reduce_mean(double_well(x) - log_q)

    with tf.GradientTape() as tape:
        value = bound()
    gradient = tape.gradient(value, variable).numpy()
    start = variable.numpy()
    for i in range(2):
        step = 1e-5 * np.eye(2)[i]
        ends = []
        for end in (start + step, start - step):
            variable.assign(end)
            ends.append(bound().numpy())
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)
    assert np.abs(gradient).min() > 1e-2


def test_eager_and_traced_samples_are_the_same():
    path = StochasticFlow(small(), double_well, steps=2, **WALK)
    eager = path.experimental_sample_and_log_prob([2, 3], seed=5)
    traced = tf.function(path.experimental_sample_and_log_prob)([2, 3], seed=5)
    assert [part.shape for part in eager] == [(2, 3, 2), (2, 3)]
    for a, b in zip(eager, traced, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(path.sample([2, 3], seed=5), eager[0], atol=1e-5)
    other = path.sample([2, 3], seed=6)
    assert np.abs(other - eager[0]).max() > 0.1
    assert path.sample(0).shape == (0, 2)


def test_copies_keep_options():
    path = StochasticFlow(small(), double_well, (0.5,), 2, **WALK)
    same, other = path.copy(), path.copy(steps=1)
    np.testing.assert_array_equal(same.sample(4, seed=0), path.sample(4, seed=0))
    assert np.abs(other.sample(4, seed=0) - path.sample(4, seed=0)).max() > 0


def test_behind_a_bijector_of_constraints():
    """A target of positive numbers: steps are made before the exponential."""
    target = tfd.Independent(tfd.LogNormal([0.5, -0.5], [0.3, 1.0]), 1)
    exp = tfb.Exp()

    def of_logarithms(z):
        return target.log_prob(exp.forward(z)) + exp.forward_log_det_jacobian(z, 1)

    path = StochasticFlow(wide(), of_logarithms, (0.5, 1.0), 5, **WALK)
    found = importance_sampling(target, tfd.TransformedDistribution(path, exp), 5000)
    assert abs(found.log_evidence) < 4 * found.log_evidence_error < 0.2


@pytest.mark.parametrize(
    "name", ["langevin", pytest.param("metropolis", marks=pytest.mark.slow)]
)
def test_paths_are_trained(name):
    flow = small()
    path = StochasticFlow(flow, double_well, (0.5, 1.0), 1, **KERNELS[name])
    model = VariationalModel(double_well, path, sample_size=64)
    assert len(model.trainable_variables) == len(flow.trainable_variables)
    before = [v.numpy() for v in flow.trainable_variables]
    start = importance_sampling(double_well, path, 2000).bound
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(30, verbose=0, seed=0).history
    assert np.isfinite(history["loss"]).all()
    assert importance_sampling(double_well, path, 2000).bound > start + 0.5
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(before, flow.trainable_variables, strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (
            lambda: StochasticFlow(tfd.Normal(0.0, 1.0), double_well),
            TypeError,
            "flow must be a tfp_flows.Flow, got Normal",
        ),
        (
            lambda: StochasticFlow(small(context_shape=(3,)), double_well),
            ValueError,
            "flow must take no context",
        ),
        (
            lambda: StochasticFlow(
                small(bounds=(0, 1), logit_margin=0.01, normalize=None), double_well
            ),
            ValueError,
            r"flow must be over all real numbers, got one over",
        ),
        (
            lambda: StochasticFlow(
                Flow(normal((2, 2)), tfb.Chain([tfb.Reshape([4], [2, 2])]), name="a"),
                lambda x: x[..., 0],
            ),
            ValueError,
            r"flow must keep the shape \(4,\) of an event",
        ),
        (
            lambda: StochasticFlow(small(), 3.0),
            TypeError,
            "target must be a pinned joint distribution",
        ),
        (
            lambda: StochasticFlow(small(), lambda x: x),
            ValueError,
            "target must be one number for each sample",
        ),
        (
            lambda: StochasticFlow(small(), double_well, (0.5, 1.5)),
            ValueError,
            r"betas\[1\] must be at least 0 and at most 1, got 1.5",
        ),
        (
            lambda: StochasticFlow(small(), double_well, ()),
            ValueError,
            "betas must hold at least one number",
        ),
        (
            lambda: StochasticFlow(small(), double_well, steps=0),
            ValueError,
            "steps must be at least 1",
        ),
        (
            lambda: StochasticFlow(
                small(),
                double_well,
                kernel=lambda target_log_prob_fn: mcmc.SimpleStepSizeAdaptation(
                    mcmc.HamiltonianMonteCarlo(target_log_prob_fn, 0.1, 2), 10
                ),
            ),
            ValueError,
            "kernels must not adapt themselves, got SimpleStepSizeAdaptation",
        ),
        (
            lambda: StochasticFlow(small(), double_well).log_prob([0.0, 0.0]),
            NotImplementedError,
            "a sum over paths",
        ),
        (
            lambda: forward_kl(double_well, StochasticFlow(small(), double_well)),
            NotImplementedError,
            "a sum over paths",
        ),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error, match=words):
        build()
