"""Every conditioner network: shapes, start, context, files, precision."""

from __future__ import annotations

import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import normal, perturb
from tfp_flows import bijectors, distributions, masks, networks
from tfp_flows.networks.pointwise import Pointwise

BATCH, OUTPUTS = 3, 5

# Name: how to build it, and the event shape of its input.
NETWORKS: dict[str, tuple[Callable[..., networks.Network], tuple[int, ...]]] = {
    "mlp": (lambda **k: networks.MLP(OUTPUTS, (8, 8), **k), (4,)),
    "mlp_linear": (lambda **k: networks.MLP(OUTPUTS, (), **k), (4,)),
    "residual_mlp": (
        lambda **k: networks.ResidualMLP(OUTPUTS, width=8, depth=2, **k),
        (4,),
    ),
    "conv": (lambda **k: networks.ConvNet(OUTPUTS, 8, **k), (4, 3, 2)),
    "conv_prior": (lambda **k: networks.ConvNet(OUTPUTS, 8, (), **k), (4, 3, 2)),
    "residual_conv": (
        lambda **k: networks.ResidualConvNet(OUTPUTS, width=8, depth=2, **k),
        (4, 3, 2),
    ),
    "residual_gated": (
        lambda **k: networks.GatedResidualConvNet(
            OUTPUTS, width=8, depth=2, heads=2, **k
        ),
        (4, 3, 2),
    ),
}
HIDDEN = sorted(set(NETWORKS) - {"mlp_linear", "conv_prior"})
every = pytest.mark.parametrize("name", sorted(NETWORKS))
with_hidden = pytest.mark.parametrize("name", HIDDEN)


def contexts(shape: tuple[int, ...]) -> dict[str, tf.Tensor | None]:
    found = {"none": None, "vector": normal(BATCH, 3, seed=2, dtype="float32")}
    if len(shape) == 3:
        found["image"] = normal(BATCH, *shape[:2], 3, seed=2, dtype="float32")
    return found


@every
def test_output_shape_and_zero_start(name):
    build, shape = NETWORKS[name]
    x = normal(BATCH, *shape, dtype="float32")
    for mode in ("concat", "film"):
        for kind, context in contexts(shape).items():
            if mode == "film" and kind == "image":
                continue
            network = build(context_mode=mode, seed=0)
            arguments = (x,) if context is None else (x, context)
            out = network(*arguments)
            assert out.shape == (BATCH, *shape[:-1], OUTPUTS), (mode, kind)
            assert out.dtype == tf.float32
            np.testing.assert_array_equal(out, np.zeros(out.shape))
            perturb(network, 0.3, seed=1, match="output")
            assert np.abs(network(*arguments)).min() > 0, (mode, kind)


@pytest.mark.parametrize(
    ("kind", "width", "shape"),
    [
        (networks.MLP, (8,), (4,)),
        (networks.ResidualMLP, 8, (4,)),
        (networks.GatedResidualConvNet, 8, (4, 4, 2)),
    ],
)
def test_an_output_scale_multiplies_the_output(kind, width, shape):
    x = normal(BATCH, *shape, dtype="float32")
    plain = kind(OUTPUTS, width, seed=0)
    scaled = kind(OUTPUTS, width, output_scale=0.5, seed=0)
    again = kind.from_config(scaled.get_config())
    for network in (plain, scaled, again):
        network(x)
        perturb(network, 0.3, seed=1)
    np.testing.assert_allclose(scaled(x), 0.5 * plain(x), rtol=1e-6)
    np.testing.assert_array_equal(again(x), scaled(x))


@every
@pytest.mark.parametrize("mode", ["concat", "film"])
def test_empty_batches(name, mode):
    """A result for no example: with oneDNN, a convolution alone has a wrong shape."""
    build, shape = NETWORKS[name]
    network = build(context_mode=mode, seed=0)
    x, context = (normal(BATCH, *s, dtype="float32")[:0] for s in (shape, (3,)))
    expected = (0, *shape[:-1], OUTPUTS)
    assert network(x, context).shape == expected
    signature = [tf.TensorSpec([None, *part.shape[1:]]) for part in (x, context)]
    assert tf.function(network, signature)(x, context).shape == expected


@every
def test_zero_start_learns(name):
    """A gradient reaches the output layer, so that the zeros do not stay."""
    build, shape = NETWORKS[name]
    network = build(seed=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(normal(BATCH, *shape, dtype="float32")))
    variables = [v.value for v in network.trainable_variables if "output" in v.path]
    assert len(variables) == 2
    for gradient in tape.gradient(loss, variables):
        assert np.abs(gradient).max() > 0


@with_hidden
def test_residual_blocks_start_as_the_identity(name):
    """With the blocks at zero their number makes no difference."""
    if not name.startswith("residual"):
        # The others have no blocks: their hidden layers start at random instead.
        build, shape = NETWORKS[name]
        network = build(seed=0)
        network(normal(BATCH, *shape, dtype="float32"))
        kernels = [v for v in network.variables if "hidden" in v.path and v.ndim > 1]
        assert len(kernels) == 2
        assert all(np.std(kernel) > 0.05 for kernel in kernels)
        return
    kind = type(NETWORKS[name][0]())
    x = normal(BATCH, *NETWORKS[name][1], dtype="float32")
    outs = []
    for blocks in (0, 3):
        network = kind(OUTPUTS, 8, blocks, seed=0)
        network(x)
        perturb(network, 0.3, seed=1, match="output")
        outs.append(network(x))
    np.testing.assert_array_equal(*outs)


@every
def test_concat_is_a_wider_input(name):
    build, shape = NETWORKS[name]
    x, context = (
        normal(BATCH, *shape, dtype="float32"),
        normal(BATCH, 3, seed=2, dtype="float32"),
    )
    network, wide = build(seed=0), build(seed=0)
    repeated = tf.broadcast_to(
        tf.reshape(context, (BATCH, *[1] * (len(shape) - 1), 3)),
        (BATCH, *shape[:-1], 3),
    )
    joined = tf.concat([x, repeated], -1)
    network(x, context), wide(joined)
    perturb(network, 0.3, seed=1), perturb(wide, 0.3, seed=1)
    np.testing.assert_allclose(network(x, context), wide(joined), rtol=1e-6, atol=1e-6)
    if len(shape) == 3:
        np.testing.assert_allclose(
            network(x, repeated), wide(joined), rtol=1e-6, atol=1e-6
        )
    other = network(x, context + 1.0)
    assert np.abs(other - network(x, context)).max() > 1e-3


@pytest.mark.parametrize("name", ["conv", "residual_conv", "residual_gated", "bounded"])
def test_contexts_of_other_sides(name):
    """More pixels are squeezed to those of the input, fewer are repeated."""

    def build():
        if name == "bounded":
            return networks.LipschitzConvNet(OUTPUTS, 8, seed=0)
        return NETWORKS[name][0](seed=0)

    x = normal(BATCH, 4, 3, 2, dtype="float32")
    fine = normal(BATCH, 8, 6, 2, seed=2, dtype="float32")
    coarse = normal(BATCH, 2, 1, 2, seed=3, dtype="float32")
    mixed = normal(BATCH, 8, 1, 2, seed=4, dtype="float32")
    rows = mixed.numpy().reshape(BATCH, 4, 2, 1, 2)
    expected = [
        (fine, bijectors.Squeeze(2).forward(fine)),
        (coarse, np.repeat(np.repeat(coarse, 2, 1), 3, 2)),
        (mixed, np.concatenate([rows[:, :, i].repeat(3, 2) for i in (0, 1)], -1)),
    ]
    for context, same in expected:
        network, plain = build(), build()
        network(x, context), plain(x, same)
        perturb(network, 0.3, seed=1), perturb(plain, 0.3, seed=1)
        np.testing.assert_array_equal(network(x, context), plain(x, same))
        specs = [tf.TensorSpec([None, *part.shape[1:]]) for part in (x, context)]
        traced = tf.function(lambda *a, n=network: n(*a), specs)(x, context)
        np.testing.assert_allclose(traced, network(x, context), atol=1e-5)
    wrong = r"multiples or fractions of those of the input, \(4, 3\); got \(8, 4\)"
    with pytest.raises(ValueError, match=wrong):
        build()(x, normal(BATCH, 8, 4, 1, dtype="float32"))


@with_hidden
def test_film_starts_without_effect_and_then_modulates(name):
    build, shape = NETWORKS[name]
    x, context = (
        normal(BATCH, *shape, dtype="float32"),
        normal(BATCH, 3, seed=2, dtype="float32"),
    )
    network, plain = build(context_mode="film", seed=0), build(seed=0)
    network(x, context), plain(x)
    for part in ("output", "block"):
        (
            perturb(network, 0.3, seed=1, match=part),
            perturb(plain, 0.3, seed=1, match=part),
        )
    np.testing.assert_array_equal(network(x, context), plain(x))
    perturb(network, 0.3, seed=1, match="film")
    difference = np.abs(network(x, context) - plain(x))
    assert difference.reshape(BATCH, -1).max(1).min() > 1e-3


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_film_formula(name):
    """`relu((1 + gamma) h + beta)`, written out for one hidden layer."""
    if name == "mlp":
        network = networks.MLP(2, (4,), context_mode="film", seed=0)
        x = normal(BATCH, 3, dtype="float32")
    else:
        network = networks.ConvNet(2, 4, (1,), context_mode="film", seed=0)
        x = normal(BATCH, 2, 2, 3, dtype="float32")
    context = normal(BATCH, 2, seed=2, dtype="float32")
    network(x, context)
    perturb(network, 0.3, seed=1)
    values = {v.path.split("/", 1)[1]: np.asarray(v) for v in network.variables}
    gamma, beta = np.split(
        context @ values["film_0/kernel"] + values["film_0/bias"], 2, -1
    )
    kernel = values["hidden_0/kernel"]
    h = x @ kernel.reshape(kernel.shape[-2:]) + values["hidden_0/bias"]
    if name == "conv":
        gamma, beta = gamma[:, None, None], beta[:, None, None]
    h = np.maximum((1 + gamma) * h + beta, 0)
    kernel = values["output/kernel"]
    expected = (
        h @ kernel if name == "mlp" else tf.nn.conv2d(h, kernel, 1, "SAME")
    ) + values["output/bias"]
    np.testing.assert_allclose(network(x, context), expected, rtol=1e-5, atol=1e-5)


@every
def test_configuration_round_trip_through_json(name):
    build, shape = NETWORKS[name]
    network = build(
        activation="tanh",
        context_mode="film",
        seed=3,
        kernel_regularizer=keras.regularizers.L2(0.1),
        dtype="float64",
    )
    text = json.dumps(keras.saving.serialize_keras_object(network))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(network)
    assert again.get_config() == network.get_config()
    x = normal(BATCH, *shape, dtype="float64")
    context = normal(BATCH, 3, dtype="float64", seed=2)
    network(x, context), again(x, context)
    for a, b in zip(network.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    perturb(network, 0.3, seed=1), perturb(again, 0.3, seed=1)
    np.testing.assert_array_equal(network(x, context), again(x, context))
    assert len(again.losses) == len(network.losses) > 0


@every
def test_keras_file_round_trip(name, tmp_path):
    build, shape = NETWORKS[name]
    x, context = keras.Input(shape), keras.Input((3,))
    model = keras.Model([x, context], build(seed=0)(x, context))
    perturb(model, 0.3, seed=1)
    model.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    data = [
        normal(BATCH, *shape, dtype="float32"),
        normal(BATCH, 3, seed=2, dtype="float32"),
    ]
    np.testing.assert_array_equal(model(data), loaded(data))


@every
def test_seeds(name):
    build, shape = NETWORKS[name]

    def start(seed):
        network = build(seed=seed)
        network(normal(BATCH, *shape, dtype="float32"))
        return [np.asarray(v) for v in network.variables]

    def random(values):
        return [v for v in values if v.any()]

    for a, b in zip(start(0), start(0), strict=True):
        np.testing.assert_array_equal(a, b)
    for seeds in ((0, 1), (None, None)):
        for a, b in zip(*(random(start(seed)) for seed in seeds), strict=True):
            assert np.abs(a - b).max() > 0.01


def test_layers_of_one_network_start_differently():
    network = networks.MLP(2, (6, 6, 6), seed=0)
    network(normal(BATCH, 6, dtype="float32"))
    first, second, third = (
        np.asarray(v)
        for v in network.variables
        if "hidden" in v.path and v.path.endswith("kernel")
    )
    assert np.abs(first - second).max() > 0.1
    assert np.abs(second - third).max() > 0.1


@every
def test_kernel_regularizer_counts_every_kernel(name):
    build, shape = NETWORKS[name]
    network = build(kernel_regularizer=keras.regularizers.L2(0.25), seed=0)
    network(normal(BATCH, *shape, dtype="float32"))
    perturb(network, 0.3, seed=1)
    expected = 0.25 * sum(
        np.square(v).sum() for v in network.variables if v.path.endswith("kernel")
    )
    np.testing.assert_allclose(sum(network.losses), expected, rtol=1e-5)


@every
def test_float64(name):
    build, shape = NETWORKS[name]
    network = build(dtype="float64", seed=0)
    x = normal(BATCH, *shape, dtype="float64")
    context = normal(BATCH, 3, dtype="float64", seed=2)
    assert network(x, context).dtype == tf.float64
    assert {v.dtype for v in network.variables} == {"float64"}
    perturb(network, 0.3, seed=1)
    # Precision, not only the name of the dtype: 1e-12 is lost on the way in float32.
    moved = network(x + 1e-12, context) - network(x, context)
    assert 0 < np.abs(moved).max() < 1e-9


@with_hidden
def test_mixed_precision_inside_a_coupling(name):
    """Networks run in bfloat16; values and log-determinants stay float32."""
    kind = type(NETWORKS[name][0]())
    vector = len(NETWORKS[name][1]) == 1
    mask = masks.half(4) if vector else masks.channel(4)
    shape = (4,) if vector else (4, 4, 4)
    width = (8,) if name == "mlp" else 8
    dtypes = []

    class Recording(kind):
        def call(self, x, context=None):
            out = super().call(x, context)
            dtypes.append(out.dtype)
            return out

    def build(policy):
        network = Recording(4, width, seed=0, dtype=policy)
        coupling = bijectors.AffineCoupling(
            mask, network, event_shape=shape, context_shape=(3,)
        )
        perturb(network, 0.1, seed=1)
        return coupling

    x, context = (
        normal(BATCH, *shape, dtype="float32"),
        normal(BATCH, 3, seed=2, dtype="float32"),
    )
    exact = build("float32")
    coupling = build("mixed_bfloat16")
    dtypes.clear()
    y, fldj = coupling.forward_and_log_det(x, context=context)
    assert {tf.as_dtype(d) for d in dtypes} == {tf.bfloat16}
    assert y.dtype == fldj.dtype == tf.float32
    back, ildj = coupling.inverse_and_log_det(y, context=context)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(ildj, -fldj, rtol=1e-5, atol=1e-5)
    _, reference = exact.forward_and_log_det(x, context=context)
    np.testing.assert_allclose(fldj, reference, rtol=0.1, atol=0.2)
    assert np.abs(fldj - reference).max() > 0
    assert {v.dtype for v in coupling.trainable_variables} == {tf.float32}
    flow = distributions.Flow(
        distributions.standard_normal(shape), coupling, context_shape=(3,)
    )
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(x, context=context)
    assert log_prob.dtype == tf.float32
    for gradient in tape.gradient(log_prob, flow.trainable_variables):
        assert gradient.dtype == tf.float32
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_global_mixed_precision_policy(policy):
    """A flow whose networks were built under a global policy has float32 densities."""
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        network = networks.MLP(4, (8,), seed=0)
        assert network.compute_dtype == policy.removeprefix("mixed_")
        coupling = bijectors.AffineCoupling(masks.half(4), network)
        perturb(network, 0.3, seed=1)
        flow = distributions.Flow(distributions.standard_normal((4,)), coupling)
        x, log_prob = flow.sample_and_log_prob(6, seed=0)
        assert x.dtype == log_prob.dtype == tf.float32
        np.testing.assert_allclose(flow.log_prob(x), log_prob, rtol=1e-4, atol=1e-4)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: networks.MLP(0), ValueError, "outputs"),
        (lambda: networks.ConvNet(2, context_mode="add"), ValueError, "film"),
        (
            lambda: networks.ConvNet(2, 4, context_mode="film")(
                normal(2, 4, 4, 1, dtype="float32"), normal(2, 4, 4, 3, dtype="float32")
            ),
            ValueError,
            "concat",
        ),
        (
            lambda: networks.ConvNet(2, 4)(
                normal(2, 4, 4, 1, dtype="float32"), normal(2, 4, 3, dtype="float32")
            ),
            ValueError,
            "context",
        ),
        (
            lambda: networks.MLP(2, (4,))(
                normal(2, 4, dtype="float32"), normal(2, 4, 3, dtype="float32")
            ),
            ValueError,
            "context",
        ),
    ],
)
def test_errors_name_the_argument(build, error, words):
    with pytest.raises(error, match=words):
        build()


@pytest.mark.parametrize("size", [(4, 6), (None, None)])
@pytest.mark.parametrize("batch", [0, 3])
def test_a_pointwise_layer_is_a_1x1_convolution(size, batch):
    convolution = keras.layers.Conv2D(7, 1, activation="relu")
    pointwise = Pointwise(7, activation="relu")
    for layer in (convolution, pointwise):
        layer.build((None, *size, 5))
    kernel = np.random.default_rng(0).normal(size=(5, 7))
    bias = np.random.default_rng(1).normal(size=7)
    convolution.set_weights([kernel[None, None], bias])
    pointwise.set_weights([kernel, bias])
    x = tf.random.stateless_normal([batch, 4, 6, 5], [0, 1])

    @tf.function(input_signature=[tf.TensorSpec([None, *size, 5])], autograph=False)
    def both(x):
        return convolution(x), pointwise(x)

    expected, found = both(x)
    if not batch:
        # With oneDNN, TensorFlow's convolution has another number of channels here.
        expected = tf.zeros([0, 4, 6, 7])
    assert found.shape == (batch, 4, 6, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pointwise(x), expected, rtol=1e-5, atol=1e-6)
