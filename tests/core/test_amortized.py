"""Planar, radial and Sylvester flows: edges, implicit gradients, amortisation."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close, fast_and_slow
from tfp_flows import bijectors as B
from tfp_flows import flows, networks
from tfp_flows.core.walk import runs_of

tfb = tfp.bijectors
tfd = tfp.distributions


def draw(*shape, seed=0, scale=1.0, dtype="float64"):
    values = scale * np.random.default_rng(seed).standard_normal(shape)
    return tf.constant(values, dtype)


def assign(bijector, **values):
    for v in bijector.trainable_variables:
        name = v.name.split(":")[0]
        if name in values:
            v.assign(np.reshape(values[name], v.shape))
    return bijector


def perturbed(bijector, scale=0.5, seed=3):
    for i, v in enumerate(bijector.trainable_variables):
        v.assign_add(draw(*v.shape, seed=seed + i, scale=scale, dtype=v.dtype))
    return bijector


def softplus(x):
    return np.logaddexp(0.0, x)


FORMS = {
    "planar": lambda **k: B.Planar(3, **k),
    "radial": lambda **k: B.Radial(3, **k),
    "orthogonal": lambda **k: B.Sylvester(3, 2, **k),
    "householder": lambda **k: B.Sylvester(3, 2, "householder", 3, **k),
    "triangular": lambda **k: B.Sylvester(3, form="triangular", **k),
}
every = pytest.mark.parametrize("form", FORMS)


# The formulas.


@pytest.mark.parametrize(
    ("activation", "negative_slope"), [("tanh", 0.2), ("leaky_relu", 0.3)]
)
def test_planar_formula(activation, negative_slope):
    bijector = B.Planar(3, activation, negative_slope, dtype="float64")
    w, v, b = np.array([1.0, -2.0, 0.5]), np.array([-3.0, 1.0, 0.7]), 0.3
    assign(bijector, w=w, v=v, b=b)
    v = v / (1 + softplus(-w @ v))
    z = draw(6, 3).numpy()
    a = z @ w + b
    if activation == "tanh":
        h, slope = np.tanh(a), np.cosh(a) ** -2.0
    else:
        h = np.where(a > 0, a, negative_slope * a)
        slope = np.where(a > 0, 1.0, negative_slope)
    y, log_det = bijector.forward_and_log_det(z)
    close(y, z + v * h[:, None], 1e-12)
    close(log_det, np.log(1 + (w @ v) * slope), 1e-12)


@pytest.mark.parametrize("raw_gamma", [-2.0, 3.0])
def test_radial_formula(raw_gamma):
    bijector = B.Radial(3, seed=0, dtype="float64")
    assign(bijector, alpha=0.4, gamma=raw_gamma)
    one = np.log(np.e - 1)
    alpha, gamma = softplus(0.4 + one), softplus(raw_gamma + one)
    beta = alpha * (gamma - 1)
    z, center = draw(6, 3).numpy(), bijector.trainable_variables[0].numpy()
    r = np.linalg.norm(z - center, axis=1, keepdims=True)
    y, log_det = bijector.forward_and_log_det(z)
    close(y, z + beta / (alpha + r) * (z - center), 1e-12)
    expected = 2 * np.log1p(beta / (alpha + r)) + np.log1p(
        beta / (alpha + r) - beta * r / (alpha + r) ** 2
    )
    close(log_det, expected[:, 0], 1e-12)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_sylvester_of_one_column_is_planar(activation):
    """With Q = q, R = r and w = R~ q: v = r q."""
    sylvester = B.Sylvester(3, 1, activation=activation, seed=0, dtype="float64")
    q = sylvester.trainable_variables[0].numpy()[:, 0]
    assign(sylvester, triangles=-1.7, diagonal=2.0, b=0.4)
    planar = B.Planar(3, activation, dtype="float64")
    assign(planar, w=2.0 * q, v=-1.7 * q, b=0.4)
    z = draw(5, 3)
    for a, b in zip(
        (*sylvester.forward_and_log_det(z), *sylvester.inverse_and_log_det(z)),
        (*planar.forward_and_log_det(z), *planar.inverse_and_log_det(z)),
        strict=True,
    ):
        close(a, b, 1e-12)


@pytest.mark.parametrize("form", ["orthogonal", "householder", "triangular"])
def test_sylvester_formula(form):
    columns = 4 if form == "triangular" else 3
    bijector = perturbed(B.Sylvester(4, columns, form, seed=0, dtype="float64"), 1.0)
    *basis, triangles, diagonal, b = (v.numpy() for v in bijector.trainable_variables)
    if form == "orthogonal":
        left, _, right = np.linalg.svd(basis[0], full_matrices=False)
        q = left @ right
    elif form == "householder":
        q = np.eye(4)
        for v in basis[0]:
            q = q @ (np.eye(4) - 2 * np.outer(v, v) / (v @ v))
        q = q[:, :columns]
    else:
        q = np.eye(4)
    r = np.triu(triangles)
    inner = np.tril(triangles, -1).T + np.diag(diagonal)
    product = np.diag(r) * diagonal
    r = r - np.diag(np.diag(r)) + np.diag(np.diag(r) / (1 + softplus(-product)))
    z = draw(5, 4).numpy()
    y = z + np.tanh(z @ q @ inner.T + b) @ r.T @ q.T
    close(bijector.forward(z), y, 1e-12)


def test_orthogonalisation_converges_or_says_so():
    raw = draw(6, 4, seed=1).numpy()
    left, _, right = np.linalg.svd(raw, full_matrices=False)
    z = draw(3, 6)
    for smallest, valid in ((1.0, True), (1e-5, True), (0.0, False)):
        bijector = B.Sylvester(6, 4, dtype="float64")
        perturbed(bijector)
        scales = np.array([1e3, 10.0, 2.0, smallest * 1e3])
        assign(bijector, basis=left * scales @ right)
        q, *_ = bijector._parameters_of(None)
        y, log_det = bijector.forward_and_log_det(z)
        assert np.isfinite(y).all()
        if valid:
            close(tf.transpose(q) @ q, np.eye(4), 1e-12)
            close(bijector.inverse(y), z)
        assert np.isfinite(log_det).all() == valid


# Inverses at the edge of what is allowed.


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("product", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_planar_round_trip_at_the_edge(activation, product):
    """w^T v from nearly -1 to ten thousand, also where the slope is the smallest."""
    w = np.array([0.6, 0.8])
    bijector = B.Planar(2, activation, dtype="float64")
    assign(bijector, w=w, v=product * w + [0.8, -0.6], b=0.3)
    z = np.concatenate(
        [
            draw(50, 2).numpy(),
            1e-6 * draw(50, 2, seed=1).numpy() - 0.3 * w,
            100 * draw(50, 2, seed=2).numpy(),
        ]
    )
    y, log_det = bijector.forward_and_log_det(z)
    assert np.isfinite(log_det).all()
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    close(back, z)
    close(inverse_log_det, -log_det, 1e-8)
    size = max(1.0, abs(product) / 100)
    close(bijector.forward(bijector.inverse(z)) / size, z / size)


@pytest.mark.parametrize("negative_slope", [0.0, 3.0])
def test_planar_leaky_relu_of_any_slope(negative_slope):
    w = np.array([0.6, 0.8])
    bijector = B.Planar(2, "leaky_relu", negative_slope, dtype="float64")
    assign(bijector, w=w, v=-50 * w, b=0.3)
    z = draw(50, 2, scale=3.0)
    y, log_det = bijector.forward_and_log_det(z)
    assert np.isfinite(log_det).all()
    close(bijector.inverse(y), z)
    # The steeper side is the one that is nearly flattened.
    steep = (z.numpy() @ w + 0.3 < 0) == (negative_slope > 1)
    assert np.max(log_det.numpy()[steep]) < -3 < np.min(log_det.numpy()[~steep])


@pytest.mark.parametrize(
    "build", [B.Planar, lambda n, *a, **k: B.Sylvester(n, 2, *a, **k)]
)
def test_log_determinants_in_steps_have_a_gradient_of_zeros(build):
    bijector = build(2, activation="leaky_relu", dtype="float64")
    for method in ("forward_log_det_jacobian", "inverse_log_det_jacobian"):
        x = tf.constant([[0.5, -1.0], [-np.inf, 2.0], [3.0, np.inf]], "float64")
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_det = getattr(perturbed(bijector), method)(x, 1)
        np.testing.assert_array_equal(tape.gradient(log_det, x)[0], np.zeros(2))
        assert not np.isnan(log_det[0])


@pytest.mark.parametrize("product", np.linspace(-1e3, 1e3, 7))
def test_the_constraint_is_strict_and_reaches_everything(product):
    """The smallest slope of a planar layer is 1 + w^T v, at its hyperplane."""
    bijector = B.Planar(1, dtype="float64")
    assign(bijector, w=1.0, v=product)
    slope = np.exp(bijector.forward_log_det_jacobian([[0.0]], 1))
    close(slope, (1 + softplus(product)) / (1 + softplus(-product)), 1e-11)
    assert 0 < slope[0] < 2e3
    assert (slope[0] < 1) == (product < 0)


@pytest.mark.parametrize("raw_gamma", [-14.0, -3.0, 5.0, 1e3])
def test_radial_round_trip_at_the_edge(raw_gamma):
    bijector = assign(B.Radial(3, seed=0, dtype="float64"), gamma=raw_gamma)
    center = bijector.trainable_variables[0].numpy()
    z = np.concatenate(
        [
            center + 1e-3 * draw(20, 3).numpy(),
            draw(20, 3, seed=1).numpy(),
            1e3 * draw(20, 3, seed=2).numpy(),
            [center],
        ]
    )
    y, log_det = bijector.forward_and_log_det(z)
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    close(back, z)
    # Close to the center, distances have lost digits before a bijector sees them.
    close(inverse_log_det, -log_det, 1e-8)
    close(bijector.forward(bijector.inverse(z)), z)


def test_radial_derivatives_at_its_center_are_finite():
    bijector = perturbed(B.Radial(3, seed=0, dtype="float64"))
    y = tf.convert_to_tensor(bijector.trainable_variables[0])[None]
    for function in (bijector.forward_and_log_det, bijector.inverse_and_log_det):
        with tf.GradientTape() as second:
            second.watch(y)
            with tf.GradientTape() as first:
                first.watch(y)
                value, log_det = function(y)
                value = tf.reduce_sum(tf.sin(value)) + tf.reduce_sum(log_det)
            gradient = first.gradient(value, y)
        assert np.isfinite(gradient).all()
        assert np.isfinite(second.gradient(gradient, y)).all()


@pytest.mark.parametrize("form", ["orthogonal", "householder", "triangular"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_sylvester_inverts_with_large_parameters(form, activation):
    columns = 6 if form == "triangular" else 5
    bijector = B.Sylvester(
        6, columns, form, activation=activation, seed=0, dtype="float64"
    )
    perturbed(bijector, 3.0)
    z = draw(40, 6, scale=2.0)
    y, log_det = bijector.forward_and_log_det(z)
    assert np.abs(log_det).max() > 2
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    # What is lost is what the condition of the map loses.
    close(bijector.forward(back), y)
    close(back, z, 1e-7)
    close(inverse_log_det, -log_det, 1e-6)


# Gradients of the inverse are those of the implicit function.


@every
def test_gradients_of_the_inverse_by_parameters(form):
    bijector = perturbed(FORMS[form](seed=0, dtype="float64"))
    y, variables = draw(4, 3), bijector.trainable_variables
    direction = [draw(*v.shape, seed=20 + i) for i, v in enumerate(variables)]
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
    own = perturbed(FORMS[form](seed=0, dtype="float64"))
    count = sum(v.shape.num_elements() for v in own.trainable_variables)
    network = keras.layers.Dense(count, kernel_initializer="normal", dtype="float64")
    amortised = FORMS[form](
        conditioner=network, context_shape=(2,), seed=0, dtype="float64"
    )
    context, y = draw(3, 2, seed=5), draw(3, 3)
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
    context, y = draw(8, 2, seed=5), draw(8, 3, scale=2.0)
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
        direction="sampling",
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
    z = draw(64, 2, dtype="float32")
    back = posterior.decode(posterior.encode(z, context=x), context=x)
    np.testing.assert_allclose(back, z, atol=1e-4)


# Densities.

READY = {
    "planar": lambda **k: flows.planar((2,), layers=3, **k),
    "planar_leaky": lambda **k: flows.planar(
        (2,), layers=3, activation="leaky_relu", **k
    ),
    "radial": lambda **k: flows.radial((2,), layers=3, **k),
    "orthogonal": lambda **k: flows.sylvester((2,), layers=2, **k),
    "householder": lambda **k: flows.sylvester(
        (2,), layers=2, columns=1, form="householder", **k
    ),
    "triangular": lambda **k: flows.sylvester((2,), layers=2, form="triangular", **k),
}


# Densities of flows that sample need a root for each point of the grid.
@pytest.mark.parametrize(
    ("name", "direction"),
    [
        pytest.param(name, direction, marks=() if name in fast else pytest.mark.slow)
        for direction, fast in [
            ("density", ("planar", "triangular")),
            ("sampling", ("radial",)),
        ]
        for name in READY
    ],
)
def test_densities_of_external_points_integrate_to_one(name, direction):
    flow = READY[name](direction=direction, seed=0, dtype="float64")
    perturbed(flow, 0.7)
    axis = np.linspace(-30, 30, 601)
    points = np.array(list(itertools.product(axis, axis)))
    density = tf.function(lambda x: tf.exp(flow.log_prob(x)))
    total = sum(float(tf.reduce_sum(density(p))) for p in np.array_split(points, 9))
    kinks = 3e-3 if name in ("planar_leaky", "radial") else 1e-5
    assert abs(total * (axis[1] - axis[0]) ** 2 - 1) < kinks
    x = draw(4, 2)
    assert np.abs(flow.log_prob(x) - flow.distribution.log_prob(x)).max() > 0.1


@pytest.mark.parametrize("name", [n for n in READY if n != "triangular"])
def test_direction_is_a_matter_of_inversion(name):
    """The same layers, one way round and the other."""
    x = draw(4, 2)
    for direction in ("density", "sampling"):
        flow = perturbed(READY[name](direction=direction, seed=0, dtype="float64"))
        layers = [
            step.bijector
            for run in runs_of(flow.bijector, direction == "sampling", 1)
            for step in run.steps
            if isinstance(step.bijector, (B.Planar, B.Radial, B.Sylvester))
        ]
        assert len(layers) >= 2
        expected = x
        for layer in layers:
            expected = layer.forward(expected)
        got = flow.encode(x) if direction == "density" else flow.decode(x)
        close(got, expected, 1e-12)


@pytest.mark.parametrize("build", [flows.planar, flows.radial, flows.sylvester])
def test_a_context_by_vector_or_label(build):
    for options, context, other in (
        ({"context_shape": (2,)}, draw(4, 2, seed=8), draw(4, 2, seed=9)),
        ({"num_classes": 3}, tf.constant([0, 1, 2, 1]), tf.constant([1, 2, 0, 0])),
    ):
        flow = build((3,), layers=2, width=6, seed=0, dtype="float64", **options)
        perturbed(flow)
        x = draw(4, 3)
        log_prob = flow.log_prob(x, context=context)
        assert np.abs(flow.log_prob(x, context=other) - log_prob).min() > 1e-6
        z = flow.encode(x, context=context)
        close(flow.decode(z, context=context), x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(x, context=context))
        for v, g in zip(
            flow.trainable_variables,
            tape.gradient(loss, flow.trainable_variables),
            strict=True,
        ):
            assert g is not None and np.abs(g).max() > 0, v.name


def test_number_of_parameters():
    """Of the paper's forms, with Q of D M or of H D numbers and two triangles."""
    assert B.Planar.num_parameters(5) == 11
    assert B.Radial.num_parameters(5) == 7
    triangles = 3 * 4
    assert B.Sylvester.num_parameters(5, 3) == 15 + triangles + 3
    assert B.Sylvester.num_parameters(5, 3, "householder", 4) == 20 + triangles + 3
    assert B.Sylvester.num_parameters(3, form="triangular") == triangles + 3


def test_seeds():
    for build in (B.Planar, B.Radial, B.Sylvester):
        a, b, c = (build(3, seed=s).trainable_variables[0].numpy() for s in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.01


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Planar(0), "size must be at least 1, got 0"),
        (lambda: B.Radial(-1), "size must be at least 1, got -1"),
        (lambda: B.Planar(3, "relu"), "tanh.*leaky_relu.*'relu'"),
        (lambda: B.Planar(3, "leaky_relu", -0.1), "negative_slope.*-0.1"),
        (lambda: B.Planar(3, context_shape=(2,)), "go together.*only context_shape"),
        (lambda: B.Planar(3, conditioner=tf.identity), "go together.*only conditioner"),
        (
            lambda: B.Planar(3, conditioner=tf.identity, context_shape=(2,)),
            r"batch, 7\] \(3 for w, 3 for v, 1 for b\).*\[batch, 2\]",
        ),
        (lambda: B.Sylvester(3, 0), "between 1 and the size of an event, 3; got 0"),
        (lambda: B.Sylvester(3, 4), "between 1 and the size of an event, 3; got 4"),
        (lambda: B.Sylvester(3, 2, "qr"), "orthogonal.*householder.*triangular.*'qr'"),
        (lambda: B.Sylvester(3, 2, "triangular"), "columns equal to.*3; got 2"),
        (lambda: B.Sylvester(3, 2, reflections=2), "householder.*'orthogonal'"),
        (lambda: B.Sylvester(3, 2, "householder", 0), "reflections.*got 0"),
        (lambda: B.Sylvester(3, activation="relu"), "tanh.*leaky_relu"),
        (lambda: flows.radial((2,), direction="both"), "density.*sampling.*'both'"),
        (lambda: flows.planar((2,), layers=0), "layers must be at least 1, got 0"),
        (lambda: flows.planar((2,), context_shape=(2, 2)), r"\(C,\), got \(2, 2\)"),
        (lambda: flows.sylvester((3,), columns=5), "columns.*got 5"),
        (lambda: flows.sylvester((3,), form="full"), "orthogonal.*'full'"),
    ],
)
def test_errors_name_the_argument(build, words):
    with pytest.raises(ValueError, match=words):
        build()
