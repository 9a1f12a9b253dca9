"""What planar, radial and Sylvester flows share: implicit gradients, amortisation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close, fast_and_slow, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import flows, networks

tfb = tfp.bijectors
tfd = tfp.distributions


FORMS = {
    "planar": lambda **k: B.Planar(3, **k),
    "radial": lambda **k: B.Radial(3, **k),
    "orthogonal": lambda **k: B.Sylvester(3, 2, **k),
    "householder": lambda **k: B.Sylvester(3, 2, "householder", 3, **k),
    "triangular": lambda **k: B.Sylvester(3, parametrization="triangular", **k),
}
every = pytest.mark.parametrize("form", FORMS)


# Gradients of the inverse are those of the implicit function.


@every
def test_gradients_of_the_inverse_by_parameters(form):
    bijector = perturb(FORMS[form](seed=0, dtype="float64"), 0.5)
    y, variables = normal(4, 3), bijector.trainable_variables
    direction = [normal(*v.shape, seed=20 + i) for i, v in enumerate(variables)]
    start = [v.numpy() for v in variables]

    def slope(step=0.0):
        for v, at, d in zip(variables, start, direction, strict=True):
            v.assign(at + step * d)
        with tf.GradientTape() as tape:
            z, log_det = bijector.inverse_and_log_det(y)
            value = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(tf.square(log_det))
        gradient = tape.gradient(value, variables)
        total = tf.add_n(
            [
                tf.reduce_sum(g * d)
                for g, d in zip(gradient, direction, strict=True)
                if g is not None
            ]
        )
        return value, total

    with tf.GradientTape() as tape:
        _, first = slope()
    second = sum(
        float(tf.reduce_sum(g * d))
        for g, d in zip(tape.gradient(first, variables), direction, strict=True)
        if g is not None
    )
    step = 1e-5
    (low, low_slope), (high, high_slope) = slope(-step), slope(step)
    close(first, (high - low) / (2 * step), 1e-6)
    close(second, (high_slope - low_slope) / (2 * step), 1e-6)


# Parameters for each example.


@every
def test_amortised_parameters_are_those_of_each_example(form):
    own = perturb(FORMS[form](seed=0, dtype="float64"), 0.5)
    count = sum(v.shape.num_elements() for v in own.trainable_variables)
    network = keras.layers.Dense(count, kernel_initializer="normal", dtype="float64")
    amortised = FORMS[form](
        conditioner=network, context_shape=(2,), seed=0, dtype="float64"
    )
    context, y = normal(3, 2, seed=5), normal(3, 3)
    offsets = np.asarray(network(context))
    got = amortised.inverse_and_log_det(y, context=context)
    for i in range(3):
        raw = amortised._raw
        parts = np.split(offsets[i], np.cumsum([tf.size(v) for v in raw])[:-1])
        for v, at, part in zip(own.trainable_variables, raw, parts, strict=True):
            v.assign(at + tf.reshape(part, v.shape))
        z, log_det = own.inverse_and_log_det(y[i])
        close(got[0][i], z)
        close(got[1][i], log_det)
    assert np.abs(got[1][0] - got[1][1]) > 1e-6


@pytest.mark.parametrize("form", ["planar", "orthogonal"])
def test_amortised_parameters_learn_from_a_zero_output(form):
    """The variables break the symmetry that zeros would keep for ever."""
    count = {
        "planar": B.Planar.num_parameters(3),
        "orthogonal": B.Sylvester.num_parameters(3, 2),
    }[form]
    network = networks.MLP(count, (6,), seed=0, dtype="float64")
    bijector = FORMS[form](
        conditioner=network, context_shape=(2,), seed=0, dtype="float64"
    )
    context, y = normal(8, 2, seed=5), 2.0 * normal(8, 3)
    close(bijector.inverse(y, context=context), y)
    with tf.GradientTape() as tape:
        z, log_det = bijector.inverse_and_log_det(y, context=context)
        loss = tf.reduce_mean(tf.reduce_sum(z**2, -1) - log_det)
    kernel = network.trainable_variables[-2].value
    assert np.abs(tape.gradient(loss, kernel)).max() > 1e-3


@pytest.mark.parametrize("flow", fast_and_slow(["planar", "sylvester"], "planar"))
def test_amortised_posterior_lowers_the_elbo(flow):
    """A posterior in two dimensions for each x: the ring |z| = x, which bends."""
    build = {"planar": flows.planar, "sylvester": flows.sylvester}[flow]
    posterior = build(
        (2,),
        layers=3,
        explicit="sampling",
        context_shape=(1,),
        width=8,
        depth=1,
        base="diagonal",
        seed=0,
    )
    optimizer = keras.optimizers.Adam(0.02)
    variables = [keras.Variable(v) for v in posterior.trainable_variables]
    x = tf.constant(np.random.default_rng(0).uniform(1, 3, (64, 1)), tf.float32)

    def loss(seed):
        z, log_q = posterior.sample_and_log_prob(seed=seed, context=x)
        log_joint = -0.5 * tf.square((tf.norm(z, axis=-1) - x[:, 0]) / 0.3)
        return tf.reduce_mean(log_q - log_joint)

    @tf.function
    def step(seed):
        with tf.GradientTape() as tape:
            value = loss(seed)
        gradients = tape.gradient(value, posterior.trainable_variables)
        optimizer.apply(gradients, variables)

    optimizer.build(variables)
    before = float(loss(tf.constant([0, 1000])))
    for i in range(100):
        step(tf.constant([0, i]))
    after = float(loss(tf.constant([0, 1000])))
    assert after < before - 1.0
    # The density of points that the posterior did not draw itself.
    z = normal(64, 2, dtype="float32")
    back = posterior.decode(posterior.encode(z, context=x), context=x)
    np.testing.assert_allclose(back, z, atol=1e-4)


def test_number_of_parameters():
    """Of the paper's forms, with Q of D M or of H D numbers and two triangles."""
    assert B.Planar.num_parameters(5) == 11
    assert B.Radial.num_parameters(5) == 7
    triangles = 3 * 4
    assert B.Sylvester.num_parameters(5, 3) == 15 + triangles + 3
    assert B.Sylvester.num_parameters(5, 3, "householder", 4) == 20 + triangles + 3
    assert B.Sylvester.num_parameters(3, parametrization="triangular") == triangles + 3


def test_seeds():
    for build in (B.Planar, B.Radial, B.Sylvester):
        a, b, c = (build(3, seed=s).trainable_variables[0].numpy() for s in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.01
