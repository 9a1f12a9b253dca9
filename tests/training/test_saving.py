"""Saving and loading, in every way that Keras and TensorFlow have."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow, perturb
from tests.training.support import (
    answers,
    assert_same,
    compiled,
    image,
    images,
    points,
    run_child,
    values,
    vector,
)
from tfp_flows import Flow, FlowModel, bijectors, distributions, masks, networks

tfb = tfp.bijectors
tfd = tfp.distributions

ANSWERS = ("log_prob", "sample", "tempered", "encode", "decode")


BUILD = {"vector": vector, "image": image}


@dataclasses.dataclass
class Saved:
    directory: Path
    name: str
    flow: tfd.Distribution

    def loaded(self, route: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.directory / f"{self.name}.{route}.npz"))


@pytest.fixture(scope="module", params=fast_and_slow(BUILD, "vector"))
def saved(request, tmp_path_factory):
    """A RealNVP or a conditional Glow, trained and saved."""
    name, directory = request.param, tmp_path_factory.mktemp("saved")
    flow, data = {"vector": (vector(), (points(),)), "image": (image(), images())}[name]
    model = compiled(flow, keras.optimizers.Adam(0.02), run_eagerly=True)
    model.fit(*data, batch_size=12, epochs=2, verbose=0)
    model.save_weights(directory / f"{name}.weights.h5")
    model.save(directory / f"{name}.keras")
    model.export(directory / f"{name}.exported")
    tf.train.Checkpoint(model=model).write(str(directory / f"{name}.tf"))
    arrays = dict(zip(("x", "context"), data, strict=False))
    np.savez(directory / f"{name}.data.npz", **arrays)
    return Saved(directory, name, flow)


@pytest.fixture(scope="module")
def loaded_elsewhere(saved):
    run_child("load", saved.directory, saved.name)


@pytest.mark.slow
@pytest.mark.usefixtures("loaded_elsewhere")
@pytest.mark.parametrize("route", ["weights", "checkpoint", "keras"])
def test_a_new_process_says_the_same(saved, route):
    expected = answers(saved.flow)
    found = saved.loaded(route)
    untrained = answers(BUILD[saved.name](seed=1))
    assert set(found) == set(expected) == set(ANSWERS)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value, err_msg=key)
        assert not np.allclose(untrained[key], value), key


@pytest.mark.slow
@pytest.mark.usefixtures("loaded_elsewhere")
@pytest.mark.parametrize("kind", ["methods", "signatures"])
def test_tensorflow_alone_says_the_same(saved, kind):
    """As the same functions compiled here; as eager ones, up to rounding."""
    expected = answers(saved.flow, tf.function)
    eager = answers(saved.flow)
    found = saved.loaded(kind)
    assert set(found) == set(expected) == set(ANSWERS)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        # TensorFlow's optimiser orders the terms of a sum by the sizes it knows.
        rounding = 1e-6 if key == "log_prob" else 0
        np.testing.assert_allclose(found[key], value, rounding, err_msg=key)
        np.testing.assert_allclose(value, eager[key], 1e-5, 1e-5, err_msg=key)


def test_exported_signatures_name_what_they_take(tmp_path):
    FlowModel(perturb(image())).export(tmp_path)
    model = tf.saved_model.load(str(tmp_path))
    takes = {
        name: set(signature.structured_input_signature[1])
        for name, signature in model.signatures.items()
    }
    assert takes == {
        "log_prob": {"x", "context"},
        "sample": {"n", "seed", "temperature", "context"},
        "encode": {"x", "context"},
        "decode": {"z", "context"},
    }
    x = model.sample(n=5, seed=0, temperature=1.0, context=tf.constant([0, 2]))["x"]
    assert x.shape == (5, 2, 4, 4, 1)
    again = model.sample(n=5, seed=0, temperature=1.0, context=tf.constant([0, 2]))
    np.testing.assert_array_equal(again["x"], x)
    other = model.sample(n=5, seed=1, temperature=1.0, context=tf.constant([0, 2]))
    assert not np.allclose(other["x"], x)


def test_export_takes_no_other_argument(tmp_path):
    with pytest.raises(TypeError, match=r"unknown argument\(s\) \['format'\]"):
        FlowModel(vector()).export(tmp_path / "exported", format="onnx")
    assert not list(tmp_path.iterdir())


# Going on with training.


def train(model, epochs):
    x = points()
    model.fit(x, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


@pytest.mark.parametrize("route", ["keras", "weights", "shards", "checkpoint"])
def test_training_goes_on_with_the_optimizer(route, tmp_path):
    """Two epochs, saved, loaded, and one more, as three in one go."""

    def new(seed):
        optimizer = keras.optimizers.Adam(0.02, beta_1=0.8)
        return compiled(vector(seed=seed), optimizer, run_eagerly=True)

    model = new(seed=0)
    train(model, 2)
    if route == "keras":
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.run_eagerly and not loaded.jit_compile
        assert loaded.optimizer.beta_1 == 0.8
    else:
        loaded = new(seed=1)
        loaded.optimizer.build(loaded.trainable_variables)
        if route == "weights":
            model.save_weights(tmp_path / "model.weights.h5")
            loaded.load_weights(tmp_path / "model.weights.h5")
        elif route == "shards":
            model.save_weights(tmp_path / "model.weights.json", max_shard_size=1e-6)
            assert len(list(tmp_path.glob("*.h5"))) > 1
            loaded.load_weights(tmp_path / "model.weights.json")
        else:
            path = tf.train.Checkpoint(model=model).save(str(tmp_path / "model"))
            tf.train.Checkpoint(model=loaded).restore(path).assert_consumed()
    assert int(loaded.optimizer.iterations) == 6
    assert_same(values(model.flow), values(loaded.flow))
    train(model, 1)
    train(loaded, 1)
    assert_same(values(model.flow), values(loaded.flow))
    assert int(loaded.optimizer.iterations) == 9


# Distributions of TFP.


def hidden():
    """A distribution that shows none of its variables."""
    network = tfb.real_nvp_default_template(hidden_layers=[4])
    return tfd.TransformedDistribution(
        distributions.standard_normal((2,)),
        tfb.RealNVP(1, shift_and_log_scale_fn=network),
    )


def autoregressive():
    network = tfb.AutoregressiveNetwork(2, event_shape=[2], hidden_units=[4])
    return tfd.TransformedDistribution(
        distributions.standard_normal((2,)), tfb.MaskedAutoregressiveFlow(network)
    )


@pytest.mark.filterwarnings("ignore:`tf.layers.dense` is", "ignore:`layer.updates`")
@pytest.mark.parametrize("build", [hidden, autoregressive])
def test_any_distribution_saves_its_weights(build, tmp_path):
    model, x = FlowModel(build()), points()
    for i, v in enumerate(model.trainable_variables):
        v.assign(tf.random.stateless_normal(v.shape, [0, i]))
    expected = model.flow.log_prob(x)
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(build())
    assert not np.allclose(other.flow.log_prob(x), expected)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.flow.log_prob(x), expected)

    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "model"))
    other = FlowModel(build())
    status = tf.train.Checkpoint(model=other).restore(path)
    status.assert_existing_objects_matched()
    np.testing.assert_array_equal(other.flow.log_prob(x), expected)

    model.export(tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    assert set(loaded.signatures) == {"log_prob"}
    np.testing.assert_allclose(loaded.log_prob(x=x)["log_prob"], expected, 1e-5)


def test_only_ready_flows_are_saved_as_keras(tmp_path):
    model = FlowModel(autoregressive())
    path = tmp_path / "model.keras"
    with pytest.raises(ValueError, match="only a model of a ready flow"):
        model.save(path)
    assert not list(tmp_path.iterdir())
    path.write_text("an older file")
    with pytest.raises(ValueError, match="only a model of a ready flow"):
        model.save(path)
    assert path.read_text() == "an older file"


# Copies.


def own():
    """A flow that no description builds again."""
    network = networks.MLP(2, (4,), seed=0)
    coupling = bijectors.AffineCoupling(masks.half(2), network)
    return Flow(distributions.standard_normal((2,)), coupling)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("make_copy", [copy.deepcopy, through_pickle])
@pytest.mark.parametrize("build", [own, vector])
def test_copies(build, make_copy):
    """A copy is trained on its own, and as the original would be."""
    model = compiled(build(), keras.optimizers.Adam(0.02), run_eagerly=True)
    train(model, 1)
    other = make_copy(model)
    before = values(model.flow)
    assert_same(before, values(other.flow))
    train(other, 1)
    assert_same(before, values(model.flow))
    train(model, 1)
    assert_same(values(model.flow), values(other.flow))
    untrained = make_copy(FlowModel(build()))
    assert not untrained.compiled


def test_what_cannot_be_copied_says_what_to_do():
    with pytest.raises(TypeError, match=r"cannot be copied.*set_weights"):
        copy.deepcopy(FlowModel(autoregressive()))
