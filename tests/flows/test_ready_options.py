"""Bases and context encoders that all ready flows share."""

from __future__ import annotations

import copy
import functools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import ONE_OF_EACH, SMALL, gradients, members
from tests.support import fast_and_slow, perturb
from tfp_flows import FlowModel, flows

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

BASES = {
    "student_t": "student_t",
    "student_t_fixed": {"name": "student_t", "df": 3.0, "learned": False},
    "mixture": "mixture",
    "mixture_of_3": {"name": "mixture", "components": 3},
    "class_conditional": "class_conditional",
    "resampled": {"name": "resampled", "width": 8, "depth": 1, "draws": 64},
}


def small_encoder():
    return keras.Sequential(
        [
            keras.layers.Conv2D(2, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def built(name, **options):
    return SMALL[name].make(**options)


def plain(flow):
    """A flow from the description alone, which JSON can hold."""
    return flows.from_config(json.loads(json.dumps(flow.config)))


# All bases of vectors, and one each of images: with labels and without.
@pytest.mark.parametrize(
    ("name", "base"),
    [
        pytest.param(
            name,
            base,
            id=f"{name}-{kind}",
            marks=()
            if name == "nice"
            or (name == "glow" and kind in ("class_conditional", "mixture"))
            else pytest.mark.slow,
        )
        for name in ("nice", "real_nvp_image", "glow")
        for kind, base in BASES.items()
    ],
)
def test_bases(name, base):
    labels = {"num_classes": 3} if base == "class_conditional" else {}
    given = {"context": [0, 2, 1, 1]} if labels else {}
    flow = built(name, base=base, perturbed=0.1, **labels)
    x = SMALL[name].data(dtype="float32")
    z, ildj = flow.bijector.inverse_and_log_det(x, **flow._keywords(given))
    one_hot = {"context": tf.one_hot(given["context"], 3)} if given else {}
    expected = flow.distribution.log_prob(z, **one_hot) + ildj
    np.testing.assert_allclose(flow.log_prob(x, **given), expected, 1e-5)
    sample, log_prob = flow.sample_and_log_prob(4, seed=0, temperature=0.5, **given)
    assert sample.shape == (4, *([4] if given else []), *SMALL[name].shape)
    assert np.isfinite(log_prob).all()
    fresh = built(name, base=base, perturbed=0, **labels)
    again = plain(fresh)
    assert again.config == fresh.config
    for a, b in zip(fresh.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.log_prob(x, **given))
    variables = flow.distribution.trainable_variables
    assert bool(variables) == (base != BASES["student_t_fixed"])
    for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(tf.convert_to_tensor(g)).max() > 0, v.name


def test_options_of_bases():
    flow = built("nice", base={"name": "mixture", "components": 3})
    assert flow.distribution.mixture_distribution.logits.shape == (3,)
    flow = built("nice", base=BASES["student_t_fixed"], perturbed=0)
    np.testing.assert_array_equal(flow.distribution.distribution.df, np.full(4, 3.0))
    means = [
        np.asarray(
            built("nice", base="mixture", perturbed=0, seed=s).distribution.mean()
        )
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(means[0], means[1])
    assert np.abs(means[0] - means[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("cauchy", "base must be one of.*mixture.*student_t.*cauchy"),
        ({"components": 3}, "base must be one of.*None"),
        ({"name": "mixture", "bumps": 3}, "mixture.*bumps"),
        ({"name": "mixture", "components": 0}, "components.*0"),
        ("class_conditional", "needs num_classes"),
    ],
)
def test_errors_of_bases(base, words):
    with pytest.raises(ValueError, match=words):
        built("nice", base=base)


# Encoders.


@pytest.mark.parametrize("name", ["nice", "real_nvp", "glow"])
def test_encoder(name):
    encoder = small_encoder()
    flow = built(name, context_shape=(4, 4, 1), context_encoder=encoder)
    assert flow.context_shape == (4, 4, 1)
    assert flow.bijector.context_shape == (3,)
    draw = np.random.default_rng(0)
    x = SMALL[name].data(dtype="float32")
    context = tf.constant(draw.standard_normal((4, 4, 4, 1)), tf.float32)
    expected, _ = flow.bijector.inverse_and_log_det(x, context=encoder(context))
    np.testing.assert_allclose(flow.encode(x, context=context), expected, 1e-5)

    again = plain(flow)
    assert again.config == flow.config
    assert len(again.variables) == len(flow.variables)
    for a, b in zip(flow.variables, again.variables, strict=True):
        b.assign(a)
    log_prob = flow.log_prob(x, context=context)
    np.testing.assert_array_equal(again.log_prob(x, context=context), log_prob)
    deep = copy.deepcopy(flow)
    np.testing.assert_array_equal(deep.log_prob(x, context=context), log_prob)
    assert deep.config == flow.config
    assert flow.sample(2, seed=0, context=context).shape == (2, 4, *SMALL[name].shape)


def test_flows_without_an_encoder_do_not_mention_it():
    """Weights that were saved before there were any go on fitting."""
    assert "context_encoder" not in built("nice").config


def functional_encoder():
    given = keras.Input((5,))
    hidden = keras.layers.Dense(4, activation="tanh")(given)
    return keras.Model(
        given, keras.layers.Add()([hidden, keras.layers.Dense(4)(given)])
    )


@pytest.mark.parametrize("build", fast_and_slow([functional_encoder, None], None))
def test_saved_as_keras_and_as_weights(build, tmp_path):
    def make(seed):
        encoder = build() if build else keras.layers.Dense(2)
        return built("real_nvp", context_shape=(5,), context_encoder=encoder, seed=seed)

    draw = np.random.default_rng(0)
    x = draw.standard_normal((40, 3)).astype("float32")
    context = draw.standard_normal((40, 5)).astype("float32")
    model = FlowModel(make(0))
    model.compile("adam")
    model.fit(x, context, epochs=1, verbose=0)
    expected = model.flow.log_prob(x, context=context)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.flow.log_prob(x, context=context), expected)
    assert loaded.flow.config == model.flow.config
    # Keras numbers its layers: names of a second encoder are other ones.
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(make(1))
    assert other.flow.config["context_encoder"] != model.flow.config["context_encoder"]
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.flow.log_prob(x, context=context), expected)


def test_weights_of_another_encoder_are_refused(tmp_path):
    def make(activation):
        encoder = keras.layers.Dense(2, activation=activation)
        return FlowModel(built("real_nvp", context_shape=(5,), context_encoder=encoder))

    make("relu").save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match=r"context_encoder=.*tanh"):
        make("tanh").load_weights(tmp_path / "model.weights.h5")


def test_embedded_labels():
    flow = built(
        "real_nvp", context_shape=(), context_encoder=keras.layers.Embedding(5, 2)
    )
    perturb(flow)
    assert flow.context_dtype == tf.int32
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    labels = np.arange(20) % 5
    model = FlowModel(flow)
    model.compile("adam")
    model.fit(x, labels, verbose=0)
    assert len(set(np.round(flow.log_prob(x[:5], context=labels[:5]), 5))) == 5


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"context_encoder": lambda c: c}, TypeError, "Keras 3 layer.*function"),
        (
            {"context_encoder": keras.layers.Dense(2), "context_shape": None},
            ValueError,
            "needs context_shape",
        ),
        (
            {
                "context_encoder": keras.layers.Dense(2),
                "context_shape": None,
                "num_classes": 3,
            },
            ValueError,
            r"not both.*Embedding",
        ),
    ],
)
def test_errors_of_encoders(options, error, words):
    with pytest.raises(error, match=words):
        built("nice", **{"context_shape": (5,), **options})


@pytest.mark.parametrize(
    "name",
    fast_and_slow(ONE_OF_EACH, "real_nvp", "glow", "residual_flow", "planar", "maf"),
)
def test_recompute_gradients(name):
    small = ONE_OF_EACH[name]
    flow = small.make(dtype="float64")
    frugal = small.make(dtype="float64", recompute_gradients=True)
    assert any(
        getattr(b, "parameters", {}).get("recompute_gradients")
        for b in frugal.submodules
    )
    x = small.data()
    np.testing.assert_allclose(frugal.log_prob(x), flow.log_prob(x), rtol=1e-9)
    for a, b in zip(gradients(frugal, x), gradients(flow, x), strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * max(scale, 1))


HALF = ("nice", "real_nvp_image", "glow", "neural_spline_flow", "flow_plus_plus")


@pytest.mark.parametrize("name", HALF)
def test_conditioners_in_half_precision(name):
    small = SMALL[name]
    # Flows further from their start may be so steep that they magnify any rounding.
    full = small.make(0.1, dtype="float32")
    half = small.make(0.1, dtype="float32", conditioner_dtype="bfloat16")
    assert {v.dtype for v in half.trainable_variables} == {tf.float32}
    x = small.data(dtype="float32")
    log_prob = half.log_prob(x)
    assert log_prob.dtype == tf.float32
    difference = np.abs(log_prob - full.log_prob(x))
    assert 0 < difference.max() < 0.02 * np.abs(full.log_prob(x)).max()
    # A last digit of single precision may turn one of half precision.
    np.testing.assert_allclose(half.decode(half.encode(x)), x, rtol=0.02, atol=0.02)
    assert all(np.abs(g).max() > 0 for g in gradients(half, x))


def test_half_precision_by_keras_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        flow = flows.real_nvp((4,), layers=1, width=8)
        double = flows.real_nvp((4,), layers=1, width=8, dtype="float64")
        told = flows.real_nvp((4,), layers=1, width=8, conditioner_dtype="float32")
    finally:
        keras.config.set_dtype_policy("float32")

    def computes_in(flow):
        return members(flow.bijector)[-1].conditioner.compute_dtype

    assert list(map(computes_in, (flow, double, told))) == [
        "bfloat16",
        "float64",
        "float32",
    ]


def test_weights_do_not_depend_on_how_they_are_trained(tmp_path):
    build = functools.partial(flows.real_nvp, (4,), layers=2, width=8)
    model = FlowModel(
        build(conditioner_dtype="bfloat16", recompute_gradients=True, seed=0)
    )
    perturb(model.flow, 0.05)
    model.save_weights(tmp_path / "w.weights.h5")
    other = FlowModel(build(seed=1))
    other.load_weights(tmp_path / "w.weights.h5")
    x = tf.random.stateless_normal([3, 4], [0, 1])
    np.testing.assert_allclose(
        other.flow.log_prob(x), model.flow.log_prob(x), rtol=0.02
    )
    model.save(tmp_path / "m.keras")
    config = keras.saving.load_model(tmp_path / "m.keras").flow.config
    assert (config["conditioner_dtype"], config["recompute_gradients"]) == (
        "bfloat16",
        True,
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: flows.glow((8, 8, 1), conditioner_dtype="float8"),
            "conditioner_dtype must be None or 'float32', \"bfloat16\" or",
        ),
        (
            lambda: flows.nice((4,), conditioner_dtype="bfloat16", dtype="float64"),
            "conditioner_dtype must be None or 'float64' for a float64 flow",
        ),
        (
            lambda: flows.neural_spline_flow(
                (4,), autoregressive=True, conditioner_dtype="bfloat16"
            ),
            "conditioner_dtype='bfloat16' is not for autoregressions",
        ),
    ],
)
def test_errors_of_conditioner_dtype(build, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        build()
