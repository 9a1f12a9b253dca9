"""What is handed to a flow, and seeds of every kind."""

from __future__ import annotations

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain, make_flow
from tests.support import normal
from tfp_flows import Flow, bijectors, distributions, flows
from tfp_flows.training import initialize


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f: f.log_prob(None), ValueError, "value must be a tensor.*None"),
        (lambda f: f.encode(None), ValueError, "x must be a tensor.*None"),
        (lambda f: f.decode(None), ValueError, "z must be a tensor.*None"),
        (lambda f: f.log_prob(1j * np.ones(4)), TypeError, "real.*complex128"),
        (lambda f: f.log_prob([1j, 1, 1, 1]), TypeError, "real.*complex128"),
        (lambda f: f.log_prob(tf.ones(4, tf.complex64)), TypeError, "real.*complex64"),
        (lambda f: f.encode(1j * np.ones(4)), TypeError, "real.*complex128"),
        (lambda f: f.log_prob(["a"] * 4), TypeError, "real numbers"),
        (lambda f: f.log_prob("abc"), TypeError, "real numbers"),
        (lambda f: f.sample(2.7), TypeError, "sample_shape must be an integer.*2.7"),
        (lambda f: f.sample((2, 2.7)), TypeError, "sample_shape.*2.7"),
        (lambda f: f.sample(-1), ValueError, "sample_shape must be at least 0.*-1"),
        (lambda f: f.sample((2, -1)), ValueError, "sample_shape.*-1"),
        (lambda f: f.sample("3"), TypeError, "sample_shape.*'3'"),
        (lambda f: f.sample(None), TypeError, "sample_shape.*None"),
        (lambda f: f.sample(tf.constant(2.0)), TypeError, "sample_shape.*float32"),
        (lambda f: f.sample(tf.constant(-2)), ValueError, "sample_shape.*-2"),
        (lambda f: f.sample_and_log_prob(-1), ValueError, "sample_shape.*-1"),
        (lambda f: f.sample(2, seed="a"), TypeError, "seed must be.*'a'"),
        (lambda f: f.sample(2, seed=1.5), TypeError, "seed must be.*1.5"),
        (lambda f: f.sample(2, seed=[1, 2, 3]), TypeError, r"seed must be.*\[1, 2, 3"),
        (lambda f: f.sample(2, temperature=-0.1), ValueError, "temperature.*-0.1"),
        (lambda f: f.sample(2, temperature=np.nan), ValueError, "temperature.*nan"),
        (lambda f: f.sample(2, temperature="warm"), TypeError, "temperature.*warm"),
        (
            lambda f: f.log_prob(np.ones(4), bijector_kwargs={"context": 1}),
            TypeError,
            r"bijector_kwargs.*log_prob\(x, context=c\)",
        ),
        (
            lambda f: f.sample(2, distribution_kwargs={}),
            TypeError,
            r"distribution_kwargs.*known.*log_prob\(x, context=c\)",
        ),
    ],
)
def test_errors(flow, call, error, match):
    with pytest.raises(error, match=match):
        call(flow)


def test_what_is_allowed(flow):
    x = np.arange(8).reshape(2, 4)
    expected = flow.log_prob(x.astype("float32"))
    for same in (x, x.tolist(), x.astype("float64"), x.astype("uint8")):
        np.testing.assert_array_equal(flow.log_prob(same), expected)
    rows = [tf.constant(row, tf.float32) for row in x.tolist()]
    np.testing.assert_array_equal(flow.log_prob(rows), expected)
    compiled = tf.function(lambda a, b: flow.log_prob([a, b]))
    np.testing.assert_allclose(compiled(*rows), expected, 1e-5)
    for shape in (2, np.int64(2), np.array(2), 2.0, [2], tf.TensorShape([2])):
        assert flow.sample(shape).shape == (2, 4)
    n = tf.function(lambda n: flow.sample((n, 3)))(tf.constant(2))
    assert n.shape == (2, 3, 4)
    assert flow.sample(2, temperature=0).shape == (2, 4)


def test_a_temperature_that_is_known_late(flow):
    sample = tf.function(lambda t: flow.sample(2, seed=0, temperature=t))
    assert np.isfinite(sample(tf.constant(0.5))).all()
    compiled = tf.function(
        lambda t: flow.sample(2, seed=0, temperature=t), jit_compile=True
    )
    for wrong in (-1.0, np.nan):
        with pytest.raises(tf.errors.InvalidArgumentError, match="temperature must be"):
            sample(tf.constant(wrong))
        assert np.isnan(compiled(tf.constant(wrong))).all()


X = np.array([[0.5, 1.5], [2.0, 0.25]], np.float32)
LABELS = np.eye(2, dtype=np.float32)
LOST = {
    "complex": (X + 1j, TypeError, "real numbers, got dtype complex64"),
    "masked": (np.ma.masked_array(X, mask=X > 1), TypeError, "masked entries"),
    "masked_rows": (
        [np.ma.masked_array(row, mask=row > 1) for row in X],
        TypeError,
        "masked entries",
    ),
    "none": (None, ValueError, "None|context is required"),
}


@pytest.fixture(scope="module")
def ways():
    """All ways that data, and contexts, come in."""
    flow = flows.real_nvp((2,), context_shape=(2,), normalize=False, seed=0)
    plain = flows.real_nvp((2,), bounds=(0, 4), seed=0)
    integers = distributions.VariationalDequantization(plain, levels=4)
    classes = distributions.ClassConditionalNormal((2,), 2)
    resampled = distributions.ResampledBase(lambda z: z[..., :1], (2,), draws=4)
    return [
        plain.log_prob,
        plain.prob,
        plain.encode,
        plain.decode,
        plain.bits_per_dim,
        lambda x: initialize(plain, x),
        lambda x: initialize(integers, x),
        lambda x: flow.log_prob(x, context=LABELS),
        lambda c: flow.log_prob(X, context=c),
        lambda c: flow.encode(X, context=c),
        lambda c: flow.sample(2, context=c),
        lambda c: initialize(flow, X, c),
        flow.given,
        flow.given(LABELS).log_prob,
        flow.given(LABELS).prob,
        lambda x: flow.bijector.forward(x, context=LABELS),
        lambda c: flow.bijector.inverse(X, context=c),
        integers.log_prob,
        integers.prob,
        integers.dequantize,
        lambda x: classes.log_prob(x, context=LABELS),
        lambda c: classes.log_prob(X, context=c),
        lambda c: classes.sample(2, context=c),
        resampled.log_prob,
        bijectors.PLU(2).forward,
        bijectors.PLU(2).inverse,
        lambda x: bijectors.PLU(2).inverse_log_det_jacobian(x, 1),
    ]


@pytest.mark.parametrize("kind", LOST)
def test_what_would_get_lost(ways, kind):
    value, error, match = LOST[kind]
    for way in ways:
        way(X)
        with pytest.raises(error, match=match):
            way(value)


def test_sizes_of_samples_of_every_distribution():
    classes = distributions.ClassConditionalNormal((2,), 2)
    resampled = distributions.ResampledBase(lambda z: z[..., :1], (2,), draws=4)
    for wrong, error in ((-1, ValueError), (1.5, TypeError), ("3", TypeError)):
        for sample in (
            lambda n: classes.sample(n, context=LABELS),
            resampled.sample,
        ):
            with pytest.raises(error, match="sample_shape"):
                sample(wrong)


@pytest.mark.parametrize(
    "shape", [(None, 3), 3, "3", (2.5,), (0,), {"a": (None,)}, {}, {1: (2,)}]
)
def test_context_shapes_that_are_none(shape):
    with pytest.raises((TypeError, ValueError), match="context"):
        Flow(
            distributions.standard_normal((4,)),
            make_chain(context_shape=(3,)),
            context_encoder=lambda c: c,
            context_shape=shape,
        )


HUGE = int(hashlib.sha256(b"seed").hexdigest(), 16)
SEEDS = {
    "huge": HUGE,
    "entropy": np.random.SeedSequence().entropy,
    "negative": -HUGE,
    "minus_one": -1,
    "numpy": np.int64(2**40),
    "array": np.array(17),
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
def test_integers_of_any_size(seed):
    quantized = distributions.VariationalDequantization(make_flow(), None, 8)
    for made in (make_flow(), quantized, make_flow(context_shape=(2,)).given([1.0, 2])):
        first = made.sample(3, seed=seed)
        np.testing.assert_array_equal(made.sample(3, seed=seed), first)
        assert np.abs(made.sample(30, seed=seed) - made.sample(30, seed=3)).max() > 0
        x, _ = made.experimental_sample_and_log_prob(3, seed=seed)
        np.testing.assert_allclose(x, first, 1e-5)
    x = np.full((3, 4), 2.0)
    once, again = (quantized.log_prob(x, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    seed = int(seed)
    mixture = distributions.gaussian_mixture((4,), seed=seed)
    same = distributions.gaussian_mixture((4,), seed=seed)
    np.testing.assert_array_equal(mixture.log_prob(x), same.log_prob(x))
    resampled = distributions.ResampledBase(
        keras.layers.Dense(1), (4,), draws=16, seed=seed
    )
    assert np.isfinite(resampled.log_prob(x)).all()
    assert np.isfinite(resampled.normalizer(8, seed)).all()
    assert resampled.sample(2, seed=seed).shape == (2, 4)
    distributions.log_prob_and_standard_error(make_flow(), x, draws=2, seed=seed)


def test_seed_streams(flow):
    streams = [tfp.util.SeedStream(3, "salt") for _ in range(2)]
    first, again = (flow.sample(3, seed=stream) for stream in streams)
    np.testing.assert_array_equal(first, again)
    assert np.abs(flow.sample(3, seed=streams[0]) - first).max() > 1e-3


@pytest.mark.parametrize(
    "build",
    [
        lambda: distributions.gaussian_mixture((4,)),
        lambda: distributions.ClassConditionalNormal((4,), 2, spread=1.0),
        lambda: flows.nice((4,), depth=1, width=4, base="mixture"),
    ],
    ids=["mixture", "by_class", "ready"],
)
def test_the_global_seed_reaches_what_is_drawn_once(build):
    def start(seed):
        keras.utils.set_random_seed(seed)
        return [v.numpy() for v in build().trainable_variables]

    for a, b in zip(start(5), start(5), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(start(5), start(6), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in pairs)


def test_the_global_seed_reaches_samples(flow):
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        found.append([flow.sample(3), flow.sample(3)])
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-3


# Contexts of several parts.


class Both(keras.layers.Layer):
    """An embedding of a label, and a map of numbers."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(5, 2)
        self.dense = keras.layers.Dense(2)

    def call(self, parts):
        return self.embedding(parts["label"]) + self.dense(parts["image"])


def of_parts():
    return Flow(
        distributions.standard_normal((4,)),
        make_chain(context_shape=(2,)),
        context_encoder=Both(),
        context_shape={"label": (), "image": (3,)},
    )


def test_contexts_of_several_parts():
    flow = of_parts()
    flow.initialize(
        normal(5, 4, dtype="float32"),
        {"label": np.arange(5), "image": normal(5, 3, dtype="float32")},
    )
    assert flow.context_shape == {"label": (), "image": (3,)}
    assert flow.context_dtype == {"label": tf.int32, "image": tf.float32}
    encoder = flow._context_encoder.keras_layer
    assert {v.value.ref() for v in encoder.variables} <= {
        v.ref() for v in flow.trainable_variables
    }
    x, image = normal(3, 4, dtype="float32"), normal(3, 3, seed=1, dtype="float32")
    labels = tf.constant([4, 0, 2])
    plain = Flow(flow.distribution, flow.bijector)
    encoded = encoder({"label": labels, "image": image})
    expected = plain.log_prob(x, context=encoded)
    context = {"label": labels, "image": image}
    np.testing.assert_allclose(flow.log_prob(x, context=context), expected, 1e-5)
    compiled = tf.function(lambda x, c: flow.log_prob(x, context=c))
    np.testing.assert_allclose(compiled(x, context), expected, 1e-4)
    small = flow.copy(chunk_size=2)
    np.testing.assert_allclose(small.log_prob(x, context=context), expected, 1e-5)
    # Batches of parts broadcast.
    one = {"label": 2, "image": image}
    each = {"label": [2, 2, 2], "image": image}
    np.testing.assert_allclose(
        flow.log_prob(x, context=one), flow.log_prob(x, context=each), 1e-5
    )
    assert flow.sample(5, context=one).shape == (5, 3, 4)
    given = flow.given(one)
    assert given.batch_shape == (3,)
    np.testing.assert_allclose(given.log_prob(x), flow.log_prob(x, context=one), 1e-5)
    bad = {"label": labels, "image": [[1.0, 2, 3], [1, np.nan, 3], [1, 2, 3]]}
    found = flow.log_prob(x, context=bad)
    assert np.isnan(found).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("context", "match"),
    [
        (normal(3, 3, dtype="float32"), r"a dict with the parts \['image', 'label'\]"),
        ({"label": 1}, r"parts \['image', 'label'\], got \['label'\]"),
        (
            {"label": 1, "image": normal(3, 2, dtype="float32")},
            r"context\['image'\] must end in \(3,\)",
        ),
        ({"label": [1, 2], "image": normal(3, 3, dtype="float32")}, "do not broadcast"),
        (None, "context is required, a dict"),
    ],
)
def test_errors_of_parts(context, match):
    with pytest.raises(ValueError, match=match):
        of_parts().log_prob(normal(3, 4, dtype="float32"), context=context)
