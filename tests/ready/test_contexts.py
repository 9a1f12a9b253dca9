"""What contexts go through on their way to the networks."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import Flow, FlowModel, flows, training
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.flows import NormalizedContext, OneHot

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

initializes = pytest.mark.skipif(
    not hasattr(Flow, "initialize"), reason="Flow does not initialise encoders"
)


def flow_of(**options):
    options = {"layers": 2, "width": 8, "seed": 0, "context_shape": (2,), **options}
    return flows.real_nvp((3,), **options)


def contexts(n=200):
    return np.random.default_rng(1).standard_normal((n, 2)) * [1e6, 1e-3] + [3e6, 0.0]


def encoder_of(flow):
    encoder = flow._context_encoder
    return encoder.function if isinstance(encoder, Conditioner) else encoder


def test_numbers_are_normalised_and_labels_are_not():
    assert isinstance(encoder_of(flow_of()), NormalizedContext)
    assert encoder_of(flow_of(normalize_context=False)) is None
    labels = flow_of(context_shape=None, num_classes=3)
    assert isinstance(encoder_of(labels), OneHot)
    embedded = flow_of(context_shape=(), context_encoder=keras.layers.Embedding(3, 2))
    assert embedded._context_encoder.keras_layer is not None
    assert not isinstance(encoder_of(embedded), NormalizedContext)
    own = flow_of(context_encoder=keras.layers.Dense(4))
    assert not isinstance(encoder_of(own), NormalizedContext)
    asked = flow_of(context_encoder=keras.layers.Dense(4), normalize_context=True)
    assert isinstance(encoder_of(asked), NormalizedContext)
    assert encoder_of(asked).encoder.keras_layer is not None


@pytest.mark.parametrize("encoder", [None, 5])
def test_density_does_not_depend_on_the_units_of_a_context(encoder):
    def make():
        if encoder is None:
            return flow_of()
        dense = keras.layers.Dense(encoder, kernel_initializer="ones")
        return flow_of(context_encoder=dense, normalize_context=True)

    flow, other = make(), make()
    c = contexts().astype("float32")
    perturb(flow, 0.3), perturb(other, 0.3)
    encoder_of(flow).initialize(c)
    assert not encoder_of(flow).needs_initialization
    z = (c - c.mean(0, dtype="float64")) / c.std(0, dtype="float64")
    z = z.astype("float32")
    x = np.ones([200, 3], "float32")
    assert encoder_of(other).needs_initialization
    np.testing.assert_allclose(
        flow.log_prob(x, context=c), other.log_prob(x, context=z), rtol=1e-3, atol=1e-3
    )


def test_images_by_channel_and_integers():
    flow = flows.real_nvp(
        (4, 4, 2), context_shape=(4, 4, 2), levels=1, layers=1, width=4, depth=1
    )
    c = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 2), dtype=np.uint8)
    encoder_of(flow).initialize(c)
    scale = encoder_of(flow).standardize.scale
    np.testing.assert_allclose(scale, c.std((0, 1, 2)), rtol=1e-5)


def test_a_deep_copy_is_another_with_the_same_numbers():
    encoder = keras.layers.Dense(4)
    flow = flow_of(context_encoder=encoder, normalize_context=True)
    encoder_of(flow).initialize(contexts())
    x, c = np.ones([5, 3], "float32"), contexts(5).astype("float32")
    perturb(flow)
    deep = copy.deepcopy(flow)
    np.testing.assert_array_equal(
        deep.log_prob(x, context=c), flow.log_prob(x, context=c)
    )
    assert not {v.ref() for v in deep.variables} & {v.ref() for v in flow.variables}
    assert len(deep.variables) == len(flow.variables)


@initializes
def test_fit_takes_contexts_in_any_units(tmp_path):
    draw = np.random.default_rng(0)
    c = contexts(640).astype("float32")
    z = (c - c.mean(0)) / c.std(0)
    x = (z @ draw.standard_normal((2, 3)) + 0.1 * draw.standard_normal((640, 3))) * 1e4
    x = x.astype("float32")
    model = FlowModel(flow_of())
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(x, c, epochs=8, verbose=0).history["nll"]
    # Without the context: a Gaussian of the three columns.
    entropy = 0.5 * np.linalg.slogdet(np.cov(x.T))[1] + 1.5 * np.log(2 * np.pi * np.e)
    assert np.isfinite(history).all()
    assert history[-1] < entropy - 0.3
    assert not training.needs_initialization(model.flow)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").flow
    np.testing.assert_array_equal(
        loaded.log_prob(x, context=c), model.flow.log_prob(x, context=c)
    )


def test_labels_out_of_range():
    one_hot = OneHot(3, tf.float32)
    np.testing.assert_array_equal(one_hot(tf.constant([2, 0])), [[0, 0, 1], [1, 0, 0]])
    for labels, words in (([0, 3], r"\[0, 3\), got 3"), ([0.5], "integer labels")):
        with pytest.raises(ValueError, match=words):
            one_hot(tf.constant(labels))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def compiled(labels):
        return one_hot(labels)

    found = compiled(tf.constant([1, 3, -1])).numpy()
    np.testing.assert_array_equal(found[0], [0, 1, 0])
    assert np.isnan(found[1:]).all()


IMAGE_FLOWS = {
    "glow": {"levels": 2, "steps": 1, "width": 4},
    "real_nvp": {"levels": 2, "width": 4, "depth": 1},
    "flow_plus_plus": {"layers": 1, "width": 4, "depth": 1, "heads": 2},
    "residual_flow": {"layers": 1, "width": 4},
}


@pytest.mark.parametrize("name", IMAGE_FLOWS)
@pytest.mark.parametrize("sides", [(8, 8), (4, 2)])
def test_an_image_is_the_context_of_all_levels(name, sides):
    """Each level sees it on its own grid: every pixel of it has an effect."""
    build = getattr(flows, name)
    flow = build((8, 8, 1), context_shape=(*sides, 2), seed=0, **IMAGE_FLOWS[name])
    perturb(flow, 0.1)
    draw = np.random.default_rng(0)
    x = tf.constant(draw.normal(size=(2, 8, 8, 1)), tf.float32)
    context = tf.constant(draw.normal(size=(2, *sides, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(context)
        total = tf.reduce_sum(flow.log_prob(x, context=context))
    assert np.abs(tape.gradient(total, context)).min() > 0
    z = flow.encode(x, context=context)
    np.testing.assert_allclose(flow.decode(z, context=context), x, atol=1e-3)
    assert flow.sample(3, seed=0, context=context).shape == (3, 2, 8, 8, 1)
    with pytest.raises(ValueError, match="sides of a context must be multiples"):
        build((8, 8, 1), context_shape=(3, 8, 2), **IMAGE_FLOWS[name])


@pytest.mark.parametrize("name", ["nice", "maf", "tarflow"])
def test_an_image_for_networks_of_vectors_needs_an_encoder(name):
    build = getattr(flows, name)
    with pytest.raises(ValueError, match="context_encoder of a ready flow makes"):
        build((8, 8, 1), context_shape=(8, 8, 1))
