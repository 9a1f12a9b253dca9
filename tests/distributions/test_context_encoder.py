"""A flow with an encoder in front of its context."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distributions.support import make_chain
from tests.support import fast_and_slow, normal, perturb
from tfp_flows import Flow, FlowModel, distributions


def image_encoder(outputs=2):
    return keras.Sequential(
        [
            keras.layers.Conv2D(3, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(outputs),
        ]
    )


class Linear(tf.Module):
    def __init__(self):
        super().__init__()
        self.matrix = tf.Variable(normal(16, 2, seed=5, dtype="float32"))

    def __call__(self, x):
        return tf.reshape(x, [-1, 16]) @ self.matrix


ENCODERS = {"keras": image_encoder, "module": Linear}
every = pytest.mark.parametrize("build", ENCODERS.values(), ids=ENCODERS)


def encoded(encoder, dtype="float32"):
    base = distributions.standard_normal((4,), dtype)
    chain = make_chain(dtype, (2,))
    perturb(chain, 0.3)
    return Flow(base, chain, context_encoder=encoder, context_shape=(4, 4, 1))


@every
def test_is_the_flow_of_the_encoded_context(build):
    encoder = build()
    flow = encoded(encoder)
    assert flow.context_shape == (4, 4, 1)
    assert flow.context_dtype == tf.float32
    plain = Flow(flow.distribution, flow.bijector)
    x, context = normal(3, 4, dtype="float32"), normal(3, 4, 4, 1, dtype="float32")
    expected = plain.log_prob(x, context=encoder(context))
    np.testing.assert_allclose(flow.log_prob(x, context=context), expected, 1e-6)
    # One context for all, one event for all, and more than one batch dimension.
    one = flow.log_prob(x, context=context[0])
    np.testing.assert_allclose(one[0], expected[0], 1e-5)
    table = flow.log_prob(x[:, None], context=context)
    np.testing.assert_allclose(tf.linalg.diag_part(table), expected, 1e-5)
    deep = flow.log_prob(x[None], context=context[None])
    np.testing.assert_allclose(deep[0], expected, 1e-5)
    assert flow.sample((2, 5), context=context).shape == (2, 5, 3, 4)
    assert flow.sample(5, context=context[0]).shape == (5, 4)
    # Pixels as they are stored.
    pixels = np.arange(48, dtype="uint8").reshape(3, 4, 4, 1)
    np.testing.assert_array_equal(
        flow.log_prob(x, context=pixels),
        flow.log_prob(x, context=pixels.astype("float32")),
    )


@every
def test_variables_are_the_flows(build):
    encoder = build()
    flow = encoded(encoder)
    own = {
        (v.value if isinstance(v, keras.Variable) else v).ref()
        for v in encoder.variables
    }
    assert own and own <= {v.ref() for v in flow.trainable_variables}
    x, context = normal(3, 4, dtype="float32"), normal(3, 4, 4, 1, dtype="float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.log_prob(x, context=context))
    variables = flow.trainable_variables
    for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(g).max() > 0, v.name
    for jit in (False, True):
        compiled = tf.function(
            lambda x, c: flow.log_prob(x, context=c), jit_compile=jit
        )
        np.testing.assert_allclose(
            compiled(x, context), flow.log_prob(x, context=context), 1e-5
        )


@every
def test_copies(build):
    flow = encoded(build())
    x, context = normal(3, 4, dtype="float32"), normal(3, 4, 4, 1, dtype="float32")
    before = flow.log_prob(x, context=context)
    shared, deep = flow.copy(name="other"), copy.deepcopy(flow)
    assert {v.ref() for v in shared.variables} == {v.ref() for v in flow.variables}
    assert not {v.ref() for v in deep.variables} & {v.ref() for v in flow.variables}
    np.testing.assert_array_equal(deep.log_prob(x, context=context), before)
    for v in flow.trainable_variables:
        v.assign_add(0.1 * tf.ones_like(v))
    after = flow.log_prob(x, context=context)
    np.testing.assert_array_equal(deep.log_prob(x, context=context), before)
    np.testing.assert_array_equal(shared.log_prob(x, context=context), after)
    assert np.abs(after - before).min() > 1e-4


@pytest.mark.parametrize(
    "build", fast_and_slow(ENCODERS.values(), ENCODERS["keras"]), ids=ENCODERS
)
def test_fit_trains_and_saves_it(build, tmp_path):
    flow = encoded(build())
    x, context = (
        normal(40, 4, dtype="float32").numpy(),
        normal(40, 4, 4, 1, dtype="float32").numpy(),
    )
    before = [np.copy(v) for v in flow._context_encoder.variables]
    model = FlowModel(flow)
    model.compile("adam")
    model.fit(x, context, epochs=2, verbose=0)
    for v, old in zip(flow._context_encoder.variables, before, strict=True):
        assert np.abs(v - old).max() > 1e-4
    expected = flow.log_prob(x, context=context)

    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(encoded(build()))
    other.load_weights(tmp_path / "model.weights.h5")
    found = other.flow.log_prob(x, context=context)
    np.testing.assert_array_equal(found, expected)

    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    other = FlowModel(encoded(build()))
    tf.train.Checkpoint(model=other).restore(path).assert_existing_objects_matched()
    found = other.flow.log_prob(x, context=context)
    np.testing.assert_array_equal(found, expected)

    model.export(tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    found = loaded.log_prob(tf.constant(x), tf.constant(context))["log_prob"]
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)


def test_precision_is_the_flows():
    flow = encoded(image_encoder(), "float64")
    x, context = normal(3, 4, dtype="float64"), normal(3, 4, 4, 1, dtype="float64")
    assert flow.log_prob(x, context=context).dtype == tf.float64
    assert flow.log_prob(x, context=tf.cast(context, tf.float32)).dtype == tf.float64


@pytest.mark.parametrize("embed", [keras.layers.Embedding(5, 2), None])
def test_labels(embed):
    """A layer gets integers where one context has the shape `()`."""
    table = tf.Variable(normal(5, 2, seed=3, dtype="float32"))
    encoder = embed or (lambda labels: tf.gather(table, labels))
    flow = Flow(
        distributions.standard_normal((4,)),
        make_chain(context_shape=(2,)),
        context_encoder=encoder,
        context_shape=(),
    )
    perturb(flow, 0.3)
    assert flow.context_dtype == tf.int32
    plain = Flow(flow.distribution, flow.bijector)
    x, labels = normal(3, 4, dtype="float32"), tf.constant([4, 0, 2])
    np.testing.assert_allclose(
        flow.log_prob(x, context=labels), plain.log_prob(x, context=encoder(labels))
    )
    assert flow.sample(2, context=[[1, 2, 3]]).shape == (2, 1, 3, 4)
    assert flow.sample(2, context=1).shape == (2, 4)


def test_dropout_is_for_training():
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dropout(0.5)])
    flow = Flow(
        distributions.standard_normal((4,)),
        make_chain(context_shape=(2,)),
        context_encoder=encoder,
        context_shape=(2, 1),
    )
    perturb(flow, 0.3)
    x, context = normal(50, 4, dtype="float32"), 3 * normal(50, 2, 1, dtype="float32")
    flow.initialize(x, context)
    fixed = flow.log_prob(x, context=context)
    np.testing.assert_array_equal(flow.log_prob(x, context=context), fixed)
    model = FlowModel(flow)
    np.testing.assert_allclose(model((x, context), training=False), fixed, 1e-6)
    assert np.abs(model((x, context), training=True) - fixed).max() > 1e-3


def test_errors():
    base, chain = distributions.standard_normal((4,)), make_chain(context_shape=(2,))
    with pytest.raises(ValueError, match=r"context_encoder does not fit.*\b2\b.*3"):
        Flow(base, chain, image_encoder(3), context_shape=(4, 4, 1))
    with pytest.raises(ValueError, match=r"\(5,\).*\(2,\).*context_encoder"):
        Flow(base, chain, context_shape=(5,))
    with pytest.raises(ValueError, match="context_encoder is given, but no bijector"):
        Flow(base, make_chain(), image_encoder())
    flow = encoded(image_encoder())
    with pytest.raises(ValueError, match=r"context must end in \(4, 4, 1\)"):
        flow.log_prob(
            normal(3, 4, dtype="float32"), context=normal(3, 4, 5, 1, dtype="float32")
        )
    with pytest.raises(ValueError, match=r"turn contexts of shape \(3, 3, 1\)"):
        flow.copy(context_shape=(3, 3, 1))
