"""Flows where TFP's own distributions stand: joints, mixtures, surrogates, chains."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_flow
from tests.support import close, fast_and_slow, normal
from tfp_flows import Flow, bijectors, distributions, flows

tfb = tfp.bijectors
tfd = tfp.distributions


def given(batch=()):
    """A conditional flow, its contexts, and the distribution under them."""
    flow = make_flow(context_shape=(2,))
    context = normal(*batch, 2, seed=1, dtype="float32")
    return flow, context, flow.given(context)


# Fixed contexts.


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_a_given_context_is_a_plain_distribution(batch):
    flow, context, fixed = given(batch)
    assert isinstance(fixed, tfd.Distribution)
    assert (fixed.batch_shape, fixed.event_shape) == (batch, (4,))
    assert fixed.batch_shape_tensor().numpy().tolist() == list(batch)
    assert (fixed.name, fixed.dtype) == (flow.name, flow.dtype)
    assert fixed.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    x = normal(*batch, 4, dtype="float32")
    expected = flow.log_prob(x, context=context)
    close(fixed.log_prob(x), expected, 0.0001)
    close(fixed.prob(x), np.exp(expected), 0.0001)
    close(tf.function(fixed.log_prob)(x), expected, 0.0001)
    close(
        fixed.log_prob(normal(5, *batch, 4, dtype="float32")).shape, (5, *batch), 0.0001
    )
    sample = fixed.sample(5, seed=0)
    close(sample, flow.sample(5, seed=0, context=context), 0.0001)
    assert sample.shape == (5, *batch, 4)
    y, log_prob = fixed.experimental_sample_and_log_prob(5, seed=0)
    close(y, sample, 0.0001)
    close(log_prob, flow.log_prob(y, context=context), 0.0001)
    for measure in (
        fixed.experimental_local_measure(x, backward_compat=True),
        flow.experimental_local_measure(x, backward_compat=True, context=context),
    ):
        close(measure[0], expected, 0.0001)
    assert {v.ref() for v in fixed.variables} == {v.ref() for v in flow.variables}
    with pytest.raises(TypeError, match="context is fixed"):
        fixed.log_prob(x, context=context)


def test_a_given_context_carries_gradients():
    flow, _, _ = given()
    context = tf.Variable([0.3, -0.4])
    fixed = flow.given(context)
    assert context.ref() in {v.ref() for v in fixed.trainable_variables}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fixed.sample(3, seed=0) ** 2)
    for gradient in tape.gradient(loss, [context, *flow.trainable_variables]):
        assert gradient is not None
    before = fixed.log_prob(normal(3, 4, dtype="float32"))
    context.assign_add([1.0, 1.0])
    assert np.abs(fixed.log_prob(normal(3, 4, dtype="float32")) - before).min() > 1e-4


def test_copies_of_a_given_context():
    flow, _, fixed = given((3,))
    shared, deep = fixed.copy(name="other"), copy.deepcopy(fixed)
    assert shared.name == "other"
    x = normal(3, 4, dtype="float32")
    before = fixed.log_prob(x)
    close(deep.log_prob(x), before, 0)
    for v in flow.trainable_variables:
        v.assign_add(0.1 * tf.ones_like(v))
    close(deep.log_prob(x), before, 0)
    close(shared.log_prob(x), fixed.log_prob(x), 0)
    assert np.abs(fixed.log_prob(x) - before).min() > 1e-4


def test_a_given_context_transformed_and_independent():
    flow, context, fixed = given((3,))
    x = normal(3, 4, dtype="float32")
    outer = tfd.TransformedDistribution(fixed, tfb.Scale(2.0))
    expected = flow.log_prob(x / 2, context=context) - 4 * math.log(2)
    close(outer.log_prob(x), expected, 0.0001)
    assert outer.sample(5, seed=0).shape == (5, 3, 4)
    close(
        tfd.Independent(fixed, 1).log_prob(x), tf.reduce_sum(fixed.log_prob(x)), 0.0001
    )
    refs = {v.ref() for v in outer.trainable_variables}
    assert refs == {v.ref() for v in flow.trainable_variables}


def test_a_given_context_of_integers():
    quantized = distributions.VariationalDequantization(
        make_flow(context_shape=(2,)), None, 8
    )
    fixed = quantized.given([[1.0, 2.0]])
    assert fixed.batch_shape == (1,)
    x = np.full((1, 4), 2.0)
    close(
        fixed.log_prob(x, seed=0),
        quantized.log_prob(x, seed=0, context=[[1.0, 2]]),
        0.0001,
    )


def test_errors_of_given_contexts():
    flow, _, _ = given()
    with pytest.raises(ValueError, match="takes no context"):
        make_flow().given([1.0, 2.0])
    with pytest.raises(ValueError, match=r"context must end in \(2,\)"):
        flow.given(normal(3, 3, dtype="float32"))
    with pytest.raises(ValueError, match="context must be given, got None"):
        flow.given(None)


# Joints.


def test_a_joint_whose_context_is_another_variable():
    flow = make_flow(context_shape=(2,))

    @tfd.JointDistributionCoroutineAutoBatched
    def joint():
        context = yield tfd.Sample(tfd.Normal(0.0, 1.0), 2, name="context")
        yield flow.given(context).copy(name="x")

    context, x = joint.sample(3, seed=0)
    assert x.shape == (3, 4)
    expected = tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(context), -1)
    expected += flow.log_prob(x, context=context)
    close(joint.log_prob(context, x), expected, 0.0001)
    # Each sample has numbers of its own, and a seed always the same ones.
    assert np.abs(np.diff(x, axis=0)).max(-1).min() > 1e-2
    close(joint.sample(3, seed=0).x, x, 0.0001)


@pytest.mark.parametrize("seed", fast_and_slow([1, 2**70, -5], 2**70))
def test_auto_batched_joints_with_integer_seeds(seed):
    flow = make_flow()
    joint = tfd.JointDistributionNamedAutoBatched(
        {
            "scale": tfd.LogNormal(0.0, 0.1),
            "x": flow,
            "y": lambda x, scale: tfd.Independent(tfd.Normal(x, scale), 1),
        }
    )
    parts = joint.sample(3, seed=seed)
    assert parts["x"].shape == (3, 4)
    assert np.abs(np.diff(parts["x"], axis=0)).max(-1).min() > 1e-2
    found = joint.log_prob(parts)
    expected = flow.log_prob(tf.constant(parts["x"].numpy()))
    expected += tfd.LogNormal(0.0, 0.1).log_prob(parts["scale"])
    of_y = tfd.Independent(tfd.Normal(parts["x"], parts["scale"][:, None]), 1)
    close(found, expected + of_y.log_prob(parts["y"]), 0.0001)
    pinned = joint.experimental_pin(y=parts["y"][0])
    unpinned = pinned.sample_unpinned(3, seed=seed)["x"]
    assert unpinned.shape == (3, 4)
    assert np.abs(np.diff(unpinned, axis=0)).max(-1).min() > 1e-2


# Inference.


def test_hamiltonian_monte_carlo_under_a_given_context():
    _, _, fixed = given()
    kernel = tfp.mcmc.HamiltonianMonteCarlo(fixed.log_prob, 0.1, 2)
    states = tfp.mcmc.sample_chain(
        3, normal(2, 4, dtype="float32"), kernel=kernel, trace_fn=None, seed=(0, 1)
    )
    assert np.isfinite(states).all()
    bijector = fixed.experimental_default_event_space_bijector()
    close(
        bijector.forward(normal(3, 4, dtype="float32")),
        normal(3, 4, dtype="float32"),
        0.0001,
    )


@pytest.mark.slow
def test_variational_inference_with_a_given_context():
    """The posterior of a Gaussian, by a flow that sees what it is about."""
    _, _, surrogate = given()
    target = tfd.MultivariateNormalDiag([1.0, -1.0, 0.5, 0.0], [0.5, 1.0, 1.0, 2.0])
    losses = tfp.vi.fit_surrogate_posterior(
        target.log_prob,
        surrogate,
        optimizer=tf.keras.optimizers.Adam(0.05),
        num_steps=60,
        sample_size=32,
        seed=3,
    )
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 1.0


def test_a_surrogate_of_the_form_of_a_joint():
    """What `Flow` says of automatic structured variational inference."""
    flow = make_flow()

    def surrogate(dist, build_nested_surrogate, sample_shape=None):
        base = yield from build_nested_surrogate(dist.distribution)
        return dist.copy(distribution=base)

    vi = tfp.experimental.vi
    posterior = vi.build_asvi_surrogate_posterior(
        tfd.JointDistributionSequential([flow]),
        surrogate_rules=((Flow, surrogate), *vi.ASVI_DEFAULT_SURROGATE_RULES),
        seed=1,
    )
    (x,) = posterior.sample(3, seed=1)
    assert x.shape == (3, 4)
    assert np.abs(np.diff(x, axis=0)).max(-1).min() > 1e-2
    own = {v.ref() for v in flow.bijector.trainable_variables}
    assert own < {v.ref() for v in posterior.trainable_variables}


def test_tfp_calls_its_own_no_transformed_distribution():
    """The reason why `Flow` is none to `isinstance`."""
    flow = make_flow()
    plain = tfd.TransformedDistribution(flow.distribution, flow.bijector)
    assert not isinstance(plain, tfd.TransformedDistribution)
    assert isinstance(flow, type(plain))
    network = tfb.AutoregressiveNetwork(2, event_shape=[2], hidden_units=[4])
    own = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.MaskedAutoregressiveFlow(network)
    )
    assert not isinstance(own, tfd.TransformedDistribution)


@pytest.mark.filterwarnings("ignore:.*parts of this flow")
def test_a_module_would_not_see_the_variables_of_a_true_subclass():
    """The reason why it stays so."""

    class True_(Flow, tfd.TransformedDistribution):
        pass

    flow = make_flow()
    holder = tf.Module()
    holder.flow = True_(flow.distribution, flow.bijector)
    assert isinstance(holder.flow, tfd.TransformedDistribution)
    assert len(holder.variables) < len(holder.flow.variables)
    holder.flow = flow
    assert len(holder.variables) == len(flow.variables) > 0


def test_a_mixture_of_given_contexts():
    flow, context, fixed = given((2,))
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.3, 0.7]), fixed)
    x = normal(5, 4, dtype="float32")
    each = flow.log_prob(x[:, None], context=context)
    close(mixture.log_prob(x), np.log(np.exp(each) @ [0.3, 0.7]), 0.0001)
    assert mixture.sample(3, seed=0).shape == (3, 4)


# Names in joint distributions.

FLOW = flows.maf((2,), layers=1, width=4, normalize=False, seed=0)
INTEGERS = flows.real_nvp((2,), bounds=(0, 4), dequantize="uniform", seed=0)
PARTS = {
    "ready": FLOW,
    "copy": FLOW.copy(),
    "flow": Flow(distributions.standard_normal((2,)), bijectors.PLU(2, seed=0)),
    "dequantized": INTEGERS,
    "normal": distributions.standard_normal((2,)),
    "logistic": distributions.standard_logistic((2,)),
    "diagonal": distributions.diagonal_normal((2,)),
    "student_t": distributions.student_t((2,)),
    "mixture": distributions.gaussian_mixture((2,), seed=0),
    "fitted_mixture": distributions.FittedMixture((2,), seed=0),
    "resampled": distributions.ResampledBase(lambda z: z[..., :1], (2,), draws=4),
}


def _twice(part):
    def coroutine():
        root = tfd.JointDistributionCoroutine.Root
        yield root(part)
        yield root(part)

    def auto():
        yield part
        yield part

    return {
        "sequential": tfd.JointDistributionSequential([part, part]),
        "auto_sequential": tfd.JointDistributionSequentialAutoBatched([part, part]),
        "named": tfd.JointDistributionNamed({"a": part, "b": part}),
        "auto_named": tfd.JointDistributionNamedAutoBatched({"a": part, "b": part}),
        "coroutine": tfd.JointDistributionCoroutine(coroutine),
        "auto_coroutine": tfd.JointDistributionCoroutineAutoBatched(auto),
    }


@pytest.mark.parametrize("kind", _twice(PARTS["normal"]))
@pytest.mark.parametrize("part", ["ready", "mixture"])
def test_joints_of_parts_whose_names_nobody_chose(part, kind):
    part = PARTS[part]
    joint = _twice(part)[kind]
    value = joint.sample(seed=1)
    one, other = tf.nest.flatten(value)
    close(joint.log_prob(value), part.log_prob(one) + part.log_prob(other), 1e-4)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_names_that_nobody_chose_are_none_to_joints(part):
    joint = tfd.JointDistributionSequential([part, part])
    assert joint.resolve_graph() == (("x1", ()), ("x", ()))
    joint = tfd.JointDistributionSequential(
        [part, lambda z: tfd.Independent(tfd.Normal(z, 1.0), 1)]
    )
    assert joint.resolve_graph() == (("z", ()), ("x", ("z",)))


def test_a_name_that_was_chosen_is_that_in_joints():
    parts = [flows.maf((2,), name=name, seed=0) for name in ("first", "second")]
    parts[1] = parts[1].copy()
    joint = tfd.JointDistributionSequential(parts)
    assert joint.resolve_graph() == (("first", ()), ("second", ()))


def test_copies_keep_names():
    names = [part.name for part in PARTS.values()]
    assert names[:2] == ["maf", "maf"] and names[4] == "standard_normal"
    for part in PARTS.values():
        for other in (part.copy(), copy.deepcopy(part)):
            assert other.name == part.name
            assert other.parameters.get("name") == part.parameters.get("name")
    assert FLOW.copy(name="other").parameters["name"] == "other"
