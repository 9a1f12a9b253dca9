"""What holds for every ready flow, written once and run for each."""

from __future__ import annotations

import inspect
import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfp_flows
from tests.bijectors.test_block_autoregressive import of_its_formula
from tests.flows.support import SMALL, Small, gradients, members
from tests.support import fast_and_slow, perturb
from tfp_flows import flows
from tfp_flows.bijectors import BlockAutoregressive, MarginalGaussianization
from tfp_flows.transformers import Affine

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

every = pytest.mark.parametrize("small", SMALL.values(), ids=SMALL)


def encode_log_det(flow, x, **keywords):
    """log|det dz/dx| of each example, by autodiff."""
    size = flow.event_shape.num_elements()
    # One copy of the batch for each row of the Jacobian: a single backward pass.
    copies = tf.tile(x[None], [size] + [1] * x.shape.rank)
    with tf.GradientTape() as tape:
        tape.watch(copies)
        z = flow.encode(copies, **keywords)
        rows = tf.reshape(z, [size, -1, size]) * tf.eye(size, dtype=z.dtype)[:, None]
    jacobian = tf.reshape(tape.gradient(rows, copies), [size, -1, size])
    jacobian = np.moveaxis(jacobian.numpy(), 0, 1)
    z = z[0]
    return z, np.linalg.slogdet(jacobian)[1]


@every
def test_density_is_the_change_of_variables(small: Small):
    flow = small.make(dtype="float64")
    x = small.data()
    z, log_det = encode_log_det(flow, x)
    expected = flow.distribution.log_prob(z) + log_det
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["nice", "real_nvp", "real_nvp_image", "glow", "maf", "iaf"]
)
@pytest.mark.parametrize("kind", ["labels", "vector", "film"])
def test_conditional_density(name: str, kind: str):
    small = SMALL[name]
    if kind == "labels":
        options = {"num_classes": 3}
        context, other = tf.constant([0, 1, 2, 1]), tf.constant([1, 2, 0, 0])
    else:
        options = {"context_shape": (2,)}
        if kind == "film":
            options["context_mode"] = "film"
        draw = np.random.default_rng(3)
        context, other = tf.constant(draw.standard_normal((2, 4, 2)))
    flow = small.make(dtype="float64", **options)
    assert flow.context_shape == (() if kind == "labels" else (2,))
    x = small.data()
    z, log_det = encode_log_det(flow, x, context=context)
    log_prob = flow.log_prob(x, context=context)
    expected = flow.distribution.log_prob(z) + log_det
    np.testing.assert_allclose(log_prob, expected, rtol=1e-10, atol=1e-10)
    assert np.abs(flow.log_prob(x, context=other) - log_prob).min() > 1e-4
    back = flow.decode(z, context=context)
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9 * (small.high or 1.0))
    sample = flow.sample(2, seed=0, context=context)
    assert sample.shape == (2, 4, *small.shape)
    found = gradients(flow, x, context=context)
    for v, gradient in zip(flow.trainable_variables, found, strict=True):
        assert gradient is not None, v.name
        assert np.abs(gradient).max() > 0, v.name


# By default only those whose networks are convolutions of each kind: with oneDNN,
# TensorFlow's own return a wrong shape for an empty batch.
@pytest.mark.parametrize(
    "name",
    fast_and_slow(SMALL, "glow", "real_nvp_image", "flow_plus_plus_image"),
)
def test_empty_batches(name: str):
    small = SMALL[name]
    flow = small.make(0)
    x = small.data(0, "float32")
    signature = [tf.TensorSpec([None, *small.shape])]
    for run in (lambda f: f, lambda f: tf.function(f, signature)):
        assert run(flow.log_prob)(x).shape == (0,)
        assert run(lambda x: flow.decode(flow.encode(x)))(x).shape == x.shape
    assert flow.sample(0, seed=0).shape == x.shape


@every
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [pytest.param("float32", 1e-4, marks=pytest.mark.slow), ("float64", 1e-9)],
)
def test_round_trip(small: Small, dtype: str, tolerance: float):
    flow = small.make(0.1, dtype=dtype)
    x = small.data(16, dtype)
    z = flow.encode(x)
    assert z.dtype == dtype
    assert z.shape == (16, *flow.distribution.event_shape)
    error = np.abs(flow.decode(z) - x).max() / (small.high or 1.0)
    assert error < tolerance
    assert {v.dtype.name for v in flow.trainable_variables} == {dtype}
    assert flow.log_prob(x).dtype == flow.sample(2, seed=0).dtype == dtype


@every
def test_every_variable_exists_from_construction_and_learns(small: Small):
    flow = small.make(0)
    before = [v.ref() for v in flow.variables]
    assert flow.trainable_variables
    x = small.data(dtype="float32")
    flow.log_prob(x)
    flow.sample(2, seed=0)
    assert [v.ref() for v in flow.variables] == before
    perturb(flow)
    found = gradients(flow, x)
    for v, gradient in zip(flow.trainable_variables, found, strict=True):
        assert gradient is not None, v.name
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        assert np.isfinite(gradient).all(), v.name
        assert np.abs(gradient).max() > 0, v.name


@every
def test_config_round_trip_through_json(small: Small):
    flow = small.make(0)
    assert flow.config["flow"] == small.build.__name__
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    assert again.config == flow.config
    assert again.event_shape == flow.event_shape
    for a, b in zip(flow.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.name)
    perturb(flow), perturb(again)
    x = small.data(dtype="float32")
    np.testing.assert_array_equal(flow.log_prob(x), again.log_prob(x))


@pytest.mark.parametrize(
    ("build", "arguments", "plain"),
    [
        (flows.nice, {"event_shape": np.array([4]), "width": np.int64(8)}, 8),
        (flows.real_nvp, {"event_shape": tf.TensorShape([4]), "width": 8}, 8),
    ],
)
def test_config_is_plain_whatever_the_arguments_were(build, arguments, plain):
    flow = build(**arguments, dtype=tf.float64, bounds=np.array([0.0, 2.0]), seed=0)
    config = json.loads(json.dumps(flow.config))
    assert config["width"] == plain
    assert config["event_shape"] == [4]
    assert config["bounds"] == [0.0, 2.0]
    assert config["dtype"] == "float64"
    x = tf.constant([[0.5, 0.6, 0.7, 1.0]], tf.float64)
    np.testing.assert_array_equal(
        flow.log_prob(x), flows.from_config(config).log_prob(x)
    )


def test_config_of_labels_and_contexts():
    for options in ({"num_classes": 3}, {"context_shape": (2,)}):
        flow = flows.real_nvp((3,), width=4, layers=1, **options)
        again = flows.from_config(json.loads(json.dumps(flow.config)))
        assert again.context_shape == flow.context_shape
        for a, b in zip(flow.variables, again.variables, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=a.name)


@pytest.mark.parametrize(
    "name", ["nice", "real_nvp_random", "real_nvp_image", "glow", "maf_image"]
)
def test_seeds(name: str):
    """A seed gives the same flow; another one, or none, another."""
    small = SMALL[name]

    def start(seed):
        values = [np.asarray(v) for v in small.make(0, seed=seed).variables]
        return np.concatenate([v.astype(float).ravel() for v in values])

    np.testing.assert_array_equal(start(5), start(5))
    assert np.abs(start(5) - start(6)).max() > 0.01
    assert np.abs(start(None) - start(None)).max() > 0.01


def test_a_flow_without_seed_records_the_one_it_drew():
    flow = flows.real_nvp((4,), layers=2, width=4, order="random")
    again = flows.from_config(flow.config)
    for a, b in zip(flow.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.name)


def test_global_random_numbers_are_not_consumed():
    """Building a flow does not disturb a user's own random numbers."""

    def draw(build):
        keras.utils.set_random_seed(0)
        if build:
            flows.nice((4,), depth=1, width=4, seed=1)
        return np.random.standard_normal(3)

    np.testing.assert_array_equal(draw(True), draw(False))


@every
def test_starts_at_its_base(small: Small):
    """A new flow only changes units: its density is the base's at the encoding."""
    flow = small.make(0, dtype="float64")
    x = small.data()
    _, log_det = encode_log_det(flow, x)
    start = {flows.bnaf: _of_blocks, flows.gaussianization: _of_marginals}
    start = start.get(small.build, lambda *_: _initial_log_det(small, flow))(flow, x)
    np.testing.assert_allclose(log_det - _units(small, x), start, atol=1e-3)


def _units(small: Small, x) -> np.ndarray:
    """log-determinant of bounds and logit, from the formula."""
    if small.high is None:
        return np.zeros(len(x))
    u = np.asarray(x).reshape(len(x), -1) / small.high
    alpha = small.arguments.get("logit_margin")
    if alpha is None:
        return np.full(len(x), -u.shape[1] * math.log(small.high))
    p = alpha + (1 - 2 * alpha) * u
    slope = (1 - 2 * alpha) / (p * (1 - p)) / small.high
    return np.log(slope).sum(1)


def _initial_log_det(small: Small, flow) -> float:
    """Glow's couplings multiply by about sigmoid(2); the others do nothing."""
    if small.build is not flows.glow or small.arguments.get("scale") == "tanh":
        return 0.0
    height, width, channels = small.shape
    size, changed = height * width * channels, 0
    for _ in range(small.arguments.get("levels", 1)):
        changed += small.arguments["steps"] * size // 2
        size //= 2
    _, ildj = Affine("sigmoid", 1.0).inverse_and_log_det(
        tf.zeros([1]), tf.zeros([2, 1])
    )
    assert abs(float(ildj[0]) - math.log(1 / (1 + math.exp(-2)))) < 0.01
    return changed * float(ildj[0])


def _of_blocks(flow, x) -> np.ndarray:
    """Block networks are drawn at random: the slopes of what their formula says."""
    x, log_det, step = x.numpy(), 0.0, 1e-6
    for block in flow.submodules:
        if isinstance(block, BlockAutoregressive):
            ends = [
                of_its_formula(block, x + sign * step * row)
                for row in np.eye(x.shape[1])
                for sign in (1, -1)
            ]
            rises = (np.array(ends[::2]) - np.array(ends[1::2])) / (2 * step)
            log_det += np.log(np.einsum("ini->ni", rises)).sum(1)
            x = of_its_formula(block, x)[:, ::-1]
    return log_det


def _of_marginals(flow, x) -> np.ndarray:
    """Logistics of width 1/2 made normal; the matrices between are rotations."""
    x, log_det = x.numpy(), 0.0
    for member in members(flow.bijector):
        if isinstance(member, MarginalGaussianization):
            z = stats.norm.ppf(special.expit(2 * x))
            slopes = 2 * stats.logistic.pdf(2 * x) / stats.norm.pdf(z)
            x, log_det = z, log_det + np.log(slopes).sum(1)
        else:
            x = member.inverse(tf.constant(x)).numpy()
    return log_det


# The papers' architectures, parameter by parameter.


def count(flow: tfp_flows.Flow) -> int:
    return sum(v.shape.num_elements() for v in flow.trainable_variables)


def dense(*sizes: int) -> int:
    """Weights and biases of a dense network."""
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def conv(kernel: int, inputs: int, outputs: int) -> int:
    return (kernel * kernel * inputs + 1) * outputs


def test_nice_for_mnist_is_the_papers():
    """Section 5.1: 4 couplings, 5 layers of 1000 units, logistic prior."""
    flow = flows.nice((784,), seed=0)
    coupling = dense(392, 1000, 1000, 1000, 1000, 1000, 392)
    assert count(flow) == 4 * coupling + 784 == 19_158_352
    assert type(flow.distribution.distribution).__name__ == "Logistic"
    assert len(flow.trainable_variables) == 4 * 6 * 2 + 1
    _, first, second, *_ = members(flow.bijector)
    np.testing.assert_array_equal(first.mask, np.arange(784) % 2 == 0)
    np.testing.assert_array_equal(second.mask, ~first.mask)


def test_real_nvp_on_vectors_defaults():
    flow = flows.real_nvp((6,), seed=0)
    assert count(flow) == 8 * dense(3, 256, 256, 6)
    flow = flows.real_nvp((5,), layers=2, width=4, depth=1, batch_norm=True)
    assert count(flow) == dense(3, 4, 4) + dense(2, 4, 6) + 2 * 2 * 5


def test_real_nvp_on_images_defaults():
    """Section 3.6: 3 + 3 couplings in each level, 4 in the last; blocks of 64."""
    flow = flows.real_nvp((8, 8, 1), depth=1, seed=0)

    def network(inputs, outputs, blocks=1, width=64):
        return (
            conv(3, inputs, width)
            + 2 * blocks * conv(3, width, width)
            + conv(1, width, outputs)
        )

    expected = 0
    for channels in (1, 2):  # 8x8x1, then half of 4x4x4
        expected += 3 * (network(channels, 2 * channels) + 2 * channels)
        channels *= 4
        expected += 3 * (network(channels // 2, channels) + 2 * channels)
    expected += 4 * (network(4, 8) + 2 * 4)  # 2x2x4
    assert count(flow) == expected
    small = flows.real_nvp((4, 4, 1), levels=1, layers=1, width=4)
    # Eight residual blocks unless told otherwise; one coupling is the last level's.
    assert count(small) == 2 * (network(1, 2, 8, 4) + 2)


def test_glow_defaults():
    """Kingma & Dhariwal 2018, section 3 and table of 32x32 models."""
    config = flows.glow((4, 4, 1), steps=1, width=4).config
    assert (config["conv1x1"], config["scale"]) == ("plu", "sigmoid")
    defaults = inspect.signature(flows.glow).parameters
    assert defaults["steps"].default == 32
    assert defaults["width"].default == 512

    def network(channels, width):
        return (
            conv(3, channels // 2, width)
            + conv(1, width, width)
            + conv(3, width, channels)
        )

    flow = flows.glow((8, 8, 3), levels=2, steps=2, width=16, seed=0)
    expected, channels = 0, 12
    for level in range(2):
        matrix = channels * channels
        expected += 2 * (2 * channels + matrix + network(channels, 16))
        if level == 0:
            expected += conv(3, channels // 2, channels)
        channels *= 2
    assert count(flow) == expected


@pytest.mark.parametrize(
    ("shape", "squeezes", "levels"),
    [
        ((32, 32, 3), flows.glow, 3),
        ((28, 28, 1), flows.glow, 2),
        ((28, 28, 1), flows.real_nvp, 3),
        ((8, 8, 1), flows.glow, 2),
        ((6, 10, 1), flows.glow, 1),
        ((6, 10, 1), flows.real_nvp, 2),
        ((7, 7, 1), flows.real_nvp, 1),
    ],
)
def test_default_levels(shape, squeezes, levels):
    options = {"steps": 1} if squeezes is flows.glow else {"layers": 1, "depth": 1}
    flow = squeezes(shape, width=2, **options)
    (multiscale,) = (
        m for m in flow.submodules if type(m).__name__.lstrip("_") == "MultiScale"
    )
    assert len(multiscale.levels) == levels
    assert flow.event_shape == shape
    assert flow.distribution.event_shape == (math.prod(shape),)


@pytest.mark.parametrize(
    "flow",
    [
        lambda **k: flows.nice((28, 28, 1), layers=2, depth=1, **k),
        lambda **k: flows.real_nvp((28, 28, 1), layers=1, depth=1, **k),
        lambda **k: flows.glow((28, 28, 1), steps=1, **k),
    ],
    ids=["nice", "real_nvp", "glow"],
)
def test_mnist(flow):
    """Raw pixels in, nats of raw pixels out; labels as context."""
    flow = flow(width=4, bounds=(0, 256), logit_margin=0.05, num_classes=10, seed=0)
    perturb(flow, 0.05)
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (3, 28, 28, 1)) + draw.uniform(size=(3, 28, 28, 1))
    x = x.astype("float32")
    labels = tf.constant([0, 4, 9])
    z = flow.encode(x, context=labels)
    assert z.shape == (3, 784)
    np.testing.assert_allclose(flow.decode(z, context=labels) / 256, x / 256, atol=1e-4)
    bits = flow.bits_per_dim(x, context=labels)
    # Uniform noise has 8 bits; an untrained flow is worse, but not by much.
    assert 8 < np.min(bits) < np.max(bits) < 14
    assert flow.sample(2, seed=0, context=labels).shape == (2, 3, 28, 28, 1)


# What goes wrong, and what is said about it.


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: flows.glow((4,)), "real_nvp"),
        (lambda: flows.glow((12, 12, 1), levels=3, steps=1), "height.*8.*12"),
        (lambda: flows.glow((16, 12, 1), levels=3, steps=1), "width.*8.*12"),
        (lambda: flows.real_nvp((6, 8, 1), levels=3), "height.*4.*6"),
        (lambda: flows.glow((7, 7, 1)), "4x4 pixels and sides divisible by 2, got 7x7"),
        (lambda: flows.glow((2, 2, 1)), r"4x4 pixels .* 2x2.*real_nvp takes"),
        (lambda: flows.real_nvp((1, 6, 1)), "at least 2x2 pixels, got 1x6"),
        (lambda: flows.glow((4, 4, 1), levels=0), "levels"),
        (lambda: flows.real_nvp((4,), levels=2), "levels"),
        (lambda: flows.nice((1,)), "two (or more )?features"),
        (lambda: flows.real_nvp((1,)), "two (or more )?features"),
        (lambda: flows.real_nvp((1, 1, 1)), "at least 2x2 pixels, got 1x1"),
        (lambda: flows.nice((0,)), "event_shape"),
        (lambda: flows.nice((4, 4)), "event_shape"),
        (lambda: flows.nice(()), "event_shape"),
        (
            lambda: flows.nice((4,), width=4, base="cauchy"),
            "diagonal.*logistic.*normal",
        ),
        (lambda: flows.nice((4,), order="half"), "alternating.*reverse"),
        (lambda: flows.real_nvp((4,), order="half"), "alternating.*random"),
        (lambda: flows.glow((4, 4, 1), steps=1, width=4, conv1x1="lu"), "plu.*dense"),
        (lambda: flows.real_nvp((4,), scale="relu"), "exp.*tanh.*sigmoid"),
        (lambda: flows.real_nvp((4,), max_log_scale=-1.0), "max_log_scale"),
        (
            lambda: flows.real_nvp((4,), num_classes=2, context_mode="add"),
            "concat.*film",
        ),
        (lambda: flows.nice((4,), bounds=(1, 0)), "bounds"),
        (lambda: flows.nice((4,), bounds=(0, 0)), "bounds"),
        (lambda: flows.nice((4,), logit_margin=0.05), "logit_margin needs bounds"),
        (lambda: flows.nice((4,), bounds=(0, 1), logit_margin=0.7), "logit_margin"),
        (lambda: flows.nice((4,), num_classes=1), "num_classes"),
        (lambda: flows.nice((4,), num_classes=2, context_shape=(2,)), "not both"),
        (lambda: flows.from_config({"flow": "tulip"}), "glow.*nice.*real_nvp"),
        (lambda: flows.from_config({"event_shape": [4]}), "glow.*nice.*real_nvp"),
        (
            lambda: flows.from_config(
                {"flow": "nice", "event_shape": [4], "blocks": 1}
            ),
            "blocks.*known: event_shape, layers",
        ),
    ],
)
def test_errors_say_what_to_do(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_labels_out_of_range_and_of_a_wrong_kind():
    flow = flows.nice((4,), depth=1, width=4, num_classes=3)
    x = tf.zeros([2, 4])
    for labels, words in (
        ([0, 3], r"\[0, 3\), got 3"),
        ([-1, 0], r"\[0, 3\), got -1"),
        ([0.0, 1.0], "integer"),
        (tf.one_hot([0, 1], 3), "integer"),
    ):
        with pytest.raises(ValueError, match=words):
            flow.log_prob(x, context=labels)
    for missing in ({}, {"context": None}):
        with pytest.raises(ValueError, match="context is required"):
            flow.log_prob(x, **missing)


@pytest.mark.parametrize(
    "name",
    fast_and_slow(["neural_spline_flow", "flow_plus_plus"], "neural_spline_flow"),
)
def test_no_large_matrices(name):
    """Of 300 features they would be 90,000 numbers in each layer."""
    few, many = (
        flows.READY[name]((size,), layers=2, width=1, depth=1) for size in (256, 300)
    )

    def largest(flow):
        return max(tf.size(v) for v in flow.trainable_variables)

    assert largest(few) == 256**2
    assert largest(many) < 300**2
    perturb(many, 0.1)
    x = tf.random.stateless_normal([2, 300], [0, 1])
    np.testing.assert_allclose(many.decode(many.encode(x)), x, atol=1e-3)
