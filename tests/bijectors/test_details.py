"""What is particular to single bijectors."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bijectors.cases import conv, mlp, multiscale
from tests.support import close, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks, transformers
from tfp_flows.core.event_split import AxisPartition

tfb = tfp.bijectors
tfd = tfp.distributions


# Conditioners.


class Counted:
    """A conditioner that counts its calls."""

    def __init__(self, outputs):
        self.network = mlp(outputs, "float64")
        self.calls = 0

    @property
    def variables(self):
        return self.network.variables

    def __call__(self, x):
        self.calls += 1
        return self.network(x)


@pytest.mark.parametrize("chain", [B.Chain, tfb.Chain])
def test_each_conditioner_runs_once(chain):
    counters = [Counted(4) for _ in range(3)]
    members = [
        B.AffineCoupling(
            masks.half(4) if i % 2 else ~masks.half(4), c, dtype="float64", name=f"c{i}"
        )
        for i, c in enumerate(counters)
    ]
    bijector = chain([*members, tfb.Permute([3, 1, 0, 2])])
    base = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64))
    flow = tfd.TransformedDistribution(base, bijector)
    x = normal(5, 4)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(flow.log_prob(x))
        return tape.gradient(loss, bijector.trainable_variables)

    uses = {
        "log_prob": lambda: flow.log_prob(x),
        "gradient": gradient,
        "traced": lambda: tf.function(flow.log_prob)(x),
        "xla": lambda: tf.function(flow.log_prob, jit_compile=True)(x),
        "sample": lambda: flow.sample(3),
        "sample and log_prob": lambda: flow.experimental_sample_and_log_prob(3),
        "ildj": lambda: bijector.inverse_log_det_jacobian(x, 1),
        "fldj": lambda: bijector.forward_log_det_jacobian(x, 1),
        "inverted": lambda: tfb.Invert(bijector).forward_log_det_jacobian(x, 1),
    }
    for name, use in uses.items():
        for c in counters:
            c.calls = 0
        use()
        assert [c.calls for c in counters] == [1, 1, 1], name


class Plus(B.AdditiveCoupling):
    """Adds one to what a coupling returns."""

    def _forward_and_log_det(self, x, context=None):
        y, log_det = super()._forward_and_log_det(x, context)
        return y + 1, log_det

    def _inverse_and_log_det(self, y, context=None):
        return super()._inverse_and_log_det(y - 1, context)


@pytest.mark.parametrize(
    ("mask", "size"),
    [(masks.half(5), 5), (masks.alternating(6), 6), (masks.alternating(5), 5)],
    ids=["halves", "pairs", "indices"],
)
def test_couplings_in_a_row_take_an_event_apart_once(mask, size, monkeypatch):
    def coupling(kept, kind=B.AdditiveCoupling):
        changed = int((~kept).sum())
        return kind(
            kept, lambda x: tf.reduce_sum(x, -1, True) * tf.ones([changed], x.dtype)
        )

    scale = B.ActNorm([size], dtype="float64")
    other = np.arange(size) == 0
    chain = B.Chain(
        [
            *(coupling(mask), coupling(~mask), coupling(mask)),
            scale,
            *(coupling(~mask), coupling(~mask)),
            *(coupling(mask, Plus), coupling(other)),
        ]
    )
    x = normal(4, size)
    y = x
    for b in reversed(chain.bijectors):
        y = b.forward(y)
    calls = []
    for name in ("take_apart", "put_together"):
        method = getattr(AxisPartition, name)
        monkeypatch.setattr(
            AxisPartition,
            name,
            lambda self, x, n=name, m=method: (calls.append(n), m(self, x))[1],
        )
    got, log_det = chain.forward_and_log_det(x)
    np.testing.assert_allclose(got, y, rtol=1e-12)
    np.testing.assert_allclose(log_det, np.zeros(4), atol=1e-12)
    assert calls == ["take_apart", "put_together"] * 4
    np.testing.assert_allclose(chain.inverse(y), x, rtol=1e-9, atol=1e-9)


def test_results_are_not_handed_over_between_answers():
    """The same tensor, asked for twice by TFP, is computed twice."""
    counter = Counted(4)
    bijector = B.AffineCoupling(masks.half(4), counter, dtype="float64")
    base = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64))
    flow = tfd.TransformedDistribution(base, bijector)
    x = normal(5, 4)
    counter.calls = 0
    kept = bijector.inverse(x)
    flow.log_prob(x)
    flow.log_prob(x)
    bijector.forward(kept)
    assert counter.calls == 4


def test_a_broken_answer_leaves_nothing_behind():
    counter = Counted(4)
    bijector = B.AffineCoupling(masks.half(4), counter, dtype="float64")

    class Broken(tfd.Normal):
        def _log_prob(self, x):
            raise RuntimeError("broken")

        @classmethod
        def _parameter_properties(cls, dtype, num_classes=None):
            return super()._parameter_properties(dtype, num_classes)

    zeros, one = tf.zeros(4, tf.float64), tf.ones([], tf.float64)
    x = normal(5, 4)
    broken = tfd.Independent(Broken(zeros, one), 1)
    with pytest.raises(RuntimeError, match="broken"):
        tfd.TransformedDistribution(broken, bijector).log_prob(x)
    perturb(bijector)
    flow = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(zeros), bijector)
    np.testing.assert_array_equal(flow.log_prob(x), flow.log_prob(tf.identity(x)))


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(normal(2, 4))

    def __call__(self, x):
        return x @ self.weight


def weights(seed=0):
    return keras.initializers.GlorotUniform(seed)


@pytest.mark.parametrize(
    ("conditioner", "count"),
    [
        (lambda: keras.layers.Dense(4, dtype="float64"), 2),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((2,), dtype="float64"),
                    keras.layers.Dense(4, dtype="float64"),
                ]
            ),
            2,
        ),
        (lambda: tf_keras.layers.Dense(4, dtype="float64"), 2),
        (Module, 1),
        (lambda: lambda x: tf.concat([x, tf.sin(x)], -1), 0),
    ],
    ids=["keras layer", "keras model", "tf_keras", "tf.Module", "function"],
)
def test_any_callable_is_a_conditioner(conditioner, count):
    bijector = B.AffineCoupling(masks.half(4), conditioner(), dtype="float64")
    assert len(bijector.trainable_variables) == count
    x = normal(5, 4)
    y = bijector.forward(x)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-12)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bijector.forward(x) ** 2)
    gradients = tape.gradient(loss, bijector.trainable_variables)
    assert all(g is not None for g in gradients)
    twin = copy.deepcopy(bijector)
    perturb(bijector)
    np.testing.assert_array_equal(twin.forward(x), y)


def test_unregistered_keras_layers_can_be_deep_copied():
    class Mine(keras.layers.Layer):
        def __init__(self, units=4, **kwargs):
            super().__init__(**{"dtype": "float64", **kwargs})
            self.units = units
            self.dense = keras.layers.Dense(units, dtype="float64")

        def call(self, x):
            return self.dense(x)

    bijector = B.AffineCoupling(masks.half(4), Mine(), dtype="float64")
    perturb(bijector)
    x = normal(3, 4)
    np.testing.assert_array_equal(
        copy.deepcopy(bijector).forward(x), bijector.forward(x)
    )


def test_keras_layers_without_a_configuration_cannot_be_deep_copied():
    class Mine(keras.layers.Layer):
        def __init__(self, dense):
            super().__init__()
            self.dense = dense

        def call(self, x):
            return self.dense(x)

    bijector = B.AffineCoupling(masks.half(4), Mine(keras.layers.Dense(4)))
    with pytest.raises(TypeError, match="get_config"):
        copy.deepcopy(bijector)


def test_conditioner_errors():
    with pytest.raises(
        ValueError, match=r"must return shape \[batch, 4\].*\[batch, 3\]"
    ):
        B.AffineCoupling(masks.half(4), keras.layers.Dense(3))
    with pytest.raises(TypeError, match="callable"):
        B.AffineCoupling(masks.half(4), 3.0)


def test_conditioner_sees_the_kept_half_only():
    seen = []

    def conditioner(x):
        seen.append(tuple(x.shape))
        return tf.zeros_like(x)

    bijector = B.AdditiveCoupling(masks.alternating(6), conditioner)
    bijector.forward(tf.zeros([2, 3, 6]))
    assert seen == [(1, 3), (6, 3)]


def test_masked_conditioner_sees_zeros_where_the_event_changes():
    mask = masks.checkerboard(2, 2)
    bijector = B.AdditiveCoupling(
        mask, lambda x: tf.reduce_sum(x, [1, 2], keepdims=True) * tf.ones_like(x)
    )
    x = tf.reshape(tf.range(1.0, 5.0), [2, 2, 1])
    # Kept are 1 and 4; 2 and 3 move by their sum.
    np.testing.assert_array_equal(tf.reshape(bijector.forward(x), [-1]), [1, 7, 8, 4])


def test_mixed_precision_stays_in_the_conditioner():
    network = networks.MLP(4, (8,), seed=0, dtype="mixed_bfloat16")
    bijector = B.AffineCoupling(masks.half(4), network)
    perturb(bijector)
    x = normal(5, 4, dtype="float32")
    y, fldj = bijector.forward_and_log_det(x)
    assert y.dtype == fldj.dtype == tf.float32
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, atol=1e-5)


# Masks.


def test_masks():
    np.testing.assert_array_equal(masks.half(5), [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(masks.alternating(5), [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(
        masks.checkerboard(2, 3)[..., 0], [[1, 0, 1], [0, 1, 0]]
    )
    np.testing.assert_array_equal(masks.channel(3), [[[1, 1, 0]]])
    np.testing.assert_array_equal(masks.copy_channel(3, 1), [[[0, 1, 0]]])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: masks.half(1),
        lambda: masks.alternating(1),
        lambda: masks.channel(1),
        lambda: masks.checkerboard(1, 1),
        lambda: masks.copy_channel(3, 3),
    ],
)
def test_mask_errors(bad):
    with pytest.raises(ValueError, match="must be"):
        bad()


@pytest.mark.parametrize(
    ("mask", "event_shape", "error", "match"),
    [
        (np.ones(4, bool), None, ValueError, "all True"),
        (np.zeros(4, bool), None, ValueError, "all False"),
        (np.ones(1, bool), None, ValueError, "two features"),
        (np.array([1, 0]), None, TypeError, "boolean"),
        (np.array([True, False]), (3,), ValueError, "broadcast"),
        (np.array([True, False]), (2, 2), ValueError, "rank"),
        (np.array(True), None, ValueError, "rank"),
    ],
)
def test_coupling_mask_errors(mask, event_shape, error, match):
    with pytest.raises(error, match=match):
        B.AdditiveCoupling(mask, lambda x: x, event_shape=event_shape)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_couplings_over_drawn_masks(data):
    """Any mask, any event rank, any batch: kept stays, the rest round-trips."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    size = int(np.prod(shape))
    if size < 2:
        return
    bits = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    mask = np.array(bits).reshape(shape)
    if mask.all() or not mask.any():
        mask.flat[0] = not mask.flat[0]
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    batch = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
    count = data.draw(st.sampled_from([1, 2]))

    def conditioner(x):
        total = tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))
        total = tf.reshape(tf.sin(total), [-1] + [1] * len(out_shape))
        return total * tf.ones(out_shape, x.dtype)

    from tfp_flows.core.event_split import partition

    *leading, last = partition(mask, shape).changed_shape
    out_shape = (*leading, count * last)
    transformer = transformers.Shift() if count == 1 else transformers.Affine("exp")
    bijector = B.Coupling(mask, conditioner, transformer, dtype=dtype)
    x = normal(*batch, *shape, dtype=dtype)
    y, fldj = bijector.forward_and_log_det(x)
    kept = np.broadcast_to(mask, x.shape)
    np.testing.assert_array_equal(y.numpy()[kept], x.numpy()[kept])
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    back, ildj = bijector.inverse_and_log_det(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=tolerance)
    np.testing.assert_allclose(fldj, -ildj, atol=20 * tolerance)
    assert fldj.shape == batch and fldj.dtype == dtype
    if count == 2 and size and 0 not in batch:
        changed = (~mask).sum()
        total = np.where(kept, x, 0).reshape(*batch, -1).sum(-1)
        np.testing.assert_allclose(fldj, changed * np.sin(total), atol=20 * tolerance)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 7),
    axis=st.integers(-3, -1),
    seed=st.integers(0, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_permutations_over_drawn_shapes(size, axis, seed, dtype):
    shape = [2, 3, 4, 5]
    shape[axis] = size
    x = normal(*shape, dtype=dtype)
    bijector = B.Permutation("random", size, axis=axis, seed=seed)
    y = bijector.forward(x)
    np.testing.assert_array_equal(y, np.take(x, bijector.permutation, axis=axis))
    np.testing.assert_array_equal(bijector.inverse(tf.identity(y)), x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(bijector.forward(x) * y)
    np.testing.assert_array_equal(tape.gradient(loss, x), x)


@settings(max_examples=30, deadline=None)
@given(
    factor=st.integers(2, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_squeeze_over_drawn_shapes(factor, height, width, channels):
    x = normal(2, factor * height, factor * width, channels)
    squeeze = B.Squeeze(factor)
    y = squeeze.forward(x)
    assert y.shape == (2, height, width, factor**2 * channels)
    np.testing.assert_array_equal(squeeze.inverse(tf.identity(y)), x)
    np.testing.assert_array_equal(y[0, 0, 0], tf.reshape(x[0, :factor, :factor], [-1]))


# Single bijectors.


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (lambda: B.Permutation([0, 0, 1]), "once"),
        (lambda: B.Permutation("random"), "size is required"),
        (lambda: B.Permutation("shuffled", 3), "reverse"),
        (lambda: B.Permutation([1, 0], size=3), "entries"),
        (lambda: B.Permutation([1, 0], axis=1), "negative"),
        (lambda: B.Squeeze(1), "factor"),
        (lambda: B.Squeeze(2).forward(tf.zeros([3, 4, 1])), "height must be divisible"),
        (lambda: B.Squeeze(2).forward(tf.zeros([4, 5, 1])), "width must be divisible"),
        (lambda: B.Squeeze(2).inverse(tf.zeros([4, 4, 6])), "channels must be"),
        (lambda: B.Logit(0.5), "logit_margin must be above 0 and below 0.5, got 0.5"),
        (lambda: B.Logit(0.1, 1.0, 0.0), "low"),
        (lambda: B.Scaling(), "event_shape or log_scale"),
        (
            lambda: B.Scaling([3], learning_rate_multiplier=0.0),
            "multiplier must be above 0",
        ),
        (lambda: B.BatchNorm([3], momentum=1.0), "momentum"),
        (lambda: B.InvertibleConv1x1([3]), "H, W, C"),
        (lambda: B.InvertibleConv1x1([1, 1, 3], "svd"), "parametrization"),
        (lambda: B.InvertibleConv1x1([1, 1, 2], initial=np.ones((2, 2))), "invertible"),
        (lambda: B.InvertibleConv1x1([1, 1, 2], initial=np.eye(3)), "shape"),
        (lambda: B.MultiScale([], (4, 4, 1)), "levels"),
        (
            lambda: B.MultiScale([B.Permutation([0]), B.Squeeze(2)], (4, 4, 1)),
            "one channel",
        ),
        (lambda: B.Chain([B.ActNorm([3]), B.ActNorm([4])]), "does not take"),
        (lambda: B.Chain([B.ActNorm([3]), B.ActNorm([3], dtype="float64")]), "dtype"),
        (
            lambda: B.ActNorm([2]).initialize(tf.zeros([0, 2])),
            "empty batch",
        ),
    ],
)
def test_value_errors(bad, match):
    with pytest.raises(ValueError, match=match):
        bad()


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (lambda: B.InvertibleConv1x1(4), "event_shape must be a sequence.* got 4"),
        (lambda: B.InvertibleConv1x1([4, 4, None]), r"event_shape\[2\] .* got None"),
        (lambda: B.MultiScale([B.Squeeze(2)], 4), "event_shape must be a sequence"),
        (lambda: B.MultiScale(4, (4, 4, 1)), "levels must be a list.* got 4"),
        (lambda: B.MultiScale(B.Squeeze(2), (4, 4, 1)), "levels must be a list"),
        (lambda: B.Elementwise(transformers.Affine(), 2), "event_shape must be a seq"),
        (
            lambda: B.Elementwise(transformers.Shift(), (2,), lambda c: c, (None,)),
            r"context_shape\[0\] must be an integer",
        ),
        (lambda: B.PLU("a"), "size must be an integer, got 'a'"),
        (lambda: B.PLU([2.5]), r"size\[0\] must be an integer, got 2.5"),
        (lambda: B.PLU(True), "size must be an integer, got True"),
        (lambda: B.QR("a"), "size must be an integer, got 'a'"),
        (
            lambda: B.AffineCoupling(
                masks.half(4), networks.MLP(4), context_shape=(None, 3)
            ),
            r"context_shape\[0\] must be an integer, got None",
        ),
        (
            lambda: B.Coupling(masks.half(4), networks.MLP(2), transformers.Shift(), 4),
            "event_shape must be a sequence",
        ),
        (
            lambda: B.Planar(3, conditioner=lambda c: c, context_shape=(None,)),
            r"context_shape\[0\] must be an integer",
        ),
        (
            lambda: B.MaskedAutoregressive(networks.MLP(4), event_size="a"),
            "event_size must be",
        ),
    ],
)
def test_type_errors(bad, match):
    with pytest.raises(TypeError, match=match):
        bad()


@pytest.mark.parametrize(
    ("bijector", "rises"),
    [
        (B.Chain([B.Logit(), tfb.Scale(2.0)]), True),
        (B.Chain([B.Logit(), tfb.Shift(0.5), tfb.Scale(-2.0)]), False),
        (B.Chain([tfb.Scale(-1.0), B.Logit(), tfb.Scale(-2.0)]), True),
        (B.Chain([tfb.Chain([tfb.Scale(-3.0), tfb.Exp()]), tfb.Scale(0.5)]), False),
        (B.Chain([tfb.Invert(B.Logit(0.1, -9.0, 9.0)), tfb.Scale(-1.0)]), False),
        (B.Repeat(lambda: tfb.Scale(-2.0), 2), True),
        (B.Chain([]), True),
    ],
)
def test_quantiles_of_compositions(bijector, rises):
    distribution = tfd.TransformedDistribution(tfd.Normal(0.3, 1.0), bijector)
    quantile = distribution.quantile(0.3)
    at = tfd.Normal(0.3, 1.0).quantile(0.3 if rises else 0.7)
    np.testing.assert_allclose(quantile, bijector.forward(at), rtol=1e-5)
    np.testing.assert_allclose(distribution.cdf(quantile), 0.3, rtol=1e-5)
    traced = tf.function(distribution.survival_function)(quantile)
    np.testing.assert_allclose(traced, 0.7, rtol=1e-5)


@pytest.mark.parametrize(
    "bijector",
    [
        B.Elementwise(transformers.Affine("exp"), (2,), dtype="float64"),
        B.ActNorm([2], dtype="float64"),
        B.BatchNorm([2], dtype="float64"),
        B.Standardize([2], dtype="float64"),
        tfb.Invert(B.ActNorm([2], dtype="float64")),
        *(
            cls(
                networks.MADE(1, 8, hidden=(4,), dtype="float64"),
                transformers.RationalQuadratic(3),
                dtype="float64",
            )
            for cls in (B.MaskedAutoregressive, B.InverseAutoregressive)
        ),
    ],
    ids=lambda b: b.name,
)
def test_quantiles_of_single_entries(bijector):
    perturb(bijector, 1.0)
    size = bijector.forward_event_shape([None])[0]
    base = tfd.Normal(tf.zeros([size or 2], "float64"), 1.0)
    distribution = tfd.TransformedDistribution(base, B.Chain([bijector]))
    shares = [0.3, 0.6][: len(base.loc)]
    np.testing.assert_allclose(
        distribution.quantile(shares), bijector.forward(base.quantile(shares))
    )
    np.testing.assert_allclose(distribution.cdf(distribution.quantile(shares)), shares)


@pytest.mark.parametrize(
    "unknown",
    [
        B.Elementwise(transformers.RationalQuadratic(circular=True), (2,)),
        B.Permutation([1, 0]),
        B.MaskedAutoregressive(networks.MADE(2, 2)),
        B.MaskedAutoregressive(
            networks.MADE(1, 7), transformers.RationalQuadratic(2, circular=True)
        ),
        tfb.CorrelationCholesky(),
    ],
)
def test_what_may_fall_has_no_quantile(unknown):
    with pytest.raises(NotImplementedError, match="nobody knows whether it rises"):
        B.Chain([tfb.Scale(2.0), unknown])._internal_is_increasing()


def test_constant_jacobians_are_declared():
    shift, affine = transformers.Shift(), transformers.Affine()
    spline, made = transformers.RationalQuadratic(), networks.MADE(3, 1)
    for bijector, expected in (
        (B.MaskedAutoregressive(made, shift), True),
        (B.InverseAutoregressive(made, transformers.Inverted(shift)), True),
        (B.MaskedAutoregressive(networks.MADE(3, 2), affine), False),
        (B.Elementwise(shift, (3,), networks.MLP(3), (2,)), True),
        (B.Elementwise(affine, (3,)), True),
        (B.Elementwise(transformers.Inverted(affine), (3,)), True),
        (B.Elementwise(affine, (3,), networks.MLP(6), (2,)), False),
        (B.Elementwise(spline, (3,)), False),
    ):
        assert bijector.is_constant_jacobian == expected, bijector


def test_chain_refuses_what_is_no_bijector():
    with pytest.raises(TypeError, match=r"bijectors\[1\]"):
        B.Chain([B.ActNorm([3]), keras.layers.Dense(3)])


def test_chain_order_is_tfps():
    one, two = tfb.Scale(2.0), tfb.Shift(1.0)
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(
        B.Chain([one, two]).forward(x), tfb.Chain([one, two]).forward(x)
    )
    np.testing.assert_array_equal(B.Chain([one, two]).forward(x), 2 * (x + 1))


def test_empty_chain_is_the_identity():
    x = normal(3, 2)
    y, fldj = B.Chain([]).forward_and_log_det(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(fldj, np.zeros((3, 2)))


def test_context_reaches_members_of_tfps_compositions():
    coupling = B.AdditiveCoupling(
        masks.half(2), lambda x, c: x + c, context_shape=(1,), name="mine"
    )
    nested = B.Chain([tfb.Chain([tfb.Invert(coupling), tfb.Shift(1.0)]), coupling])
    assert nested.context_shape == (1,)
    x, c = tf.constant([[1.0, 2.0]]), tf.constant([[10.0]])
    # + (1 + 10), shift by 1, - (2 + 10).
    np.testing.assert_allclose(nested.forward(x, context=c), [[2.0, 2.0]])
    np.testing.assert_allclose(nested.inverse([[2.0, 2.0]], context=c), x)
    # TFP's own way to pass a keyword through its Chain.
    chain = tfb.Chain([coupling])
    np.testing.assert_allclose(chain.forward(x, mine={"context": c}), [[1.0, 13.0]])


def test_actnorms_do_not_enlarge_what_is_constant():
    chain = B.Chain([B.ActNorm([2], dtype="float64") for _ in range(3)])
    y = normal(50, 2) * 4.0 * [1.0, 0.0] + [0.0, 7.0]
    x = chain.initialize(y)
    close(np.std(x, 0), [1.0, 0.0], 1e-6)
    close(chain.inverse(y + tf.constant([0.0, 0.5], "float64"))[:, 1], 0.5, 1e-6)


def test_scalings_do_not_enlarge_what_is_constant():
    scaling = B.Scaling([2], data_dependent=True, dtype="float64")
    scaling.initialize(normal(50, 2) * [4.0, 0.0] + [0.0, 7.0])
    assert abs(scaling.log_scale[0] - np.log(4.0)) < 0.5
    assert scaling.log_scale[1] == 0


def test_actnorm_is_initialised_once():
    actnorm = B.ActNorm([2, 2, 3])
    batch = 5 + 3 * normal(50, 2, 2, 3, dtype="float32")
    z = actnorm.initialize(batch)
    np.testing.assert_allclose(np.mean(z, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(z, (0, 1, 2)), 1, atol=1e-4)
    assert bool(actnorm.initialized)
    before = actnorm.shift.numpy()
    actnorm.initialize(batch + 7)
    np.testing.assert_array_equal(actnorm.shift, before)


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_scaling_from_data_is_initialised_once(factor):
    scaling = B.Scaling([3], data_dependent=True, learning_rate_multiplier=factor)
    assert scaling.needs_initialization and not B.Scaling([3]).needs_initialization
    batch = tf.constant([0.1, 1.0, 20.0]) * normal(500, 3, dtype="float32")
    z = scaling.initialize(batch)
    np.testing.assert_allclose(np.std(z, 0), 1, atol=1e-3)
    assert not scaling.needs_initialization
    before = scaling.log_scale.numpy()
    scaling.initialize(2 * batch)
    np.testing.assert_array_equal(scaling.log_scale, before)
    (variable,) = scaling.trainable_variables
    np.testing.assert_allclose(scaling.log_scale, factor * variable, rtol=1e-6)


def test_initialisation_walks_through_chains_and_levels():
    bijector = multiscale("float64")
    y = 4 + 2 * normal(200, 4, 4, 2)
    z = bijector.initialize(y)
    np.testing.assert_allclose(bijector.inverse(y), z, atol=1e-12)
    norms = [m for m in bijector.submodules if isinstance(m, B.ActNorm)]
    assert len(norms) == 2 and all(bool(m.initialized) for m in norms)
    wrapped = tfb.Chain([B.ActNorm([3], dtype="float64")])
    B.Chain([wrapped]).initialize(normal(9, 3))
    assert bool(wrapped.bijectors[0].initialized)


def test_sampling_does_not_initialise():
    actnorm = B.ActNorm([3])
    actnorm.forward(tf.ones([4, 3]))
    assert not bool(actnorm.initialized)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_batch_norm_in_both_modes(shape):
    norm = B.BatchNorm(shape, momentum=0.9, dtype="float64")
    perturb(norm)
    y = 3 + 2 * normal(20, *shape)
    axes = tuple(range(len(shape)))
    mean, variance = np.mean(y, axes), np.var(y, axes)
    x, ildj = norm.inverse_and_log_det(y, training=True)
    log_scale, shift = norm._log_scale.numpy(), norm._shift.numpy()
    expected = (y - mean) / np.sqrt(variance + 1e-5) * np.exp(log_scale) + shift
    np.testing.assert_allclose(x, expected, atol=1e-10)
    positions = int(np.prod(shape[:-1]))
    log_det = positions * np.sum(log_scale - 0.5 * np.log(variance + 1e-5))
    np.testing.assert_allclose(ildj, [log_det] * 20)
    np.testing.assert_allclose(norm.moving_mean, mean)
    np.testing.assert_allclose(norm.moving_variance, variance)
    with pytest.raises(ValueError, match=r"forward has no training mode.*averages"):
        norm.forward(x, training=True)
    moved = norm.moving_mean.numpy()
    x, ildj = norm.inverse_and_log_det(y)
    np.testing.assert_array_equal(norm.moving_mean, moved)
    back, fldj = norm.forward_and_log_det(tf.identity(x))
    np.testing.assert_allclose(back, y, atol=1e-10)
    np.testing.assert_allclose(fldj, -ildj)


def test_averages_of_batch_norm():
    """Means of all batches so far, while these are few; then they fade."""
    norm = B.BatchNorm([2], momentum=0.75, dtype="float64")
    mean, variance = 0.0, 1.0
    for share in (1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4):
        y = normal(20, 2, seed=round(99 * share))
        norm.inverse(y, training=True)
        mean += share * (np.mean(y, 0) - mean)
        variance += share * (np.var(y, 0) - variance)
        np.testing.assert_allclose(norm.moving_mean, mean)
        np.testing.assert_allclose(norm.moving_variance, variance)


def test_batch_norm_gradients_flow_through_the_statistics():
    norm = B.BatchNorm([2], dtype="float64")
    y = normal(6, 2)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x, _ = norm.inverse_and_log_det(y, training=True)
        loss = tf.reduce_sum(x**2)
    # Normalised squares sum to a constant but for epsilon (1e-5); with the statistics
    # held fixed the gradient would be of the order of one.
    assert np.abs(tape.gradient(loss, y)).max() < 1e-3


def test_training_reaches_batch_norm_through_a_chain():
    norm = B.BatchNorm([2])
    chain = B.Chain([B.ActNorm([2]), norm, tfb.Scale(2.0)])
    assert chain.keywords == {"training"}
    chain.inverse(normal(8, 2, dtype="float32") + 4, training=True)
    assert np.abs(norm.moving_mean).max() > 0
    with pytest.raises(TypeError, match="training"):
        B.ActNorm([2]).inverse(tf.zeros([1, 2]), training=True)


def test_multiscale_splits_noise_by_level():
    bijector = multiscale("float64")
    assert bijector.part_shapes == [(2, 2, 4), (1, 1, 16)]
    y = normal(3, 4, 4, 2)
    z = bijector.inverse(y)
    parts = bijector.split_noise(z)
    assert [tuple(p.shape) for p in parts] == [(3, 2, 2, 4), (3, 1, 1, 16)]
    np.testing.assert_array_equal(bijector.join_noise(parts), z)


def test_multiscale_priors_standardise():
    """With a prior of mean 2 and log-scale 0.5 what leaves is (z - 2) exp(-0.5)."""
    constant = tf.concat([tf.fill([8], 2.0), tf.fill([8], 0.5)], 0)
    level = tfb.Invert(B.Squeeze(2))

    def prior(h):
        return tf.broadcast_to(constant[::2], (*h.shape[:-1], 8))

    plain = B.MultiScale([level, level], (4, 4, 2))
    with_prior = B.MultiScale([level, level], (4, 4, 2), [prior])
    y = normal(3, 4, 4, 2, dtype="float32")
    z, ildj = plain.inverse_and_log_det(y)
    e, ildj_prior = with_prior.inverse_and_log_det(y)
    np.testing.assert_allclose(e[:, :16], (z[:, :16] - 2) * np.exp(-0.5), rtol=1e-5)
    np.testing.assert_array_equal(e[:, 16:], z[:, 16:])
    np.testing.assert_allclose(ildj_prior - ildj, [-8.0] * 3, rtol=1e-6)


def test_new_couplings_are_the_identity():
    x = normal(3, 2, 2, 4, dtype="float32")
    for scale in ("exp", "tanh"):
        coupling = B.AffineCoupling(
            masks.channel(4), conv(4, "float32"), scale, event_shape=(2, 2, 4)
        )
        np.testing.assert_array_equal(coupling.forward(x), x)


def test_sigmoid_scale_is_glows():
    coupling = B.AffineCoupling(
        masks.half(2), lambda x: tf.zeros([x.shape[0], 2], x.dtype), "sigmoid"
    )
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(coupling.inverse([[1.0, 1.0]]), [[1.0, sigmoid]])
    np.testing.assert_allclose(
        coupling.inverse_log_det_jacobian([[1.0, 1.0]]), [np.log(sigmoid)], rtol=1e-6
    )


def test_a_given_log_scale_decides_the_dtype():
    for log_scale, expected in (
        (np.array([0.5, 1.0]), "float64"),
        (np.array([0.5, 1.0], "float32"), "float32"),
        (np.array([0, 1]), "float32"),
        ([0.5, 1.0], "float32"),
        (tf.constant([0.5, 1.0], tf.float64), "float64"),
    ):
        assert B.Scaling(log_scale=log_scale).dtype == expected
    assert B.Scaling(log_scale=[0.5, 1.0], dtype="float64").dtype == "float64"
    with pytest.raises(TypeError, match="log_scale has dtype float32, but dtype is f"):
        B.Scaling(log_scale=tf.zeros([2]), dtype="float64")


def test_hash_and_equality_are_by_identity():
    one, two = B.Scaling([3]), B.Scaling([3])
    assert one == one and one != two
    assert {one: 1}[one] == 1 and two not in {one: 1}
