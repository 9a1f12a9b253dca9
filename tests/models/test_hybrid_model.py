from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import FlowModel, flows
from tfp_flows.distributions import log_prob_and_standard_error
from tfp_flows.models import HybridModel
from tfp_flows.training import DataWarning

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, size=24)


def coupling(**options):
    options = {"normalize": False, "layers": 2, "width": 8, "seed": 0, **options}
    return flows.real_nvp((3,), **options)


def hybrid(flow=None, classes=4, **options):
    flow = perturb(coupling()) if flow is None else flow
    model = HybridModel(flow, classes, **options)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


def loss_and_gradients(model, y, x=X):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    return float(loss), tape.gradient(loss, [v.value for v in model.trainable_weights])


def log_prob_of_class(model, y, x=X):
    """Computed anew: by `encode`, and Keras's own classification loss."""
    logits = model.head(model.flow.encode(x))
    return -keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("as_stream", [False, True])
def test_units_are_described_without_the_labels(as_stream):
    """The flow takes no context, also where its warning encodes the data."""
    data = (1e5 * X, Y)
    if as_stream:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(24),)
    with pytest.warns(DataWarning, match="far from 1"):
        hybrid().fit(*data, epochs=1, verbose=0)


def test_one_pass_gives_density_and_logits():
    model = hybrid()
    found = model(X)
    np.testing.assert_allclose(found["log_prob"], model.flow.log_prob(X), rtol=1e-5)
    logits = model.head(model.flow.encode(X))
    np.testing.assert_allclose(found["logits"], logits, atol=1e-6)


def test_without_weight_the_gradient_is_that_of_a_classifier():
    model = hybrid(weight=0.0)
    loss, found = loss_and_gradients(model, Y)
    with tf.GradientTape() as tape:
        expected = -tf.reduce_mean(log_prob_of_class(model, Y))
    variables = [v.value for v in model.trainable_weights]
    gradients = tape.gradient(expected, variables)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    changed = sum(g is not None and np.abs(g).max() > 1e-4 for g in gradients)
    assert changed > 4
    for a, b in zip(found, gradients, strict=True):
        # The last shift and scale are not seen by a class alone.
        np.testing.assert_allclose(
            tf.zeros([]) if a is None else a,
            tf.zeros([]) if b is None else b,
            rtol=1e-4,
            atol=1e-6,
        )


def test_the_objective_is_the_weighted_sum():
    for weight, expected in ((0.7, 0.7), (None, 1 / 3)):
        model = hybrid(weight=weight)
        loss, found = loss_and_gradients(model, Y)
        with tf.GradientTape() as tape:
            of_class = tf.reduce_mean(log_prob_of_class(model, Y))
            own = -of_class - expected * tf.reduce_mean(model.flow.log_prob(X))
        assert loss == pytest.approx(float(own), rel=1e-5)
        variables = [v.value for v in model.trainable_weights]
        assert_same(found, tape.gradient(own, variables))


def test_missing_labels_count_by_the_density_alone():
    model = hybrid(weight=0.5)
    some = np.where(np.arange(24) < 8, Y, -1)
    loss, found = loss_and_gradients(model, some)
    with tf.GradientTape() as tape:
        of_class = tf.reduce_sum(log_prob_of_class(model, Y[:8], X[:8])) / 24
        own = -of_class - 0.5 * tf.reduce_mean(model.flow.log_prob(X))
    assert loss == pytest.approx(float(own), rel=1e-5)
    variables = [v.value for v in model.trainable_weights]
    assert_same(found, tape.gradient(own, variables))
    scores = model.evaluate(X, some, verbose=0, return_dict=True)
    labelled = model.evaluate(X[:8], Y[:8], verbose=0, return_dict=True)
    for name in ("accuracy", "cross_entropy"):
        assert scores[name] == pytest.approx(labelled[name], rel=1e-5)
    assert scores["nll"] == pytest.approx(-model.flow.log_prob(X).numpy().mean())
    # Without any label, the head stays as it is.
    _, found = loss_and_gradients(model, np.full(24, -1))
    assert not any(np.abs(g).max() for g in found[-2:])


def test_sample_weights():
    model = hybrid()
    weight = np.r_[np.ones(12), np.zeros(12)]
    given = model.evaluate(X, Y, sample_weight=weight, verbose=0, return_dict=True)
    half = model.evaluate(X[:12], Y[:12], verbose=0, return_dict=True)
    half["loss"] /= 2  # Keras divides by the number of examples.
    assert given == pytest.approx(half, rel=1e-5)


@pytest.mark.slow
def test_it_learns_both_with_few_labels():
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, size=512)
    x = draw.normal(size=(512, 3)) + 4.0 * y[:, None]
    few = np.where(np.arange(512) < 128, y, -1)
    model = HybridModel(coupling(normalize=True), 2)
    model.compile(keras.optimizers.Adam(0.03))
    history = model.fit(x, few, epochs=20, batch_size=64, verbose=0).history
    assert history["nll"][-1] < history["nll"][0]
    scores = model.evaluate(x[128:], y[128:], verbose=0, return_dict=True)
    assert scores["accuracy"] > 0.97
    # Streams, too.
    batches = tf.data.Dataset.from_tensor_slices((x, few)).batch(64)
    from_stream = model.evaluate(batches, verbose=0, return_dict=True)
    from_arrays = model.evaluate(x, few, verbose=0, return_dict=True)
    assert from_stream == pytest.approx(from_arrays, rel=1e-4)
    model.fit(batches, verbose=0)


def test_calibration_finds_the_temperature_and_the_threshold():
    draw = np.random.default_rng(0)
    model = hybrid()
    model.head.layers[-1].kernel.assign(draw.normal(size=(3, 4)) * 6.0)
    x = draw.normal(size=(4000, 3)).astype("float32")
    probabilities = tf.nn.softmax(model(x)["logits"] / 2.5).numpy()
    y = (probabilities.cumsum(1) > draw.uniform(size=(4000, 1))).argmax(1)
    # Some labels are missing, and say nothing about the temperature.
    y[::4] = -1
    options = {"batch_size": 4000, "verbose": 0}
    assert model.predict(x, **options)["accepted"].all()
    before = model.evaluate(x, y, return_dict=True, **options)["cross_entropy"]
    # Twice: it starts from what the network gives, not from the last temperature.
    for _ in range(2):
        model.calibrate(x, y, reject=0.25, batch_size=4000)
        assert float(model.calibration.temperature) == pytest.approx(2.5, rel=0.08)
    after = model.predict(x, **options)
    np.testing.assert_allclose(after["probabilities"], probabilities, atol=0.03)
    np.testing.assert_allclose(
        tf.nn.softmax(after["logits"]), after["probabilities"], rtol=1e-5
    )
    lowest = after["log_prob"][after["accepted"]].min()
    assert after["accepted"].mean() == pytest.approx(0.75, abs=1e-3)
    assert (after["log_prob"][~after["accepted"]] < lowest).all()
    scores = model.evaluate(x, y, return_dict=True, **options)
    assert scores["cross_entropy"] < before
    model.calibrate(x, y, reject=0.0, batch_size=4000)
    assert model.predict(x, **options)["accepted"].all()


def test_the_temperature_is_of_accepted_inputs():
    draw = np.random.default_rng(0)
    model = hybrid()
    model.head.layers[-1].kernel.assign(draw.normal(size=(3, 4)) * 2.0)
    x = draw.normal(size=(4000, 3)).astype("float32")
    # One in a hundred is far away: its logits are huge, and its label says nothing.
    x[:40] = 100.0 * np.sign(x[:40])
    options = {"batch_size": 4000, "verbose": 0}
    p = tf.nn.softmax(model.predict(x, **options)["logits"] / 1.5).numpy()
    y = (p.cumsum(1) > draw.uniform(size=(4000, 1))).argmax(1)
    y[:40] = draw.integers(4, size=40)
    model.calibrate(x, y, reject=0.02, batch_size=4000)
    assert not model.predict(x, **options)["accepted"][:40].any()
    assert float(model.calibration.temperature) == pytest.approx(1.5, rel=0.08)
    model.calibrate(x, y, reject=0.0, batch_size=4000)
    assert float(model.calibration.temperature) > 3.0
    # Labels of rejected inputs alone are not enough.
    y[40:] = -1
    with pytest.raises(ValueError, match="leaves no input with a label"):
        model.calibrate(x, y, reject=0.02, batch_size=4000)


def test_saving(tmp_path):
    model = HybridModel(coupling(normalize=True), 4, 0.25, name="mine")
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(X, Y, verbose=0)
    model.calibrate(X, Y, reject=0.2)
    model.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert type(loaded) is HybridModel and loaded.name == "mine"
    assert (loaded.weight, loaded.num_classes) == (0.25, 4)
    expected = model.predict(X, verbose=0)
    for name, value in loaded.predict(X, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])
    assert not expected["accepted"].all()
    model.save_weights(tmp_path / "a.weights.h5")
    other = HybridModel(coupling(normalize=True, seed=5), 4)
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(
        other.predict(X, verbose=0)["probabilities"], expected["probabilities"]
    )
    with pytest.raises(TypeError, match="cannot be copied: save it"):
        copy.deepcopy(model)


def test_a_head_of_ones_own():
    head = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(4)])
    model = hybrid(head=head)
    assert len(model.trainable_weights) == len(model.flow.trainable_variables) + 4
    model.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_residual_flow_dequantised_in_float64():
    flow = flows.residual_flow(
        (3,), layers=1, width=8, depth=1, bounds=(0, 4), dtype="float64", seed=0
    )
    model = hybrid(flow, dequantize=True)
    x = np.random.default_rng(0).integers(0, 4, size=(24, 3))
    model.fit(x, Y, verbose=0)
    assert model.predict(x, verbose=0)["log_prob"].dtype == "float64"
    x = x + 0.5
    np.testing.assert_allclose(
        model(tf.constant(x))["log_prob"],
        log_prob_and_standard_error(flow, x)[0],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: HybridModel(3, 2), TypeError, "flow must be a tfp_flows.Flow"),
        (
            lambda: HybridModel(
                flows.real_nvp((3,), bounds=(0, 4), dequantize="uniform"), 2
            ),
            TypeError,
            "HybridModel itself takes dequantize",
        ),
        (
            lambda: HybridModel(coupling(context_shape=(2,)), 2),
            ValueError,
            "flow must take no context",
        ),
        (lambda: HybridModel(coupling(), 1), ValueError, "num_classes must be at"),
        (lambda: HybridModel(coupling(), 2, -1.0), ValueError, "weight must be at"),
        (lambda: HybridModel(coupling(), 2, head=3), TypeError, "head must be a Keras"),
        (
            lambda: HybridModel(coupling(), 2, head=keras.layers.Dense(3)),
            ValueError,
            r"head must make logits \(None, 2\)",
        ),
        (lambda: hybrid().fit(X, verbose=0), ValueError, "y must hold the labels"),
        (lambda: hybrid().fit(X, Y + 1), ValueError, "labels from 1 to 4"),
        (lambda: hybrid().fit(X, Y - 2), ValueError, "labels from -2 to 1"),
        (lambda: hybrid().fit(X, Y + 0.5), ValueError, "y must hold integers"),
        (lambda: hybrid().fit(X, Y[:5]), ValueError, r"y must have shape \(24,\)"),
        (lambda: hybrid().fit(X[:, :2], Y), ValueError, "x must have shape"),
        (
            lambda: hybrid().fit(
                tf.data.Dataset.from_tensor_slices((X, Y + 1)).batch(8)
            ),
            ValueError,
            "labels from 1 to 4",
        ),
        (lambda: hybrid().calibrate(X, Y * 0 - 1), ValueError, "y must hold at least"),
        (lambda: hybrid().calibrate(X, Y, 1.0), ValueError, "reject must be"),
    ],
)
def test_errors(build, error, match):
    with pytest.raises(error, match=match):
        build()


def test_the_density_is_that_of_a_flow_model():
    model = hybrid()
    alone = FlowModel(model.flow)
    alone.compile(run_eagerly=True)
    expected = alone.evaluate(X, verbose=0, return_dict=True)
    found = model.evaluate(X, Y, verbose=0, return_dict=True)
    for name in ("nll", "bits_per_dim"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
