"""Models of flows whose context is a dict of arrays, through an encoder."""

from __future__ import annotations

import copy
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tests.training.support import compiled, points
from tfp_flows import FlowModel, flows

SHAPES = {"age": (2,), "photo": (4, 4, 1), "place name": ()}
N = 24
X = points(N)
DRAW = np.random.default_rng(1)
# As users hold them: float64, bytes, int64.
CONTEXT = {
    "age": DRAW.normal(size=(N, 2)),
    "photo": DRAW.integers(0, 3, (N, 4, 4, 1)).astype("uint8"),
    "place name": np.arange(N) % 3,
}
WEIGHTS = np.linspace(0.0, 2.0, N)


def encoder():
    age = keras.Input((2,), name="age")
    photo = keras.Input((4, 4, 1), name="photo")
    place = keras.Input((), dtype="int32", name="place name")
    parts = [
        keras.layers.Dense(2, activation="tanh")(age),
        keras.layers.Flatten()(keras.layers.Conv2D(1, 3)(photo)),
        keras.layers.Embedding(3, 2)(place),
    ]
    out = keras.layers.Dense(3)(keras.layers.Concatenate()(parts))
    return keras.Model({"age": age, "photo": photo, "place name": place}, out)


def flow(seed=7, **options):
    keras.utils.set_random_seed(0)
    small = {"layers": 2, "width": 8, "normalize": False, "seed": 0}
    built = flows.real_nvp(
        (2,), **small, context_encoder=encoder(), context_shape=SHAPES, **options
    )
    return perturb(built, seed=seed)


def part(where):
    return {k: v[where] for k, v in CONTEXT.items()}


def stream():
    return tf.data.Dataset.from_tensor_slices((X, CONTEXT)).batch(8)


def without_shapes():
    types = {k: tf.as_dtype(v.dtype) for k, v in CONTEXT.items()}
    return tf.data.Dataset.from_generator(
        lambda: [(X[i : i + 8], part(slice(i, i + 8))) for i in range(0, N, 8)],
        output_types=(tf.float32, types),
    )


FORMS = {
    "two_arguments": lambda: (X, CONTEXT),
    "pair": lambda: ((X, CONTEXT),),
    "dataset": lambda: (stream(),),
    "no_shapes": lambda: (without_shapes(),),
    "generator": lambda: (((X[i : i + 8], part(slice(i, i + 8))) for i in (0, 8, 16)),),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_every_form_of_data_trains_alike():
    """And in the order of the data, which is the same in all."""
    results = {}
    for name, form in FORMS.items():
        model = compiled(flow(), keras.optimizers.SGD(1e-4), run_eagerly=True)
        before = [v.numpy() for v in model.trainable_variables]
        options = {"batch_size": 8} if name in ("two_arguments", "pair") else {}
        model.fit(*form(), shuffle=False, verbose=0, **options)
        results[name] = after = [v.numpy() for v in model.trainable_variables]
        assert all((a != b).any() for a, b in zip(before, after, strict=True))
    for after in results.values():
        for a, b in zip(after, results["dataset"], strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)


def test_weights_validation_and_prediction():
    model = compiled(flow(), run_eagerly=True)
    expected = -model.flow.log_prob(X, context=CONTEXT).numpy()
    np.testing.assert_allclose(
        model.predict((X, CONTEXT), verbose=0), -expected, 1e-5, 1e-5
    )
    np.testing.assert_allclose(
        model.predict(stream(), verbose=0), -expected, 1e-5, 1e-5
    )
    np.testing.assert_allclose(model.predict_on_batch((X, CONTEXT)), -expected, 1e-5)
    weighted = np.average(expected, weights=WEIGHTS)
    for given, weights in (((X, CONTEXT, WEIGHTS),), None), ((X, CONTEXT), WEIGHTS):
        found = model.evaluate(
            *given, sample_weight=weights, return_dict=True, verbose=0
        )
        np.testing.assert_allclose(found["nll"], weighted, 1e-5)
    nll = model.test_on_batch(X, CONTEXT, WEIGHTS, return_dict=True)["nll"]
    np.testing.assert_allclose(nll, weighted, 1e-5)
    model.optimizer.learning_rate.assign(0.0)
    history = model.fit(
        *(X, CONTEXT),
        sample_weight=WEIGHTS,
        validation_data=(X[:8], part(slice(8)), WEIGHTS[:8]),
        verbose=0,
    ).history
    np.testing.assert_allclose(history["nll"], weighted, 1e-5)
    held_out = np.average(expected[:8], weights=WEIGHTS[:8])
    np.testing.assert_allclose(history["val_nll"], held_out, 1e-5)
    history = model.fit(X, CONTEXT, validation_split=0.25, verbose=0).history
    np.testing.assert_allclose(history["val_nll"], expected[18:].mean(), 1e-5)
    assert len(model.train_on_batch(X, CONTEXT, WEIGHTS)) == 3


@pytest.mark.slow
def test_in_double_precision():
    model = compiled(flow(dtype="float64"))
    model.optimizer.learning_rate.assign(0.0)
    history = model.fit(X, CONTEXT, sample_weight=WEIGHTS, verbose=0).history
    expected = -model.flow.log_prob(X, context=CONTEXT).numpy()
    np.testing.assert_allclose(
        history["nll"], np.average(expected, weights=WEIGHTS), 1e-5
    )


def test_samples_and_fixed_contexts():
    model = FlowModel(flow())
    x = model.flow.sample(2, seed=1, context=CONTEXT)
    assert x.shape == (2, N, 2)
    given = model.flow.given(part(slice(3)))
    np.testing.assert_allclose(
        given.log_prob(x[:, :3]), model.flow.log_prob(x, context=CONTEXT)[:, :3], 1e-5
    )


def test_saved_and_loaded(tmp_path):
    model = compiled(flow(), run_eagerly=True)
    expected = model.predict((X, CONTEXT), verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(flow(seed=3))
    assert np.abs(other.predict((X, CONTEXT), verbose=0) - expected).max() > 0.1
    other.load_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for found in (other, loaded, copy.deepcopy(model)):
        log_prob = found.predict((X, CONTEXT), verbose=0)
        # Eager and traced arithmetic differ in rounding.
        np.testing.assert_allclose(log_prob, expected, 1e-5, 1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
def test_exported(tmp_path):
    model = FlowModel(flow())
    expected = model.flow.log_prob(X, context=CONTEXT)
    model.export(tmp_path)
    context = {
        k: np.asarray(v, "int32" if k == "place name" else "float32")
        for k, v in CONTEXT.items()
    }
    named = {f"context_{k.replace(' ', '_')}": v for k, v in context.items()}
    loaded = tf.saved_model.load(str(tmp_path))
    tensors = tf.nest.map_structure(tf.constant, context)
    found = loaded.log_prob(tf.constant(X), tensors)["log_prob"]
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    named_tensors = tf.nest.map_structure(tf.constant, named)
    samples = loaded.signatures["sample"](
        n=tf.constant(3),
        seed=tf.constant(1),
        temperature=tf.constant(1.0),
        **named_tensors,
    )
    assert samples["x"].shape == (3, N, 2)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path), signature_keys=["log_prob"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    found = interpreter.get_signature_runner("log_prob")(x=X, **named)["log_prob"]
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


def test_errors():
    model = compiled(flow())
    age = CONTEXT["age"]
    plain = compiled(flows.real_nvp((2,), context_shape=(2,), layers=1, width=4))
    none = compiled(flows.real_nvp((2,), layers=1, width=4))
    named = r"'age', 'photo', 'place name'"
    for context, kind, message in (
        (age, ValueError, rf"dict of arrays with the parts \[{named}\], got ndarray"),
        ({"age": age}, ValueError, r"got the parts \['age'\]"),
        ({**CONTEXT, "other": age}, ValueError, r"got the parts .*'other'"),
        ({**CONTEXT, "age": age[:3]}, ValueError, r"context\['age'\] must be equally"),
        ({**CONTEXT, "age": age[:, :1]}, ValueError, r"context\['age'\] must have sha"),
        ({**CONTEXT, "age": np.nan * age}, ValueError, r"context\['age'\] holds 48"),
        ({**CONTEXT, "age": ["a"] * N}, TypeError, r"context\['age'\] must hold num"),
        (None, ValueError, "context is missing"),
    ):
        with pytest.raises(kind, match=message):
            model.fit(X, context, verbose=0)
    with pytest.raises(ValueError, match=r"got the parts \['age'\]"):
        model.fit(tf.data.Dataset.from_tensors((X, {"age": age})), verbose=0)
    with pytest.raises(ValueError, match="needs a context of integer labels"):
        model.fit(X, CONTEXT, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="context is a masked array"):
        model((X, {**CONTEXT, "age": np.ma.masked_less(age, 0.0)}))
    for other in (plain, none):
        with pytest.raises(TypeError, match="build the flow with a context_encoder"):
            other.fit(X, CONTEXT, verbose=0)
    with pytest.raises(ValueError, match="give a context_encoder"):
        flows.maf((2,), context_shape=SHAPES)


def test_numbers_of_each_part_are_normalised(tmp_path):
    """Labels are not; what data set is kept by files and copies."""
    far = {**CONTEXT, "age": 1e6 * CONTEXT["age"] - 7e6, "photo": CONTEXT["photo"] + 90}
    model = compiled(flow(normalize_context=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(X, far, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    models = model, loaded, copy.deepcopy(model)
    for k, axes in (("age", 0), ("photo", (0, 1, 2))):
        whole = far[k].astype("float64")
        z = (whole - whole.mean(axes)) / whole.std(axes)
        for known in models:
            normalized = known.flow._context_encoder.function
            assert set(normalized.standardize) == {"age", "photo"}
            found = normalized.standardize[k].inverse(far[k].astype("float32"))
            np.testing.assert_allclose(found, z, atol=2e-3)
    expected = model.flow.log_prob(X, context=far)
    np.testing.assert_array_equal(loaded.flow.log_prob(X, context=far), expected)
    place = {**far, "place name": (far["place name"] + 1) % 3}
    assert not np.allclose(model.flow.log_prob(X, context=place), expected)


def test_labels_alone_are_no_numbers():
    place = keras.Input((), dtype="int32")
    encode = keras.Model({"place": place}, keras.layers.Embedding(3, 2)(place))
    with pytest.raises(ValueError, match="normalize_context is for contexts of num"):
        flows.maf(
            (2,),
            context_shape={"place": ()},
            context_encoder=encode,
            normalize_context=True,
        )


@pytest.mark.slow
def test_values_of_a_part_that_float32_merges():
    context = {**CONTEXT, "age": 5e6 + 0.1 * CONTEXT["age"]}
    model = compiled(flow(), run_eagerly=True)
    with pytest.warns(UserWarning, match=r"merges values of context\['age'\]"):
        model.fit(X, context, verbose=0)
