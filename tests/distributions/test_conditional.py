"""Bases that depend on a context, alone and in flows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain
from tests.support import close, normal, perturb
from tfp_flows import Flow, FlowModel, bijectors, distributions
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.flows import OneHot
from tfp_flows.networks import MLP

tfd = tfp.distributions


def by_class(dtype="float32", classes=3, **options):
    base = distributions.ClassConditionalNormal(
        (4,), classes, dtype, spread=2.0, seed=0, **options
    )
    perturb(base, 0.3)
    return base


class ByNetwork(tf.Module):
    """A Student-t whose location is a network's."""

    def __init__(self, dtype):
        super().__init__()
        network = MLP(4, (8,), seed=0, dtype=dtype)
        self.location = Conditioner(network, (2,), (4,), dtype=tf.as_dtype(dtype))

    def __call__(self, context):
        location = self.location(context)
        return tfd.Independent(
            tfd.StudentT(tf.constant(3.0, location.dtype), location, 1.0), 1
        )


def by_network(dtype="float32"):
    base = distributions.Conditional(ByNetwork(dtype), (4,), (2,), dtype)
    perturb(base, 0.3)
    return base


BASES = {"class": (by_class, 3), "network": (by_network, 2)}
every = pytest.mark.parametrize(("build", "size"), BASES.values(), ids=BASES)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)]
)
def test_each_class_has_a_gaussian(dtype, tolerance):
    base = by_class(dtype)
    mean, log_scale = (np.asarray(v) for v in base.trainable_variables[::-1])
    if "mean" in base.trainable_variables[0].name:
        mean, log_scale = log_scale, mean
    z = normal(3, 4, dtype=dtype)
    labels = [2, 0, 2]
    expected = scipy.stats.norm(mean[labels], np.exp(log_scale)[labels]).logpdf(z)
    context = tf.one_hot(labels, 3, dtype=dtype)
    close(base.log_prob(z, context=context), expected.sum(-1), tolerance)
    close(base.mean(context=context), mean[labels], tolerance)
    close(base.stddev(context=context), np.exp(log_scale)[labels], tolerance)
    sample = base.sample(20000, seed=0, context=context)
    close(tf.reduce_mean(sample, 0), mean[labels], 0.1)
    close(tf.math.reduce_std(sample, 0), np.exp(log_scale)[labels], 0.1)


def test_classes_start_alike_or_spread():
    base = distributions.ClassConditionalNormal((4,), 3)
    z = normal(5, 4, dtype="float32")
    standard = distributions.standard_normal((4,)).log_prob(z)
    for label in range(3):
        close(base.log_prob(z, context=tf.one_hot(label, 3)), standard, 1e-5)
    means = distributions.ClassConditionalNormal((400,), 3, spread=2.0, seed=0).mean(
        context=tf.eye(3)
    )
    close(tf.math.reduce_std(means, -1), np.full(3, 2.0), 0.2)
    other = distributions.ClassConditionalNormal((400,), 3, spread=2.0, seed=1)
    assert np.abs(other.mean(context=tf.eye(3)) - means).max() > 1


@every
def test_shapes_and_broadcasting(build, size):
    base = build()
    assert (base.event_shape, base.batch_shape) == ((4,), ())
    assert base.context_shape == (size,)
    z, context = normal(3, 4, dtype="float32"), normal(3, size, dtype="float32")
    each = [base.log_prob(z[i], context=context[i]) for i in range(3)]
    assert each[0].shape == ()
    close(base.log_prob(z, context=context), each, 1e-5)
    table = base.log_prob(z[:, None], context=context)
    assert table.shape == (3, 3)
    close(tf.linalg.diag_part(table), each, 1e-5)
    assert base.log_prob(z[:0], context=context[:0]).shape == (0,)
    assert base.log_prob(z, context=context[0]).shape == (3,)
    close(base.log_prob(z, context=context.numpy().astype("float64")), each, 1e-5)
    for shape, batch in (((), (3,)), ((2,), (3,)), ((2, 5), (3,)), ((2,), ())):
        given = context if batch else context[0]
        assert base.sample(shape, context=given).shape == (*shape, *batch, 4)
        x, log_prob = base.experimental_sample_and_log_prob(shape, context=given)
        assert log_prob.shape == (*shape, *batch)
        close(base.log_prob(x, context=given), log_prob, 1e-5)


@every
def test_eager_function_and_xla_agree(build, size):
    base = build("float64")
    z, context = normal(5, 4, dtype="float64"), normal(5, size, dtype="float64")

    def log_prob(z, context):
        return base.log_prob(z, context=context)

    expected = log_prob(z, context)
    for jit in (False, True):
        close(tf.function(log_prob, jit_compile=jit)(z, context), expected, 1e-10)
    mapped = tf.vectorized_map(lambda a: log_prob(*a), (z, context))
    close(mapped, expected, 1e-10)
    spec = [tf.TensorSpec([None, n], tf.float64) for n in (4, size)]
    close(tf.function(log_prob, input_signature=spec)(z, context), expected, 1e-10)


@every
def test_variables_learn_and_copies(build, size):
    base = build()
    z, context = normal(5, 4, dtype="float32"), normal(5, size, dtype="float32")
    with tf.GradientTape() as tape:
        log_prob = base.log_prob(z, context=context)
    variables = base.trainable_variables
    for v, g in zip(variables, tape.gradient(log_prob, variables), strict=True):
        assert np.abs(g).max() > 0, v.name
    shared = base.copy(name="other")
    assert {v.ref() for v in shared.variables} == {v.ref() for v in base.variables}
    flow = Flow(base, make_chain())
    again = copy.deepcopy(flow)
    assert not {v.ref() for v in flow.variables} & {v.ref() for v in again.variables}
    before = flow.log_prob(z, context=context)
    close(again.log_prob(z, context=context), before, 0)
    for v in again.distribution.trainable_variables:
        v.assign_add(0.3 * tf.ones_like(v))
    close(flow.log_prob(z, context=context), before, 0)
    assert np.abs(again.log_prob(z, context=context) - before).min() > 1e-4


# In a flow.


@every
@pytest.mark.parametrize("both", [False, True], ids=["base_only", "both"])
def test_flow_gives_its_context_to_the_base(build, size, both):
    base = build("float64")
    chain = make_chain("float64", (size,) if both else None)
    perturb(chain, 0.3)
    flow = Flow(base, chain)
    assert flow.context_shape == (size,)
    x, context = normal(3, 4, dtype="float64"), normal(3, size, dtype="float64")
    keywords = {"context": context} if both else {}
    z, log_det = chain.inverse_and_log_det(x, **keywords)
    expected = base.given(context).log_prob(z) + log_det
    close(flow.log_prob(x, context=context), expected, 1e-12)
    close(flow.encode(x, context=context), z, 1e-12)
    close(flow.decode(z, context=context), x, 1e-10)

    sample, log_prob = flow.sample_and_log_prob((2, 5), seed=0, context=context)
    assert sample.shape == (2, 5, 3, 4)
    close(flow.log_prob(sample, context=context), log_prob, 1e-9)
    close(flow.sample((2, 5), seed=0, context=context), sample, 1e-12)
    mean = base.mean(context=context)
    moments = mean, base.stddev(context=context)
    close(flow.noise_moments(context=context), moments, 1e-12)
    cold = flow.sample(2, seed=0, context=context, temperature=0.0)
    close(cold, np.broadcast_to(flow.decode(mean, context=context), (2, 3, 4)), 1e-12)
    warm = flow.encode(sample[0], context=context) - mean
    tempered = flow.sample((2, 5), seed=0, context=context, temperature=0.5)[0]
    close(flow.encode(tempered, context=context) - mean, 0.5 * warm, 1e-9)


@pytest.mark.parametrize("name", ["log_prob", "sample", "encode", "decode"])
def test_flow_misses_a_context_of_the_base(name):
    flow = Flow(by_class(), make_chain())
    given = (5,) if name == "sample" else (normal(5, 4, dtype="float32"),)
    with pytest.raises(ValueError, match=r"context is required.*3"):
        getattr(flow, name)(*given)
    with pytest.raises(TypeError, match=r"contxt.*known.*context"):
        getattr(flow, name)(*given, contxt=1.0)


def test_contexts_of_wrong_shapes():
    base = by_class()
    flow = Flow(base, make_chain())
    for call in (base.log_prob, flow.log_prob):
        with pytest.raises(ValueError, match=r"context must end in \(3,\)"):
            call(normal(5, 4, dtype="float32"), context=normal(5, 2, dtype="float32"))
        with pytest.raises(ValueError, match="broadcast"):
            call(normal(5, 4, dtype="float32"), context=normal(4, 3, dtype="float32"))
    for call in (base.sample, flow.sample):
        with pytest.raises(ValueError, match=r"context must end in \(3,\)"):
            call(2, context=normal(5, 2, dtype="float32"))
    with pytest.raises(ValueError, match="context is required"):
        base.log_prob(normal(5, 4, dtype="float32"))
    with pytest.raises(ValueError, match="context is required"):
        base.sample(2)


def test_context_shapes_of_bijector_and_base_must_agree():
    with pytest.raises(ValueError, match=r"must agree.*\(2,\).*\(3,\)"):
        Flow(by_class(), make_chain(context_shape=(2,)))


def test_constructor_errors():
    conditional = distributions.Conditional
    with pytest.raises(TypeError, match=r"TFP distribution.*Tensor"):
        conditional(lambda c: c, (4,), (2,))
    with pytest.raises(ValueError, match=r"event shape \(4,\)"):
        conditional(lambda c: tfd.MultivariateNormalDiag(c), (4,), (2,))
    with pytest.raises(ValueError, match="batch shape"):
        conditional(lambda c: distributions.standard_normal((4,)), (4,), (2,))
    with pytest.raises(ValueError, match=r"num_classes.*0"):
        distributions.ClassConditionalNormal((4,), 0)
    with pytest.raises(ValueError, match=r"spread.*-1"):
        distributions.ClassConditionalNormal((4,), 2, spread=-1)


def test_any_function_of_a_context():
    base = distributions.Conditional(
        lambda c: tfd.Independent(tfd.Laplace(c, 2.0), 1), (4,), (4,)
    )
    flow = Flow(base, bijectors.Scaling([4]))
    x, context = normal(3, 4, dtype="float32"), normal(3, 4, seed=1, dtype="float32")
    expected = scipy.stats.laplace(context, 2.0).logpdf(x).sum(-1)
    close(flow.log_prob(x, context=context), expected, 1e-5)


# In a model.


def labelled(n=60):
    labels = np.arange(n) % 3
    draw = np.random.default_rng(0)
    x = 4.0 * labels[:, None] + draw.standard_normal((n, 4))
    return x.astype("float32"), labels.astype("int32")


def test_fit_save_and_export(tmp_path):
    def build(seed):
        base = distributions.ClassConditionalNormal((4,), 3, spread=0.5, seed=seed)
        encoder = OneHot(3, tf.float32)
        return Flow(base, make_chain(), context_encoder=encoder, context_shape=())

    x, labels = labelled()
    model = FlowModel(build(0))
    model.compile("adam")
    model.optimizer.learning_rate = 0.1
    history = model.fit(x, labels, epochs=15, verbose=0).history["nll"]
    assert history[-1] < history[0] - 1
    # The flow tells the classes apart, by its base alone.
    table = model.flow.log_prob(x[:, None], context=np.arange(3))
    assert (np.argmax(table, -1) == labels).mean() > 0.9
    with pytest.raises(ValueError, match="context is missing"):
        model.fit(x)
    with pytest.raises(ValueError, match=r"\[0, 3\), got 3"):
        model.fit(x, labels + 1)

    expected = model.flow.log_prob(x, context=labels)
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(build(1))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.flow.log_prob(x, context=labels), expected)

    model.export(tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    found = loaded.log_prob(tf.constant(x), tf.constant(labels))["log_prob"]
    close(found, expected, 1e-5)
    arguments = tf.constant(2), tf.constant(1), tf.constant(0.7)
    close(
        loaded.sample(*arguments, tf.constant([0, 2]))["x"],
        model.flow.sample(2, seed=1, temperature=0.7, context=[0, 2]),
        1e-5,
    )
