from __future__ import annotations

import copy
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import citation
from tfp_flows.models import FreeFormFlow
from tfp_flows.training import TrainingDiverged

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(16, 3)).astype("float32")
MATRIX = np.eye(3) + 0.3 * DRAW.normal(size=(3, 3))


def network(shape=(3,), width=16, scale=0.3, seed=0, dtype="float32"):
    """The input and a small network of it: smooth, and a bijection at first."""
    size = math.prod(shape)
    layers = [
        keras.layers.Flatten(dtype=dtype),
        keras.layers.Dense(
            width,
            "tanh",
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            dtype=dtype,
        ),
        keras.layers.Dense(
            size,
            kernel_initializer=keras.initializers.RandomNormal(0, scale, seed),
            dtype=dtype,
        ),
        keras.layers.Reshape(shape, dtype=dtype),
    ]
    x = keras.Input(shape, dtype=dtype)
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, keras.layers.Add(dtype=dtype)([x, y]))


def free(shape=(3,), **options):
    return FreeFormFlow(network(shape), network(shape, seed=1), shape, **options)


def linear(encoder, decoder, dtype="float64", **options):
    """Two matrices: `x A` and `z B`."""
    layers = [keras.layers.Dense(3, dtype=dtype) for _ in range(2)]
    model = FreeFormFlow(*layers, (3,), **options)
    for layer, matrix in zip(layers, (encoder, decoder), strict=True):
        layer.set_weights([matrix, np.zeros(3)])
    return model


def test_the_density_is_that_of_the_encoder():
    model = FreeFormFlow(
        network(dtype="float64"), network(dtype="float64", seed=1), (3,)
    )
    x = tf.constant(X, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = model.encoder(x)
    jacobian = tape.batch_jacobian(z, x, experimental_use_pfor=False)
    _, log_det = np.linalg.slogdet(jacobian)
    expected = -0.5 * np.sum(z**2, -1) - 1.5 * np.log(2 * np.pi) + log_det
    np.testing.assert_allclose(model.log_prob(x), expected, rtol=1e-10)
    assert np.std(log_det) > 0.01


def test_the_density_adds_up_to_one():
    model = free((2,))
    side = np.linspace(-8, 8, 161)
    x = np.stack(np.meshgrid(side, side), -1)
    density = np.exp(model.log_prob(x))
    assert density.shape == (161, 161)
    assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-3)


def test_the_gradient_is_that_of_the_likelihood_if_the_decoder_inverts():
    """Averaged over directions, of which 3 here, times their length, are enough."""
    model = linear(MATRIX, np.linalg.inv(MATRIX))
    kernel = model.encoder.kernel.value
    x = tf.constant(np.repeat(X[:4], 5000, 0), tf.float64)
    keras.utils.set_random_seed(0)
    with tf.GradientTape() as tape:
        found = model(x, training=True)
        objective = tf.reduce_mean(found["objective"])
    gradient = tape.gradient(objective, kernel).numpy()
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(model.log_prob(X[:4]))
    exact = tape.gradient(expected, kernel).numpy()
    np.testing.assert_allclose(gradient, exact, atol=0.06)
    # Of the trace alone it would not be.
    of_base = -X[:4].T.astype("float64") @ (X[:4] @ MATRIX) / 4
    assert np.abs(exact - of_base).max() > 0.3
    np.testing.assert_allclose(found["reconstruction"], 0.0, atol=1e-12)


def test_the_surrogate_of_one_direction():
    """With one entry there is one direction, up to its sign: no noise at all."""
    layers = [keras.layers.Dense(1, dtype="float64") for _ in range(2)]
    model = FreeFormFlow(*layers, (1,), reconstruction_weight=3.0)
    layers[0].set_weights([np.array([[2.0]]), np.array([0.5])])
    layers[1].set_weights([np.array([[0.4]]), np.array([0.0])])
    x = tf.constant([[1.0], [-2.0]], tf.float64)
    found = model(x, training=True)
    z = 2.0 * x + 0.5
    error = tf.square(x - 0.4 * z)[:, 0]
    expected = -0.5 * z[:, 0] ** 2 - 0.5 * np.log(2 * np.pi) + 2.0 * 0.4 - 3.0 * error
    np.testing.assert_allclose(found["objective"], expected, rtol=1e-12)
    np.testing.assert_allclose(found["reconstruction"], error, rtol=1e-12)


def test_the_reconstruction_trains_both_and_the_surrogate_the_encoder():
    model = linear(MATRIX, np.linalg.inv(MATRIX))
    with tf.GradientTape(persistent=True) as tape:
        found = model(X.astype("float64"), training=True)
        density = tf.reduce_mean(found["objective"]) + 50 * tf.reduce_mean(
            found["reconstruction"]
        )
    gradient = tape.gradient(density, model.decoder.kernel.value)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-9)
    model = linear(MATRIX, np.eye(3))
    with tf.GradientTape() as tape:
        found = model(X.astype("float64"), training=True)
    variables = [v.value for v in (model.encoder.kernel, model.decoder.kernel)]
    for gradient in tape.gradient(found["reconstruction"], variables):
        assert np.abs(gradient).max() > 0.1


def test_shapes():
    model = free((2, 2, 1))
    for batch in ((), (3,), (2, 3), (0,)):
        x = np.ones((*batch, 2, 2, 1), "float32")
        z = model.encode(x)
        assert (z.shape, model.decode(z).shape) == (x.shape, x.shape)
        assert model.log_prob(x).shape == batch
    assert model.sample(0).shape == (0, 2, 2, 1)
    assert free().sample(0).shape == (0, 3)
    assert free().log_prob(X[:0]).shape == (0,)
    sample = model.sample(5, seed=3)
    np.testing.assert_array_equal(sample, model.sample(5, seed=3))
    traced = tf.function(model.log_prob)(sample)
    np.testing.assert_allclose(traced, model.log_prob(sample), rtol=1e-5)
    compiled = tf.function(model.log_prob, jit_compile=True)(sample)
    np.testing.assert_allclose(compiled, traced, rtol=1e-4)


# Contexts.


def with_context(shape=(2,), dtype="float64", seed=0, classes=None):
    """The input and a small network of it and of a context, or of a label."""
    x = keras.Input((3,), dtype=dtype)
    context = given = keras.Input(shape, dtype="int32" if classes else dtype)
    if classes:
        given = keras.layers.Embedding(classes, 2, dtype=dtype)(context)
    draw = keras.initializers.RandomNormal(0, 0.3, seed)
    h = keras.layers.Concatenate(dtype=dtype)([x, given])
    h = keras.layers.Dense(16, "tanh", dtype=dtype, kernel_initializer=draw)(h)
    h = keras.layers.Dense(3, dtype=dtype, kernel_initializer=draw)(h)
    return keras.Model([x, context], keras.layers.Add(dtype=dtype)([x, h]))


def conditional(shape=(2,), **options):
    networks = [with_context(shape, seed=seed, **options) for seed in (0, 1)]
    return FreeFormFlow(*networks, (3,), context_shape=shape)


CONTEXT = DRAW.normal(size=(16, 2)).astype("float32")


def test_the_density_given_a_context():
    """That of the model without one whose networks know the context."""
    model = conditional()

    def known(network, c):
        x = keras.Input((3,), dtype="float64")
        row = keras.layers.Lambda(
            lambda x: tf.broadcast_to(tf.constant(c, x.dtype), [tf.shape(x)[0], 2]),
            dtype="float64",
        )
        return keras.Model(x, network([x, row(x)]))

    found = model.log_prob(X, CONTEXT)
    for i in (0, 5):
        networks = [known(n, CONTEXT[i]) for n in (model.encoder, model.decoder)]
        one = FreeFormFlow(*networks, (3,))
        np.testing.assert_allclose(one.log_prob(X[i]), found[i], rtol=1e-12)
        z = one.encode(X[i])
        np.testing.assert_allclose(model.encode(X[i], CONTEXT[i]), z, rtol=1e-12)
        y = one.decode(z)
        np.testing.assert_allclose(model.decode(z, CONTEXT[i]), y, rtol=1e-12)
        sample = one.sample(4, seed=0)
        np.testing.assert_allclose(
            model.sample(4, seed=0, context=CONTEXT[i]), sample, rtol=1e-12
        )
    assert np.abs(found - model.log_prob(X, CONTEXT[::-1])).max() > 0.01


def test_shapes_given_a_context():
    model = conditional()
    assert model.log_prob(X[:, None], CONTEXT[:3]).shape == (16, 3)
    assert model.encode(X[0], CONTEXT).shape == (16, 3)
    assert model.sample(5, seed=0, context=CONTEXT).shape == (5, 16, 3)
    assert model.sample(0, context=CONTEXT[0]).shape == (0, 3)
    assert model.log_prob(X[:0], CONTEXT[:0]).shape == (0,)
    traced = tf.function(model.log_prob)(X, CONTEXT)
    np.testing.assert_allclose(traced, model.log_prob(X, CONTEXT), rtol=1e-10)


def test_training_given_labels(tmp_path):
    model, context = conditional((), classes=4), np.arange(16) % 4
    model.compile(keras.optimizers.Adam(0.01))
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(X, context, validation_data=(X, context), epochs=2, verbose=0)
    for v, old in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(v, old)
    expected = model.log_prob(X, context)
    pairs = tf.data.Dataset.from_tensor_slices((X, context)).batch(8)
    for data in ((X, context), (pairs,)):
        scores = model.evaluate(*data, verbose=0, return_dict=True)
        assert scores["nll"] == pytest.approx(-np.mean(expected), rel=1e-5)
    for data in ((X, context), pairs):
        np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-5)
    model.fit(pairs, verbose=0)
    expected = model.log_prob(X, context)
    model.save(tmp_path / "a.keras")
    same = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(same.log_prob(X, context), expected, rtol=1e-6)
    assert same.context_shape == model.context_shape


def test_codes_of_another_shape():
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    decoder = keras.Sequential([keras.layers.Dense(4), keras.layers.Reshape((2, 2))])
    model = FreeFormFlow(encoder, decoder, (2, 2))
    assert model.code_shape == (4,)
    x = np.ones((3, 2, 2), "float32")
    assert model.encode(x).shape == (3, 4)
    assert model(x, training=True)["objective"].shape == (3,)
    assert model.sample(6).shape == (6, 2, 2)


def test_fit_evaluate_predict(tmp_path):
    model = free(reconstruction_weight=10.0)
    model.compile(keras.optimizers.Adam(0.01))
    before = [v.numpy() for v in model.trainable_variables]
    assert len(before) == 8
    history = model.fit(X, validation_data=X, epochs=2, verbose=0).history
    assert set(history) == {
        *("loss", "reconstruction", "val_loss", "val_reconstruction", "val_nll")
    }
    for v, old in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(v, old)
    scores = model.evaluate(X, verbose=0, return_dict=True)
    expected = model.log_prob(X)
    assert scores["nll"] == pytest.approx(-np.mean(expected), rel=1e-5)
    error = np.mean(np.sum((X - model.decode(model.encode(X))) ** 2, -1))
    assert scores["reconstruction"] == pytest.approx(error, rel=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5)
    model.save(tmp_path / "a.keras")
    for same in (keras.models.load_model(tmp_path / "a.keras"), copy.deepcopy(model)):
        np.testing.assert_allclose(same.log_prob(X), expected, rtol=1e-6)
        np.testing.assert_allclose(same.sample(3, seed=0), model.sample(3, seed=0))
        assert same.reconstruction_weight == 10.0
        assert same.optimizer.iterations == 2
        same.fit(X, verbose=0)
    np.testing.assert_allclose(model.log_prob(X), expected)


def test_streams():
    model = free()
    model.compile(run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices(X).batch(8)
    fitted = model.fit(data, shuffle=False, verbose=0).history
    assert np.isfinite(fitted["loss"]).all()
    scores = model.evaluate(data, verbose=0, return_dict=True)
    expected = -np.mean(model.log_prob(X))
    assert scores["nll"] == pytest.approx(expected, rel=1e-5)


def test_many_entries_have_no_density():
    layers = [keras.layers.Dense(300, use_bias=False) for _ in range(2)]
    model = FreeFormFlow(*layers, (300,))
    model.compile("adam")
    x = np.ones((2, 300), "float32")
    with pytest.raises(ValueError, match="300 entries of an event; at most 256"):
        model.log_prob(x)
    assert sorted(model.fit(x, verbose=0).history) == ["loss", "reconstruction"]
    scores = model.evaluate(x, verbose=0, return_dict=True)
    assert sorted(scores) == ["loss", "reconstruction"]


def test_divergence_ends_the_fit():
    model = free()
    model.compile(keras.optimizers.SGD(1e20), run_eagerly=True)
    with pytest.raises(TrainingDiverged):
        model.fit(X, epochs=5, batch_size=4, verbose=0)


def test_citation():
    assert "draxler2024free" in citation(free())


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (
            lambda: FreeFormFlow(3, network(), (3,)),
            TypeError,
            "encoder must be a Keras layer or model, got int",
        ),
        (
            lambda: FreeFormFlow(network(), "a", (3,)),
            TypeError,
            "decoder must be a Keras layer or model, got str",
        ),
        (
            lambda: FreeFormFlow(keras.layers.Dense(2), keras.layers.Dense(3), (3,)),
            ValueError,
            r"encoder must give as many numbers as an example \(3,\) has, 3; it gives "
            r"codes \(2,\)",
        ),
        (
            lambda: FreeFormFlow(network(), keras.layers.Dense(2), (3,)),
            ValueError,
            r"decoder must give examples \(3,\) of codes \(3,\); it gives \(2,\)",
        ),
        (
            lambda: free(reconstruction_weight=0.0),
            ValueError,
            "reconstruction_weight must be above 0",
        ),
        (
            lambda: FreeFormFlow(network(), network(), (3, 0)),
            ValueError,
            r"event_shape\[1\] must be at least 1",
        ),
        (lambda: free().log_prob(X[:, :2]), ValueError, "x must end in"),
        (lambda: free().decode(X[:, :2]), ValueError, "z must end in"),
        (lambda: free().sample(-1), ValueError, "n must be at least 0"),
        (lambda: free().fit(X * np.nan), ValueError, "x holds NaN"),
        (
            lambda: free().fit(X, sample_weight=np.ones(16)),
            ValueError,
            "sample_weight must be left out",
        ),
        (lambda: free().fit(X[:, :2]), ValueError, r"shape \[batch, 3\], got"),
        (lambda: free().log_prob(X, X), ValueError, "context must be left out"),
        (lambda: free().fit(X, X), ValueError, "y must be left out: the model was"),
        (
            lambda: free().fit(X, validation_data=(X, X)),
            ValueError,
            "y must be left out",
        ),
        (lambda: conditional().sample(2), ValueError, "context is required"),
        (
            lambda: conditional().fit(X),
            ValueError,
            r"y is required, contexts \[\*batch, 2\]",
        ),
        (
            lambda: conditional().fit(X, CONTEXT, validation_data=X),
            ValueError,
            "y is required",
        ),
        (lambda: conditional().predict(X), ValueError, "context is required"),
        (
            lambda: conditional().evaluate(X, X),
            ValueError,
            r"y must have shape \(16, 2\), got \(16, 3\)",
        ),
        (
            lambda: conditional().fit(X, CONTEXT * np.nan),
            ValueError,
            "y holds NaN",
        ),
        (
            lambda: free().compute_loss(y=X, y_pred={"objective": X}),
            ValueError,
            "x must come without labels",
        ),
    ],
)
def test_errors(build, error, match):
    with pytest.raises(error, match=match):
        build()
