"""Networks with a Lipschitz constant below one: is it?"""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import fast_and_slow, normal, perturb
from tfp_flows import networks
from tfp_flows.networks.lipschitz_network import _adjoint, _apply, spectral_norm

# Name: how to build it, and the event shape of its input.
NETWORKS = {
    "mlp": (lambda **k: networks.LipschitzMLP(4, (8, 8), **k), (4,)),
    "mlp_wide": (lambda **k: networks.LipschitzMLP(2, (32,), **k), (2,)),
    "conv": (lambda **k: networks.LipschitzConvNet(3, 5, **k), (4, 3, 3)),
    "conv_even": (lambda **k: networks.LipschitzConvNet(2, 4, (2, 5), **k), (3, 5, 2)),
}
every = pytest.mark.parametrize("name", sorted(NETWORKS))


def make(name, dtype="float64", **options):
    build, shape = NETWORKS[name]
    network = build(**{"dtype": dtype, "seed": 0, **options})
    x = normal(3, *shape, dtype=network.variable_dtype)
    network(x)
    return network, x


def dense_operator(kernel, shape):
    """The matrix of a layer, column by column, for inputs of `[*shape]`."""
    size = int(np.prod(shape))
    columns = _apply(kernel, tf.reshape(tf.eye(size, dtype=kernel.dtype), [-1, *shape]))
    return tf.reshape(columns, [size, -1]).numpy().T


def true_norms(network, x):
    """Largest singular value of every layer as it is used, from its whole matrix."""
    norms, shape = [], x.shape[1:]
    for layer in network.bounded_weights():
        kernel = layer["kernel"]
        norms.append(np.linalg.norm(dense_operator(kernel, shape), 2))
        shape = (*shape[:-1], kernel.shape[-1])
    return np.array(norms)


@every
def test_output_shape_and_zero_start(name):
    network, x = make(name)
    out = network(x)
    assert out.shape == (*x.shape[:-1], network.outputs)
    assert network.compute_output_shape(x.shape) == out.shape
    np.testing.assert_array_equal(out, np.zeros(out.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(x) - 1.0))
    gradient = tape.gradient(loss, network.trainable_variables[-1].value)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    perturb(network, 0.5, seed=1)
    assert np.abs(network(x)).min() > 0


@pytest.mark.parametrize(
    ("kernel", "image"),
    [((3, 3, 2, 4), (4, 5)), ((2, 2, 3, 2), (3, 3)), ((5, 3, 1, 2), (2, 4))],
)
def test_operator_of_a_convolution(kernel, image):
    """Its transpose and its norm are those of the matrix that acts on the image."""
    kernel = normal(*kernel)
    x = normal(1, *image, kernel.shape[2], seed=1)
    y = normal(1, *image, kernel.shape[3], seed=2)
    np.testing.assert_allclose(
        tf.reduce_sum(_apply(kernel, x) * y), tf.reduce_sum(x * _adjoint(kernel, y))
    )
    sigma, _ = spectral_norm(kernel, y / tf.norm(y), 1e-12, 10_000)
    matrix = dense_operator(kernel, x.shape[1:])
    np.testing.assert_allclose(sigma, np.linalg.norm(matrix, 2), rtol=1e-6)
    # The reshaped kernel has another norm, which bounds nothing.
    reshaped = np.reshape(kernel, (-1, kernel.shape[3]))
    assert abs(np.linalg.norm(reshaped, 2) / sigma - 1.0) > 0.05


def test_gradient_of_the_spectral_norm():
    kernel, u = normal(5, 4), normal(1, 4, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        sigma, _ = spectral_norm(kernel, u / tf.norm(u), 1e-15, 10_000)
    left, values, right = np.linalg.svd(kernel)
    np.testing.assert_allclose(sigma, values[0], rtol=1e-9)
    np.testing.assert_allclose(
        tape.gradient(sigma, kernel), np.outer(left[:, 0], right[0]), atol=1e-6
    )


def gains(*shape):
    """A kernel that multiplies channels by 5, 2, 1, ..., the image staying as it is."""
    *positions, inputs, outputs = shape
    kernel = np.zeros(shape)
    centre = tuple(n // 2 for n in positions)
    for i in range(min(inputs, outputs)):
        kernel[(*centre, i, i)] = 5.0 if i == 0 else 2.0 if i == 1 else 1.0
    return kernel


def second_channel(shape):
    """The singular vector of the value 2."""
    u = np.zeros(shape)
    u[..., 1] = 1.0
    return u / np.linalg.norm(u)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "state"),
    [
        ((5, 4), (1, 4)),
        ((2, 3), (1, 3)),
        ((1, 1, 3, 4), (1, 1, 1, 4)),
        ((3, 3, 3, 3), (1, 4, 4, 3)),
        ((200, 200), (1, 200)),
    ],
    ids=str,
)
def test_no_vector_hides_the_largest_value(kernel, state, dtype):
    if kernel == (200, 200):
        # Too large to square: all other values are 1.
        operator = np.eye(200)
        operator[:2, :2] = np.diag([5.0, 2.0])
    else:
        operator = gains(*kernel)
    u = tf.constant(second_channel(state), dtype)
    sigma, _ = spectral_norm(tf.constant(operator, dtype), u)
    np.testing.assert_allclose(sigma, 5.0, rtol=1e-3)


@pytest.mark.parametrize("size", [2, 60, 128])
def test_what_is_proved_of_small_matrices(size):
    """After one step already, with values as close as can be."""
    values = np.linspace(0.98, 1.0, size)
    left, right = (
        np.linalg.qr(np.random.default_rng(i).standard_normal((size, size)))[0]
        for i in range(2)
    )
    kernel = tf.constant(left * values @ right.T)
    u = tf.constant(right[:, :1].T)
    sigma, _ = spectral_norm(kernel, u, max_iterations=1)
    assert size ** (-1 / 256) <= sigma <= 1 + 1e-12


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_the_bound_of_weights_set_by_hand_and_loaded(name, tmp_path):
    network, x = make(name, coefficient=0.97)
    limit = network.layer_coefficient

    def worst(network):
        return true_norms(network, x).max() / limit

    for weights, state in zip(network._layers_of_weights, network._states, strict=True):
        weights["kernel"].assign(gains(*weights["kernel"].shape))
        state.assign(second_channel(state.shape))
    assert 0.999 < worst(network) < 1.001
    inputs = keras.Input(x.shape[1:], dtype="float64")
    model = keras.Model(inputs, network(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (again,) = (v for v in loaded.layers if isinstance(v, type(network)))
    assert 0.999 < worst(again) < 1.001


def test_a_kernel_of_zeros_has_norm_zero():
    u = normal(1, 4)
    u /= tf.norm(u)
    kernel = tf.zeros([3, 4], u.dtype)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        sigma, after = spectral_norm(kernel, u)
    assert sigma == 0.0
    np.testing.assert_array_equal(after, u)
    assert np.isfinite(tape.gradient(sigma, kernel)).all()


@every
@pytest.mark.parametrize("dtype", fast_and_slow(["float32", "float64"], "float32"))
def test_bound_holds_from_the_start_by_hand_and_in_training(name, dtype):
    """Against singular values of whole matrices, under steps of a reckless size."""
    network, x = make(name, dtype, coefficient=0.8)
    limit = 0.8 ** (1 / len(network.bounded_weights()))
    assert network.layer_coefficient == pytest.approx(limit)

    def worst():
        return true_norms(network, x).max() / limit

    assert worst() < 1.001
    perturb(network, 2.0, seed=1)
    assert worst() < 1.02
    # Reached too: the bound is used up, and not merely kept.
    assert worst() > 0.99
    optimizer = keras.optimizers.Adam(0.3)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(tf.square(network(x, training=True)))
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        assert worst() < 1.01
    network.normalize()
    assert worst() < 1.0001


@every
@pytest.mark.parametrize("activation", ["lipswish", "elu", "sine"])
def test_lipschitz_constant_of_the_whole(name, activation):
    """No pair of points is spread by more than the coefficient."""
    network, x = make(name, activation=activation, coefficient=0.9)
    perturb(network, 1.0, seed=1)
    network.normalize()
    draw = np.random.default_rng(3)
    a = tf.constant(draw.standard_normal((64, *x.shape[1:])))
    step = tf.constant(draw.standard_normal(a.shape))
    axes = list(range(1, a.shape.rank))
    slopes = []
    for scale in (1e-3, 1.0, 10.0):
        spread = tf.norm(
            tf.reshape(network(a + scale * step) - network(a), [64, -1]), axis=1
        )
        slopes.append(spread / tf.sqrt(tf.reduce_sum((scale * step) ** 2, axes)))
    assert np.max(slopes) <= 0.9
    assert np.max(slopes) > 0.02


def test_slopes_of_the_activations():
    x = tf.constant(np.linspace(-20.0, 20.0, 40_001))
    for activation in ("lipswish", "elu", "sine"):
        network, _ = make("mlp", activation=activation)
        (layer, *_) = network.bounded_weights()
        for beta in (-1.0, 0.5, 6.0):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = network._activate(x, {**layer, "beta": tf.constant(beta, x.dtype)})
            slope = np.abs(tape.gradient(y, x)).max()
            assert 0.99 < slope <= 1.0, activation


def make_given_context(name, **options):
    """A network that has moved, `x`, a context, and the bounded weights."""
    network, x = make(name, **options)
    network = type(network).from_config(network.get_config())
    context = normal(3, 2, seed=5)
    network(x, context)
    perturb(network, 0.5, seed=1)
    return network, x, context, network.bounded_weights()


@every
@pytest.mark.parametrize("activation", ["lipswish", "elu", "sine"])
def test_the_jacobian_of_a_linearised_network(name, activation):
    """As a tape has it, and so are its own derivatives."""
    network, x, context, weights = make_given_context(name, activation=activation)
    u = normal(*x.shape, seed=6)

    def derivatives(pull):
        with tf.GradientTape() as tape:
            tape.watch([x, u, context, weights])
            pulled = pull(x, u)
        sources = [x, u, context, *tf.nest.flatten(weights)]
        return [pulled, *tape.gradient(pulled, sources, normal(*x.shape, seed=7))]

    def by_tape(x, u):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = network.evaluate(weights, x, context)
        return tape.gradient(out, x, u)

    def by_network(x, u):
        out, pull_back = network.linearize(weights, x, context)
        np.testing.assert_array_equal(out, network.evaluate(weights, x, context))
        return pull_back(u)

    pairs = zip(derivatives(by_network), derivatives(by_tape), strict=True)
    for found, expected in pairs:
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@every
@pytest.mark.parametrize("activation", ["lipswish", "elu", "sine"])
def test_the_whole_jacobian(name, activation):
    """As a tape has it, and so are its own derivatives; also of an empty batch."""
    network, x, context, weights = make_given_context(name, activation=activation)
    sizes = (int(np.prod(network(x, context).shape[1:])), int(np.prod(x.shape[1:])))
    upstream = normal(3, *sizes, seed=6)

    def by_tape():
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = network.evaluate(weights, x, context)
        return out, tf.reshape(tape.batch_jacobian(out, x), [3, *sizes])

    sources = [x, context, *tf.nest.flatten(weights)]
    results = []
    for whole in (lambda: network.jacobian(weights, x, context), by_tape):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            out, jacobian = whole()
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(jacobian, sources, upstream, zero)
        results.append([out, jacobian, *gradients])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    nothing, jacobian = network.jacobian(weights, x[:0], context[:0])
    assert nothing.shape == (0, *x.shape[1:]) and jacobian.shape == (0, *sizes)


@every
def test_only_training_moves_the_state(name):
    network, x = make(name)
    perturb(network, 0.5, seed=1)

    def state():
        return [v.numpy() for v in network.non_trainable_variables]

    before, out = state(), network(x).numpy()
    np.testing.assert_array_equal(network(x), out)
    np.testing.assert_array_equal(network(x, training=False), out)
    for a, b in zip(before, state(), strict=True):
        np.testing.assert_array_equal(a, b)
    network(x, training=True)
    after = state()
    assert all(np.abs(a - b).max() > 1e-6 for a, b in zip(before, after, strict=True))
    for vector in after:
        np.testing.assert_allclose(np.linalg.norm(vector), 1.0)


@pytest.mark.parametrize("name", fast_and_slow(NETWORKS, "mlp"))
def test_eager_function_and_xla_agree(name):
    network, x = make(name)
    perturb(network, 0.5, seed=1)
    for jit in (False, True):
        for training in (False, True):
            expected = network(x)
            traced = tf.function(
                lambda x: network(x, training=training), jit_compile=jit
            )
            np.testing.assert_allclose(traced(x), expected, rtol=1e-9, atol=1e-12)


@every
def test_context_shifts_hidden_layers_and_is_not_bounded(name):
    build, shape = NETWORKS[name]
    network = build(dtype="float64", seed=0, activation="sine")
    x, context = normal(3, *shape), normal(3, 2, seed=5)
    network(x, context)
    perturb(network, 0.5, seed=1)
    out = network(x, context)
    assert np.abs(network(x, context + 1.0) - out).max() > 1e-3
    if len(shape) == 3:
        image = tf.broadcast_to(context[:, None, None], (3, *shape[:-1], 2))
        np.testing.assert_allclose(network(x, image), out)
    # A bound on the context's kernel would level these out.
    for layer in network.bounded_weights()[:-1]:
        assert np.linalg.norm(layer["context"], 2) > 1.0
    with pytest.raises(ValueError, match="context must be a vector"):
        build()(x, normal(3, 2, 2, 2, 2))


@every
def test_files_and_configurations(name, tmp_path):
    network, x = make(name, coefficient=0.7, activation="elu")
    perturb(network, 0.5, seed=1)
    network(x, training=True)
    inputs = keras.Input(x.shape[1:], dtype="float64")
    model = keras.Model(inputs, network(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    (again,) = (v for v in loaded.layers if isinstance(v, type(network)))
    assert again.get_config() == network.get_config()
    for a, b in zip(again.variables, network.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    config = json.loads(json.dumps(network.get_config()))
    other = type(network).from_config(config)
    other(x)
    assert [v.shape for v in other.variables] == [v.shape for v in network.variables]


def test_seeds_and_float32_under_a_half_precision_policy():
    one, x = make("mlp", "float32")
    two, _ = make("mlp", "float32")
    other, _ = make("mlp", "float32", seed=1)
    for a, b, c in zip(one.variables, two.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a, b)
        if "kernel" in a.path and "output" not in a.path:
            assert np.abs(a - c).max() > 0.01
    half, _ = make("mlp", "mixed_float16")
    perturb(one, 0.5, seed=1), perturb(half, 0.5, seed=1)
    out = half(x)
    assert out.dtype == tf.float32
    np.testing.assert_array_equal(out, one(x))


def test_mirrored_strategy():
    """Every replica makes the same step of the power iteration."""
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        network, x = make("mlp", "float32")
        perturb(network, 0.5, seed=1)

    @tf.function
    def step(x):
        return strategy.run(lambda x: network(x, training=True), (x,))

    before = [v.numpy() for v in network.non_trainable_variables]
    out = step(x)
    np.testing.assert_allclose(out, network(x), atol=1e-3)
    for a, b in zip(before, network.non_trainable_variables, strict=True):
        assert np.abs(a - b).max() > 1e-6


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: networks.LipschitzMLP(0), "outputs.*got 0"),
        (lambda: networks.LipschitzMLP(2, coefficient=1.0), "coefficient.*got 1.0"),
        (lambda: networks.LipschitzMLP(2, coefficient=0.0), "coefficient.*got 0.0"),
        (lambda: networks.LipschitzMLP(2, coefficient=-0.5), "coefficient.*-0.5"),
        (
            lambda: networks.LipschitzMLP(2, activation="relu6"),
            "elu.*lipswish.*sine.*relu6",
        ),
        (lambda: networks.LipschitzMLP(2, ()), "hidden_units"),
        (lambda: networks.LipschitzMLP(2, (3, 0)), "hidden_units"),
        (lambda: networks.LipschitzConvNet(2, 4, ()), "kernels"),
        (lambda: networks.LipschitzConvNet(2, 0), "width"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@every
@pytest.mark.parametrize("count", fast_and_slow([0, 3], 0))
def test_built_and_differentiated_in_a_trace_of_few_or_no_examples(name, count):
    build, shape = NETWORKS[name]
    network = build(seed=0)

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = network(x)
        return out, tape.gradient(out, x)

    x = tf.ones([count, *shape])
    out, slope = gradient(x)
    assert out.shape == (count, *shape[:-1], network.outputs)
    assert slope.shape == x.shape
    for found, expected in zip(
        network.trainable_variables,
        make(name, "float32")[0].trainable_variables,
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: networks.LipschitzMLP(2, (3, 2.5)), r"hidden_units\[1\].*2.5"),
        (lambda: networks.LipschitzConvNet(2, 4, (1.5,)), r"kernels\[0\].*1.5"),
        (lambda: networks.LipschitzConvNet(2, 2.5), "width.*2.5"),
    ],
)
def test_parts_of_units_are_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
