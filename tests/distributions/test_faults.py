"""Contexts that are none, and data that are none, whatever the networks do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks

tfb = tfp.bijectors
tfd = tfp.distributions


class Swallowing(keras.layers.Layer):
    """A network that makes 0 of NaN, as a fused product with ReLU may."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x, context=None):
        both = x if context is None else tf.concat([x, context], -1)
        both = tf.where(tf.math.is_nan(both), tf.zeros_like(both), both)
        return self.dense(both)


def chain(context_shape):
    members = [
        bijectors.AffineCoupling(mask, Swallowing(4), context_shape=context_shape)
        for mask in (masks.half(4), ~masks.half(4))
    ]
    return bijectors.Chain(members)


def with_numbers():
    return Flow(distributions.standard_normal((4,)), chain((2,)))


def with_labels():
    def one_hot(labels):
        known = (labels >= 0) & (labels < 3)
        return tf.where(known[..., None], tf.one_hot(labels, 3), np.nan)

    return Flow(
        distributions.standard_normal((4,)),
        chain((3,)),
        context_encoder=one_hot,
        context_shape=(),
    )


def with_an_encoder():
    return Flow(
        distributions.standard_normal((4,)),
        chain((2,)),
        context_encoder=keras.Sequential(
            [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
        ),
        context_shape=(3,),
    )


def with_a_base():
    base = distributions.ClassConditionalNormal((4,), 2, spread=2.0, seed=0)
    return Flow(base, bijectors.Chain([bijectors.Scaling([4])]))


class Table(tf.Module):
    """The mean of a Gaussian by a network that swallows NaN."""

    def __init__(self):
        super().__init__()
        self.matrix = tf.Variable(normal(2, 4, seed=3, dtype="float32"))

    def __call__(self, context):
        context = tf.where(tf.math.is_nan(context), tf.zeros_like(context), context)
        return tfd.Independent(tfd.Normal(context @ self.matrix, 1.0), 1)


def with_a_conditional():
    base = distributions.Conditional(Table(), (4,), (2,))
    return Flow(base, bijectors.Chain([bijectors.Scaling([4])]))


def contexts(flow):
    """Three contexts, the second of which is none."""
    if flow.context_shape == ():
        return tf.constant([0, 7, 2])
    context = normal(3, *flow.context_shape, dtype="float32").numpy()
    context[1, -1] = np.nan
    return tf.constant(context)


FLOWS = {
    f.__name__: f
    for f in (
        with_numbers,
        with_labels,
        with_an_encoder,
        with_a_base,
        with_a_conditional,
    )
}
every = pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS)
RUNS = {
    "eager": lambda f: f,
    "function": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


def in_all_ways(cases, *compiled, long=()):
    """Parameters of `cases` and `run`; by default the compiler sees a few of them.

    What is `long` in a trace is left to the slow tests.
    """
    return [
        pytest.param(
            *(values if isinstance(values, tuple) else (values,)),
            run,
            id=f"{name}-{how}",
            marks=pytest.mark.slow
            if (how == "xla" and name not in compiled)
            or (how == "function" and name in long)
            else (),
        )
        for name, values in cases.items()
        for how, run in RUNS.items()
    ]


@pytest.mark.parametrize(
    ("build", "run"),
    in_all_ways(
        FLOWS, "with_a_base", long=("with_numbers", "with_labels", "with_an_encoder")
    ),
)
def test_the_answer_to_no_context_is_nan(build, run):
    flow = build()
    perturb(flow, 0.3)
    x, context = normal(3, 4, dtype="float32"), contexts(flow)
    good = tf.gather(context, [0, 2])
    calls = {
        "log_prob": lambda x, c: flow.log_prob(x, context=c),
        "encode": lambda x, c: flow.encode(x, context=c),
        "decode": lambda x, c: flow.decode(x, context=c),
        "bits_per_dim": lambda x, c: flow.bits_per_dim(x, context=c),
    }
    for name, call in calls.items():
        found = run(call)(x, context).numpy()
        assert np.isnan(found[1]).all(), name
        expected = call(tf.gather(x, [0, 2]), good)
        close(found[[0, 2]], expected, 1e-4)
    sample = run(lambda c: flow.sample(5, seed=[1, 2], context=c))(context)
    assert np.isnan(sample[:, 1]).all() and np.isfinite(sample.numpy()[:, [0, 2]]).all()
    both = run(lambda c: flow.sample_and_log_prob(5, seed=[1, 2], context=c))(context)
    for part in both:
        assert np.isnan(part[:, 1]).all()
        assert np.isfinite(part.numpy()[:, [0, 2]]).all()


@pytest.mark.parametrize("build", [with_numbers, with_a_conditional])
def test_an_infinite_context_is_none_either(build):
    flow = build()
    context = contexts(flow).numpy()
    context[1, -1] = np.inf
    encoded = Flow(
        flow.distribution,
        flow.bijector,
        context_encoder=tf.tanh,
        context_shape=(2,),
    )
    for one in (flow, encoded):
        found = tf.function(one.log_prob)(
            normal(3, 4, dtype="float32"), context=context
        )
        assert np.isnan(found).tolist() == [False, True, False]


@every
def test_gradients_of_the_others_are_finite(build):
    flow = build()
    perturb(flow, 0.3)
    x, context = normal(3, 4, dtype="float32"), contexts(flow)

    @tf.function
    def gradients(x, context, valid):
        with tf.GradientTape() as tape:
            log_prob = flow.log_prob(x, context=context)
            loss = tf.reduce_sum(tf.boolean_mask(log_prob, valid))
        return tape.gradient(loss, flow.trainable_variables)

    found = gradients(x, context, [True, False, True])
    others = [0, 2]
    expected = gradients(tf.gather(x, others), tf.gather(context, others), [True, True])
    for v, a, b in zip(flow.trainable_variables, found, expected, strict=True):
        assert np.isfinite(a).all(), v.name
        close(a, b, 1e-4)


def test_the_base_alone():
    for base in (
        distributions.ClassConditionalNormal((4,), 2),
        distributions.Conditional(Table(), (4,), (2,)),
    ):
        z, context = normal(3, 4, dtype="float32"), contexts(base)
        for found in (
            base.log_prob(z, context=context),
            base.mean(context=context),
            base.stddev(context=context),
            base.entropy(context=context),
        ):
            assert np.isnan(found[1]).all() and np.isfinite(found[0]).all()
        sample = base.sample(2, seed=0, context=context)
        assert np.isnan(sample[:, 1]).all() and np.isfinite(sample[:, 0]).all()
        flow = Flow(base, bijectors.Scaling([4]))
        mean, stddev = flow.noise_moments(context=context)
        assert np.isnan(mean[1]).all() and np.isnan(stddev[1]).all()
        assert np.isfinite(mean[0]).all()


@pytest.mark.parametrize("name", ["real_nvp", "planar"])
def test_a_label_out_of_range_of_a_ready_flow(name):
    options = {"layers": 2, "width": 8} if name == "real_nvp" else {}
    flow = getattr(flows, name)((4,), num_classes=3, seed=0, **options)
    x, labels = normal(4, 4, dtype="float32"), tf.constant([0, 3, -1, 2])
    found = tf.function(lambda c: flow.log_prob(x, context=c))(labels)
    assert np.isnan(found).tolist() == [False, True, True, False]
    sample = tf.function(lambda c: flow.sample(context=c, seed=0))(labels)
    assert np.isnan(sample).all(-1).tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match=r"\[0, 3\), got"):
        flow.log_prob(x, context=labels)


def test_dequantization():
    flow = flows.real_nvp((4,), layers=2, width=8, num_classes=3, bounds=(0, 8))
    quantized = distributions.VariationalDequantization(flow, None, 8)
    x, labels = tf.constant([[1.0, 2.0, 3.0, 4.0]] * 3), tf.constant([0, 5, 1])
    found = tf.function(lambda c: quantized.log_prob(x, context=c, seed=1))(labels)
    assert np.isnan(found).tolist() == [False, True, False]
    bad = tf.constant([[1.0, 2, 3, 4], [9, 2, 3, 4], [np.nan, 2, 3, 4]])
    found = quantized.log_prob(bad, context=[0, 1, 2], seed=1)
    assert np.isfinite(found[0]) and found[1] == -np.inf and np.isnan(found[2])


# Out of the support.

INSIDE = [[0.25, 0.5], [0.5, 0.75]]
BOUNDED = {
    "sigmoid": (tfb.Sigmoid(), [[1.5, 0.5], [0.5, -0.1], [1.0, 0.5], [0.0, 0.5]]),
    "sigmoid_of": (tfb.Sigmoid(-1.0, 2.0), [[2.5, 0.5], [0.5, -1.1]]),
    "exp": (tfb.Exp(), [[-1.0, 0.5], [0.5, 0.0]]),
    "softplus": (tfb.Softplus(), [[-1.0, 0.5], [0.5, 0.0]]),
    "softplus_from": (tfb.Softplus(low=0.1), [[0.05, 0.5]]),
    "tanh": (tfb.Tanh(), [[1.5, 0.5], [0.5, -1.0]]),
    "normal_cdf": (tfb.NormalCDF(), [[1.5, 0.5]]),
    "soft_clip": (tfb.SoftClip(0.0, 1.0), [[1.5, 0.5]]),
    "moved": (
        tfb.Chain([tfb.Shift(1.0), tfb.Scale(-2.0), tfb.Sigmoid()]),
        [[1.5, 0.5], [0.5, -1.1]],
    ),
    "among_ours": (
        bijectors.Chain([tfb.Sigmoid(), bijectors.ActNorm([2])]),
        [[1.5, 0.5]],
    ),
    "inverted": (tfb.Invert(tfb.Invert(tfb.Sigmoid())), [[1.5, 0.5]]),
}


def gradients_inside(flow, x, expected, run):
    """Gradients of two densities, the others being of points outside."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = run(flow.log_prob)(x)
        loss = tf.reduce_sum(found[:2])
    close(found[:2], expected, 1e-5)
    assert (found[2:].numpy() == -np.inf).all()
    return tape.gradient(loss, [x, *flow.trainable_variables])


@pytest.mark.parametrize(
    ("bijector", "outside", "run"),
    in_all_ways(BOUNDED, "among_ours"),
)
def test_out_of_the_range_of_a_bijector(bijector, outside, run):
    mean = tf.Variable([0.3, -0.2])
    base = tfd.MultivariateNormalDiag(mean, [1.0, 2.0])
    flow = Flow(base, bijector)
    flow.initialize(INSIDE)
    x = tf.constant([*INSIDE, *outside])
    expected = flow.log_prob(tf.constant(INSIDE))
    assert np.isfinite(expected).all()
    if not flow.bijector.trainable_variables:
        reference = tfd.TransformedDistribution(base, bijector)
        close(expected, reference.log_prob(tf.constant(INSIDE)), 1e-4)
    of_x, *of_variables = gradients_inside(flow, x, expected, run)
    assert np.isfinite(of_x).all() and np.abs(of_x[:2]).min() > 0
    assert all(np.isfinite(g).all() for g in of_variables)
    # What is not a number is neither in nor out.
    assert np.isnan(flow.log_prob([[np.nan, 0.5]]))


BASES = {
    "beta": (lambda v: tfd.Beta([2.0, 3.0], 2.0, validate_args=v), [[1.5, 0.5]]),
    "gamma": (lambda v: tfd.Gamma([2.0, 3.0], 2.0, validate_args=v), [[-1.5, 0.5]]),
    "uniform": (lambda v: tfd.Uniform([0.0, 0.1], 2.0, validate_args=v), [[0.5, 0.05]]),
    "log_normal": (
        lambda v: tfd.LogNormal([0.0, 0.1], 2.0, validate_args=v),
        [[0.5, -1.0]],
    ),
    "exponential": (
        lambda v: tfd.Exponential([1.0, 2.0], validate_args=v),
        [[-0.5, 0.5]],
    ),
    "pareto": (lambda v: tfd.Pareto([1.0, 2.0], 0.1, validate_args=v), [[0.05, 0.5]]),
}


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(
    ("make", "outside", "run"), in_all_ways(BASES, "uniform", "log_normal")
)
def test_out_of_the_support_of_a_base(make, outside, run, validate):
    base = tfd.Independent(make(validate), 1)
    flow = Flow(base, bijectors.Scaling([2], log_scale=tf.zeros([2])))
    x = tf.constant([*INSIDE, *outside])
    found = run(flow.log_prob)(x)
    close(found[:2], base.log_prob(INSIDE), 1e-5)
    assert (found[2:].numpy() == -np.inf).all()


FROM_A_PART = {
    "square": (tfb.Square(), [[-1.0, 0.5], [0.5, 0.0]]),
    "weibull": (tfb.WeibullCDF(2.0, 1.5), [[1.5, 0.5], [0.5, -0.1], [1.0, 0.5]]),
    "rayleigh": (tfb.RayleighCDF(), [[1.5, 0.5], [0.5, -0.1]]),
    "gompertz": (tfb.GompertzCDF(0.5, 1.0), [[1.5, 0.5], [0.5, -0.1]]),
    "moved": (tfb.Chain([tfb.Scale(-2.0), tfb.Square()]), [[0.5, -0.5]]),
}


@pytest.mark.parametrize(
    ("bijector", "outside", "run"), in_all_ways(FROM_A_PART, "square", "moved")
)
def test_out_of_the_range_of_a_bijector_of_positive_numbers(bijector, outside, run):
    base = tfd.Independent(tfd.LogNormal([0.0, 0.1], tf.Variable(1.0)), 1)
    flow = Flow(base, bijector)
    inside = bijector.forward(INSIDE)
    x = tf.concat([inside, outside], 0)
    expected = tfd.TransformedDistribution(base, bijector).log_prob(inside)
    for gradient in gradients_inside(flow, x, expected, run):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("bijector", [tfb.Exp(), tfb.Sigmoid(0.0, 2.0)])
@pytest.mark.parametrize(
    "inner",
    [
        lambda: tfd.MultivariateNormalDiag(tf.Variable([0.0, 0.1]), [1.0, 2.0]),
        lambda: Flow(distributions.standard_normal((2,)), bijectors.PLU(2)),
    ],
    ids=["normal", "flow"],
)
def test_out_of_the_support_of_a_transformed_base(inner, bijector):
    base = tfd.TransformedDistribution(inner(), bijector)
    flow = Flow(base, bijectors.Scaling([2], log_scale=tf.zeros([2])))
    x = tf.constant([*INSIDE, [-1.0, 0.5], [0.5, 0.0]])
    for run in RUNS.values():
        found = run(flow.log_prob)(x)
        close(found[:2], base.log_prob(INSIDE), 1e-5)
        assert (found[2:].numpy() == -np.inf).all()


def test_mixtures_of_bounded_flows():
    """Each point has the density of those parts that know it."""
    low, high = (
        Flow(
            distributions.diagonal_normal((2,)),
            bijectors.Chain([tfb.Sigmoid(*bounds), bijectors.Scaling([2])]),
        )
        for bounds in ((0.0, 1.0), (0.5, 2.0))
    )
    mixture = tfd.Mixture(tfd.Categorical(probs=[0.25, 0.75]), [low, high])
    x = tf.constant([[0.25, 0.25], [0.75, 0.75], [1.5, 1.5], [0.25, 1.5]])
    with tf.GradientTape() as tape:
        found = mixture.log_prob(x)
        loss = tf.reduce_sum(found[:3])
    expected = 0.25 * np.exp(low.log_prob(x)) + 0.75 * np.exp(high.log_prob(x))
    close(np.exp(found), expected, 1e-5)
    assert np.isfinite(found[:3]).all() and found[3] == -np.inf
    variables = [*low.trainable_variables, *high.trainable_variables]
    for g in tape.gradient(loss, variables):
        assert np.isfinite(tf.convert_to_tensor(g)).all()


def test_infinity_under_a_resampled_base():
    def odd(z):
        return tf.reduce_sum(z - z, -1, keepdims=True)

    base = distributions.ResampledBase(odd, (2,), draws=16)
    found = base.log_prob([[0.0, 0.0], [np.inf, 0.0], [np.nan, 0.0]])
    assert np.isfinite(found[0]) and found[1] == -np.inf and np.isnan(found[2])


def test_infinity_under_heavy_tails():
    base = distributions.student_t((2,))
    found = base.log_prob([[0.0, 0.0], [np.inf, 0.0], [np.nan, 0.0]])
    assert np.isfinite(found[0]) and found[1] == -np.inf and np.isnan(found[2])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("radial", {}),
        ("nice", {"width": 8}),
        ("real_nvp", {"width": 8, "num_classes": 3}),
        ("maf", {"width": 8, "bounds": (18, 90)}),
    ],
)
def test_data_so_far_out_that_numbers_overflow(name, options):
    """Their density is 0, where differences of infinities were NaN."""
    flow = getattr(flows, name)((2,), layers=2, normalize=False, seed=0, **options)
    perturb(flow, 0.1)
    x = tf.constant([[1e30, 0], [3e38, 1], [-np.inf, 2], [1, np.inf], [20, 30]])
    x = tf.concat([x, [[np.nan, np.inf]]], 0)
    given = {"context": [0, 1, 2, 0, 1, 2]} if "num_classes" in options else {}
    for log_prob in (flow.log_prob, tf.function(flow.log_prob)):
        found = log_prob(x, **given).numpy()
        assert not np.isnan(found[:5]).any()
        assert (found[1:4] < -1e30).all()
        assert np.isfinite(found[4])
        # What is no number is none, and what no density knows how to answer.
        assert np.isnan(found[5])
    if given:
        wrong = tf.function(flow.log_prob)(x[:1], context=tf.constant([7]))
        assert np.isnan(wrong).all()
