"""`Flow` as a distribution."""

from __future__ import annotations

import copy
import inspect
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain, make_flow
from tests.support import close, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks, networks

tfb = tfp.bijectors
tfd = tfp.distributions


# Density.


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-11)]
)
def test_log_prob_equals_tfps(dtype, tolerance):
    flow = make_flow(dtype)
    reference = tfd.TransformedDistribution(flow.distribution, flow.bijector)
    for shape in ((4,), (6, 4), (2, 3, 4)):
        x = normal(*shape, dtype=dtype)
        log_prob = flow.log_prob(x)
        assert log_prob.shape == shape[:-1]
        assert log_prob.dtype == dtype
        close(log_prob, reference.log_prob(x), tolerance)
        close(tf.function(flow.log_prob)(x), log_prob, tolerance)
        close(flow.prob(x), tf.exp(log_prob), tolerance)
        close(flow.unnormalized_log_prob(x), log_prob, tolerance)


@pytest.mark.parametrize(
    "bijector",
    [
        tfb.Exp(),
        tfb.Chain([tfb.Shift(1.0), tfb.Softplus()]),
        tfb.Invert(tfb.Scale([2.0, 3.0, 0.5])),
        tfb.FillScaleTriL(),
        tfb.Reshape([3, 1]),
        bijectors.Logit(0.1, 0.0, 3.0),
        tfb.MaskedAutoregressiveFlow(
            tfb.AutoregressiveNetwork(2, hidden_units=[4], event_shape=[3])
        ),
    ],
    ids=lambda b: b.name,
)
def test_any_tfp_bijector(bijector):
    """Also those that change the event's rank, or work on single numbers."""
    base = distributions.standard_normal((3,))
    flow = Flow(base, bijector)
    reference = tfd.TransformedDistribution(base, bijector)
    assert flow.event_shape == reference.event_shape
    x = tf.constant(reference.sample(5, seed=0).numpy())
    close(flow.log_prob(x), reference.log_prob(x), 1e-4)
    z = flow.encode(x)
    assert z.shape == (5, 3)
    close(flow.decode(z), x, 1e-4)
    y, log_prob = flow.sample_and_log_prob((2, 4), seed=1)
    assert log_prob.shape == (2, 4)
    close(flow.log_prob(tf.constant(y.numpy())), log_prob, 1e-3)


def test_bits_per_dim_formula(flow):
    x = normal(5, 4, dtype="float32")
    close(flow.bits_per_dim(x), -flow.log_prob(x) / (4 * math.log(2)), 1e-5)
    image = flows.glow((4, 4, 2), steps=1, levels=1, width=4, seed=0)
    x = normal(3, 4, 4, 2, dtype="float32")
    close(image.bits_per_dim(x), -image.log_prob(x) / (32 * math.log(2)), 1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"bounds": (0, 256)}, {"bounds": (0, 256), "logit_margin": 0.05}],
    ids=["raw", "bounds", "logit"],
)
@pytest.mark.parametrize("name", ["nice", "real_nvp", "glow"])
def test_uniform_over_256_levels_is_8_bits(name, options):
    """Whatever a flow does to the data, their code length is theirs.

    The base is the uniform distribution of the data, pushed through the exact inverse
    of the flow: what the flow then describes is uniform on (0, 256), in any units.
    """
    small = {
        "nice": {"event_shape": (4, 4, 1), "depth": 1, "width": 4},
        "real_nvp": {"event_shape": (4, 4, 1), "layers": 1, "depth": 1, "width": 2},
        "glow": {"event_shape": (4, 4, 1), "steps": 1, "width": 4},
    }
    build = getattr(flows, name)
    ready = build(seed=0, **small[name], **options)
    perturb(ready, 0.05)
    uniform = tfd.Independent(
        tfd.Uniform(tf.zeros([4, 4, 1]), tf.constant(256.0)),
        reinterpreted_batch_ndims=3,
    )
    base = tfd.TransformedDistribution(uniform, tfb.Invert(ready.bijector))
    flow = Flow(base, ready.bijector)
    x = tf.constant(np.random.default_rng(0).uniform(1, 255, (6, 4, 4, 1)), tf.float32)
    close(flow.bits_per_dim(x), np.full(6, 8.0), 1e-4)


def test_uniform_through_the_exact_inverse_of_the_preprocessing():
    """The same by hand: a logistic base makes alpha-free logits of uniform data."""
    alpha = 1e-6
    flow = Flow(
        distributions.standard_logistic((3,), "float64"),
        bijectors.Logit(alpha, 0.0, 256.0),
    )
    x = tf.constant([[1.0, 100.5, 250.0], [3.25, 7.0, 128.0]], tf.float64)
    close(flow.bits_per_dim(x), [8.0, 8.0], 1e-5)


def test_densities_integrate_to_one():
    flow = flows.real_nvp(
        (2,), layers=2, width=8, seed=0, bounds=(-6, 6), logit_margin=0.05
    )
    perturb(flow, 0.02)
    line = np.linspace(-6.59, 6.59, 400)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2).astype("float32")
    total = np.exp(flow.log_prob(grid)).sum() * (line[1] - line[0]) ** 2
    assert abs(total - 1) < 0.02


# Samples.


def test_sample_shapes(flow):
    assert flow.sample(seed=0).shape == (4,)
    assert flow.sample(3, seed=0).shape == (3, 4)
    assert flow.sample((2, 3), seed=0).shape == (2, 3, 4)
    assert flow.sample(0, seed=0).shape == (0, 4)
    assert flow.sample(tf.constant([2, 3]), seed=0).shape == (2, 3, 4)
    n = tf.function(lambda n: flow.sample(n, seed=0))(tf.constant(5))
    assert n.shape == (5, 4)


def test_sample_shapes_with_a_context(conditional):
    context = normal(3, 2, dtype="float32")
    assert conditional.sample(seed=0, context=context).shape == (3, 4)
    assert conditional.sample(5, seed=0, context=context).shape == (5, 3, 4)
    assert conditional.sample((2, 5), seed=0, context=context).shape == (2, 5, 3, 4)
    assert conditional.sample(5, seed=0, context=context[0]).shape == (5, 4)
    batch = conditional.sample(5, seed=0, context=normal(2, 3, 2, dtype="float32"))
    assert batch.shape == (5, 2, 3, 4)
    x, log_prob = conditional.sample_and_log_prob(5, seed=0, context=context)
    assert x.shape == (5, 3, 4)
    assert log_prob.shape == (5, 3)
    # Each context has noise of its own, not the same shared.
    z = conditional.encode(x, context=context)
    assert np.abs(z[:, 0] - z[:, 1]).min() > 1e-4
    close(conditional.decode(z, context=context), x, 1e-4)


def test_sample_shapes_with_labels():
    flow = flows.nice((4,), depth=1, width=4, num_classes=3, seed=0)
    assert flow.sample(5, seed=0, context=1).shape == (5, 4)
    assert flow.sample(5, seed=0, context=[0, 2]).shape == (5, 2, 4)
    assert flow.sample(seed=0, context=[[0, 2, 1]]).shape == (1, 3, 4)


@pytest.mark.parametrize("seed", [0, 17, 2**31 - 1, 2**33 + 5, -3, np.int64(17)])
def test_integer_seeds_reproduce(flow, seed):
    first = flow.sample(3, seed=seed)
    flow.sample(7)
    close(flow.sample(3, seed=seed), first, 0)
    close(tf.function(lambda: flow.sample(3, seed=seed))(), first, 1e-6)
    assert np.abs(first - flow.sample(3, seed=seed - 1)).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3
    joint, _ = flow.sample_and_log_prob(3, seed=seed)
    close(joint, first, 1e-6)


def test_stateless_seeds_reproduce(flow):
    seed = tf.constant([3, 4])
    first = flow.sample(3, seed=seed)
    for same in (seed, [3, 4], (3, 4), np.array([3, 4], np.int32)):
        close(flow.sample(3, seed=same), first, 0)
    close(tf.function(lambda s: flow.sample(3, seed=s))(seed), first, 1e-6)
    assert np.abs(first - flow.sample(3, seed=[4, 3])).max() > 1e-3


def test_without_seed_samples_differ(flow):
    assert np.abs(flow.sample(3) - flow.sample(3)).max() > 1e-3
    sample = tf.function(lambda: flow.sample(3))
    assert np.abs(sample() - sample()).max() > 1e-3


def test_temperature(flow):
    mean = flow.distribution.mean()
    assert np.abs(mean).max() > 0.1
    cold = flow.sample(3, seed=0, temperature=0.0)
    close(cold, np.broadcast_to(flow.decode(mean[None]), (3, 4)), 1e-6)
    close(flow.sample(3, seed=0, temperature=1.0), flow.sample(3, seed=0), 1e-6)
    noise = flow.encode(flow.sample(3, seed=0)) - mean
    for temperature in (0.5, tf.constant(2.0)):
        tempered = flow.sample(3, seed=0, temperature=temperature)
        close(flow.encode(tempered) - mean, temperature * noise, 1e-4)
    sample = tf.function(lambda t: flow.sample(3, seed=0, temperature=t))
    close(sample(tf.constant(0.5)), flow.sample(3, seed=0, temperature=0.5), 1e-5)


def test_temperature_of_conditional_samples(conditional):
    context = normal(3, 2, dtype="float32")
    cold = conditional.sample(2, seed=0, temperature=0.0, context=context)
    mean = tf.broadcast_to(conditional.distribution.mean(), [3, 4])
    close(cold[0], conditional.decode(mean, context=context), 1e-6)
    close(cold[0], cold[1], 1e-6)


@pytest.mark.parametrize("temperature", [None, 0.6])
def test_sample_and_log_prob(flow, conditional, temperature):
    options = {} if temperature is None else {"temperature": temperature}
    x, log_prob = flow.sample_and_log_prob(6, seed=0, **options)
    close(flow.log_prob(tf.constant(x.numpy())), log_prob, 1e-4)
    close(x, flow.sample(6, seed=0, **options), 1e-6)
    context = normal(3, 2, dtype="float32")
    x, log_prob = conditional.sample_and_log_prob(6, seed=0, context=context, **options)
    close(conditional.log_prob(x, context=context), log_prob, 1e-4)


def test_samples_have_the_density(flow):
    """The mean of a function over samples is its integral: E[1 / p_other] bounded."""
    x = flow.sample(20000, seed=0)
    z = (flow.encode(x) - flow.distribution.mean()) / flow.distribution.stddev()
    close(tf.reduce_mean(z, 0), np.zeros(4), 0.03)
    close(tf.linalg.matmul(z, z, transpose_a=True) / 20000, np.eye(4), 0.05)


def test_a_base_with_a_batch():
    """A batch of base distributions is a batch of flows."""
    scale = tf.constant([1.0, 2.0, 5.0])[:, None]
    base = tfd.Independent(tfd.Normal(tf.zeros([3, 4]), scale), 1)
    flow = Flow(base, make_chain())
    reference = tfd.TransformedDistribution(base, flow.bijector)
    assert flow.batch_shape == (3,)
    x, log_prob = flow.sample_and_log_prob(5, seed=0)
    assert x.shape == (5, 3, 4)
    close(flow.log_prob(tf.constant(x.numpy())), log_prob, 1e-4)
    close(reference.log_prob(tf.constant(x.numpy())), log_prob, 1e-4)


# Encoding.


def test_encode_and_decode_are_inverse(flow, conditional):
    x = normal(5, 4, dtype="float32")
    close(flow.decode(flow.encode(x)), x, 1e-5)
    close(flow.encode(flow.decode(x)), x, 1e-5)
    close(flow.encode(x), flow.bijector.inverse(x), 0)
    context = normal(5, 2, dtype="float32")
    z = conditional.encode(x, context=context)
    close(conditional.decode(z, context=context), x, 1e-5)
    assert np.abs(z - conditional.encode(x, context=context + 1.0)).max() > 1e-3


# Context.


def test_contexts_broadcast(conditional):
    x, context = normal(3, 4, dtype="float32"), normal(3, 2, dtype="float32")
    each = [conditional.log_prob(x[i], context=context[i]) for i in range(3)]
    close(conditional.log_prob(x, context=context), each, 1e-5)
    one = conditional.log_prob(x, context=context[0])
    close(one, [conditional.log_prob(x[i], context=context[0]) for i in range(3)], 1e-5)
    many = conditional.log_prob(x[0], context=context)
    close(
        many, [conditional.log_prob(x[0], context=context[i]) for i in range(3)], 1e-5
    )
    table = conditional.log_prob(x[:, None], context=context)
    assert table.shape == (3, 3)
    close(tf.linalg.diag_part(table), each, 1e-5)


def test_context_of_another_dtype(conditional):
    x, context = normal(3, 4, dtype="float32"), normal(3, 2, dtype="float32")
    expected = conditional.log_prob(x, context=context)
    close(
        conditional.log_prob(x, context=np.asarray(context, "float64")), expected, 1e-5
    )
    close(conditional.log_prob(x, context=context.numpy().tolist()), expected, 1e-5)


def methods(flow, context):
    """Every public method that takes a context."""
    x = normal(3, 4, dtype="float32")
    return {
        "log_prob": lambda **k: flow.log_prob(x, **{**context, **k}),
        "prob": lambda **k: flow.prob(x, **{**context, **k}),
        "sample": lambda **k: flow.sample(2, seed=0, **{**context, **k}),
        "sample_and_log_prob": lambda **k: flow.sample_and_log_prob(
            2, seed=0, **{**context, **k}
        ),
        "encode": lambda **k: flow.encode(x, **{**context, **k}),
        "decode": lambda **k: flow.decode(x, **{**context, **k}),
        "bits_per_dim": lambda **k: flow.bits_per_dim(x, **{**context, **k}),
    }


NAMES = sorted(methods(None, {}))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_keywords_are_errors(flow, conditional, name):
    call = methods(conditional, {"context": normal(3, 2, dtype="float32")})[name]
    call()
    with pytest.raises(TypeError, match=r"contxt.*known.*context"):
        call(contxt=1.0)
    with pytest.raises(TypeError, match=r"training.*known"):
        call(training=True)
    if "sample" not in name:
        with pytest.raises(TypeError, match=r"temperature.*known"):
            call(temperature=1.0)
    with pytest.raises(TypeError, match="known: "):
        methods(flow, {})[name](bijector_kwargs={})


@pytest.mark.parametrize("name", NAMES)
def test_missing_unexpected_and_misshapen_contexts(flow, conditional, name):
    with pytest.raises(ValueError, match=r"context is required.*2"):
        methods(conditional, {})[name]()
    with pytest.raises(ValueError, match="context is required"):
        methods(conditional, {"context": None})[name]()
    with pytest.raises(ValueError, match="takes none"):
        methods(flow, {"context": normal(3, 2, dtype="float32")})[name]()
    methods(flow, {"context": None})[name]()
    with pytest.raises(ValueError, match="context"):
        methods(conditional, {"context": normal(3, 5, dtype="float32")})[name]()
    if "sample" not in name:
        with pytest.raises(ValueError, match="broadcast"):
            methods(conditional, {"context": normal(4, 2, dtype="float32")})[name]()


def test_wrong_shapes_and_dtypes(flow):
    for wrong in (normal(3, 5, dtype="float32"), tf.constant(0.0)):
        for call in (flow.log_prob, flow.encode, flow.decode, flow.bits_per_dim):
            with pytest.raises(ValueError, match="chain"):
                call(wrong)
    with pytest.raises((TypeError, ValueError)):
        flow.log_prob(normal(3, 4, dtype="float64"))
    numbers = np.random.default_rng(0).standard_normal((3, 4))
    expected = flow.log_prob(numbers.astype("float32"))
    close(flow.log_prob(numbers), expected, 1e-5)
    close(flow.log_prob(numbers.tolist()), expected, 1e-5)
    close(flow.bits_per_dim(numbers), expected / (-4 * math.log(2)), 1e-5)


def test_constructor_errors():
    with pytest.raises(ValueError, match=r"at least 1 dimension"):
        Flow(tfd.Normal(0.0, 1.0), make_chain())
    with pytest.raises(ValueError, match="4"):
        Flow(distributions.standard_normal((5,)), make_chain())
    with pytest.raises(ValueError, match="no bijector takes"):
        Flow(distributions.standard_normal((4,)), make_chain(), context_shape=(2,))


# Gradients.


def test_gradient_at_a_sample_just_drawn(flow):
    for draw in (flow.sample, lambda n, seed: flow.sample_and_log_prob(n, seed)[0]):
        x = draw(5, seed=0)
        results = []
        for at in (x, tf.constant(x.numpy())):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(at)
                log_prob = flow.log_prob(at)
            gradient = tape.gradient(log_prob, at)
            assert gradient is not None
            others = tape.gradient(log_prob, flow.trainable_variables)
            results.append([gradient, *others])
        for just_drawn, copied in zip(*results, strict=True):
            close(just_drawn, copied, 1e-5)
            assert np.abs(copied).max() > 0


def test_gradient_is_right(flow):
    """Against finite differences, in double precision."""
    flow = make_flow("float64")
    x = normal(3, 4, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = flow.log_prob(x)
    gradient = tape.gradient(log_prob, x)
    step = 1e-5 * np.eye(4)
    for i in range(4):
        difference = (flow.log_prob(x + step[i]) - flow.log_prob(x - step[i])) / 2e-5
        close(gradient[:, i], difference, 1e-7)


def test_samples_are_reparametrised(flow):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.sample(5, seed=0) ** 2)
    for v, g in zip(
        flow.trainable_variables,
        tape.gradient(loss, flow.trainable_variables),
        strict=True,
    ):
        assert g is not None, v.name
        assert np.abs(tf.convert_to_tensor(g)).max() > 0, v.name
    assert flow.reparameterization_type == tfd.FULLY_REPARAMETERIZED


def test_nothing_is_stale_after_a_variable_changes(flow):
    x = normal(3, 4, dtype="float32")
    held = flow.encode(x), flow.bijector.inverse(x), flow.log_prob(x), flow.sample(2)
    for v in flow.trainable_variables:
        v.assign_add(0.1 * tf.ones_like(v))
    close(flow.log_prob(x), flow.log_prob(tf.constant(x.numpy())), 0)
    assert np.abs(flow.log_prob(x) - held[2]).min() > 1e-3


# Copies.


def test_copy_shares_variables(flow):
    again = flow.copy(name="other")
    assert isinstance(again, Flow)
    assert again.name == "other"
    assert {v.ref() for v in again.variables} == {v.ref() for v in flow.variables}
    flow.trainable_variables[0].assign_add(tf.ones_like(flow.trainable_variables[0]))
    x = normal(3, 4, dtype="float32")
    close(again.log_prob(x), flow.log_prob(x), 0)


@pytest.mark.parametrize(
    "build",
    [
        make_flow,
        lambda: make_flow(context_shape=(2,)),
        lambda: flows.real_nvp(
            (4,), layers=2, width=4, order="random", batch_norm=True
        ),
        lambda: flows.glow((4, 4, 2), steps=1, width=4, num_classes=3),
    ],
    ids=["hand_made", "conditional", "real_nvp", "glow_labels"],
)
def test_deepcopy_is_independent(build):
    flow = build()
    perturb(flow, 0.1)
    again = copy.deepcopy(flow)
    assert type(again) is Flow
    assert again.config == flow.config
    assert again.context_shape == flow.context_shape
    refs = {v.ref() for v in flow.variables}
    assert len(again.variables) == len(flow.variables)
    assert not refs & {v.ref() for v in again.variables}
    x = normal(3, *flow.event_shape, dtype="float32")
    keywords = {}
    if flow.context_shape is not None:
        keywords["context"] = (
            tf.constant([0, 1, 2])
            if flow.context_shape == ()
            else normal(3, 2, dtype="float32")
        )
    before = flow.log_prob(x, **keywords)
    close(again.log_prob(x, **keywords), before, 0)
    for v in again.trainable_variables:
        v.assign_add(0.2 * tf.ones_like(v))
    close(flow.log_prob(x, **keywords), before, 0)
    assert np.abs(again.log_prob(x, **keywords) - before).min() > 1e-4


def test_repr(flow, conditional):
    """A block that shows the base, and each bijector as data meet them."""
    text = repr(flow)
    lines = text.split("\n")
    assert lines[0] == "Flow(" and lines[-1] == ")"
    assert "event_shape=[4]" in text and "dtype=float32" in text
    places = [text.index(f"({i}): ") for i in range(3)]
    assert places == sorted(places)
    assert "diagonal_normal" in text[places[-1] :]
    assert "context_shape=(2,)" in repr(conditional)
    assert "flow" in str(flow)
    assert "nice" in repr(flows.nice((4,), depth=1, width=4))


# Float64.


def test_float64():
    flow = make_flow("float64")
    assert flow.dtype == tf.float64
    x, log_prob = flow.sample_and_log_prob(5, seed=0, temperature=0.7)
    assert x.dtype == log_prob.dtype == tf.float64
    close(flow.log_prob(tf.constant(x.numpy())), log_prob, 1e-11)
    close(flow.decode(flow.encode(x)), x, 1e-12)
    assert flow.bits_per_dim(x.numpy()).dtype == tf.float64


# Among TFP's own.


def test_in_joint_distributions(flow):
    def model():
        scale = yield tfd.JointDistributionCoroutine.Root(
            tfd.LogNormal(0.0, 0.1, name="scale")
        )
        x = yield tfd.JointDistributionCoroutine.Root(flow.copy(name="x"))
        yield tfd.Independent(tfd.Normal(x, scale[..., None]), 1, name="y")

    joints = [
        tfd.JointDistributionCoroutine(model),
        tfd.JointDistributionSequential(
            [
                tfd.LogNormal(0.0, 0.1),
                flow,
                lambda x, scale: tfd.Independent(tfd.Normal(x, scale[..., None]), 1),
            ]
        ),
    ]
    for joint in joints:
        scale, x, y = parts = joint.sample(3, seed=0)
        assert x.shape == (3, 4)
        expected = (
            tfd.LogNormal(0.0, 0.1).log_prob(scale)
            + flow.log_prob(tf.constant(x.numpy()))
            + tfd.Independent(tfd.Normal(x, scale[..., None]), 1).log_prob(y)
        )
        close(joint.log_prob(parts), expected, 1e-4)
        parts, log_prob = joint.experimental_sample_and_log_prob(3, seed=0)
        again = tf.nest.map_structure(lambda part: tf.constant(part.numpy()), parts)
        close(log_prob, joint.log_prob(again), 1e-4)
    # A coroutine hides its distributions, TFP's as well.
    seen = {v.ref() for v in joints[1].trainable_variables}
    assert seen == {v.ref() for v in flow.trainable_variables}


def test_variables_show_in_modules(flow):
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.parts = {"flow": [flow]}

    assert len(Model().trainable_variables) == len(flow.trainable_variables) > 0


def test_in_mixtures_and_batches(flow):
    other = make_flow()
    perturb(other, 0.3, seed=9)
    mixture = tfd.Mixture(tfd.Categorical(probs=[0.3, 0.7]), [flow, other])
    x = normal(5, 4, dtype="float32")
    expected = np.log(0.3 * np.exp(flow.log_prob(x)) + 0.7 * np.exp(other.log_prob(x)))
    close(mixture.log_prob(x), expected, 1e-5)
    sample = tfd.Sample(flow, 3)
    x = normal(5, 3, 4, dtype="float32")
    close(sample.log_prob(x), tf.reduce_sum(flow.log_prob(x), -1), 1e-5)
    independent = tfd.Independent(tfd.BatchBroadcast(flow, [2]), 1)
    x = normal(5, 2, 4, dtype="float32")
    close(independent.log_prob(x), tf.reduce_sum(flow.log_prob(x), -1), 1e-5)
    outer = tfd.TransformedDistribution(flow, tfb.Scale(2.0))
    close(outer.log_prob(x), flow.log_prob(x / 2) - 4 * math.log(2), 1e-5)


def test_kl_divergence_by_sampling(flow):
    other = make_flow()
    perturb(other, 0.3, seed=9)
    kl = tfp.vi.monte_carlo_variational_loss(
        other.log_prob, flow, sample_size=4000, seed=0
    )
    assert kl > 0
    same = tfp.vi.monte_carlo_variational_loss(
        flow.log_prob, flow, sample_size=100, seed=0
    )
    close(same, 0.0, 1e-4)


def test_in_mcmc(flow):
    kernel = tfp.mcmc.HamiltonianMonteCarlo(flow.log_prob, 0.1, 2)
    states = tf.function(
        lambda: tfp.mcmc.sample_chain(
            4, normal(3, 4, dtype="float32"), kernel=kernel, trace_fn=None, seed=(0, 1)
        )
    )()
    assert states.shape == (4, 3, 4)
    assert np.isfinite(states).all()
    assert np.abs(states[0] - states[-1]).max() > 1e-3


def test_as_an_argument_of_a_tf_function(flow):
    @tf.function
    def log_prob(flow, x):
        return flow.log_prob(x)

    other = make_flow()
    perturb(other, 0.3, seed=9)
    x = normal(3, 4, dtype="float32")
    for given in (flow, other, flow):
        close(log_prob(given, x), given.log_prob(x), 1e-5)
    flow.trainable_variables[0].assign_add(tf.ones_like(flow.trainable_variables[0]))
    close(log_prob(flow, x), flow.log_prob(x), 1e-5)


def test_vectorized_map(flow, conditional):
    x, context = normal(5, 4, dtype="float32"), normal(5, 2, dtype="float32")
    close(tf.vectorized_map(flow.log_prob, x), flow.log_prob(x), 1e-5)
    close(
        tf.vectorized_map(
            lambda a: conditional.log_prob(a[0], context=a[1]), (x, context)
        ),
        conditional.log_prob(x, context=context),
        1e-5,
    )
    close(tf.vectorized_map(flow.decode, x), flow.decode(x), 1e-5)


def test_conditioner_runs_once():
    calls = []

    class Counting(networks.MLP):
        def call(self, x, context=None):
            calls.append(x.shape)
            return super().call(x, context)

    flow = Flow(
        distributions.standard_normal((4,)),
        bijectors.AffineCoupling(masks.half(4), Counting(4, (4,))),
    )
    x = normal(3, 4, dtype="float32")
    for call in (
        lambda: flow.log_prob(x),
        lambda: flow.sample(3),
        lambda: flow.sample_and_log_prob(3),
        lambda: flow.encode(x),
        lambda: flow.decode(x),
    ):
        calls.clear()
        call()
        assert len(calls) == 1, inspect.getsource(call)


def test_training_keyword_reaches_batch_norm():
    flow = Flow(
        distributions.standard_normal((4,)),
        bijectors.Chain([bijectors.BatchNorm([4], epsilon=1e-5)]),
    )
    x = 3.0 + 2.0 * normal(50, 4, dtype="float32")
    by_averages = np.mean(flow.log_prob(x))
    z = flow.encode(x, training=True)
    close(tf.reduce_mean(z, 0), np.zeros(4), 1e-4)
    close(tf.math.reduce_std(z, 0), np.ones(4), 1e-3)
    assert np.mean(flow.log_prob(x, training=True)) > by_averages + 1
