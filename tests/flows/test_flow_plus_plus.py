"""Flow++: its couplings, and the distributions over integers that it makes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.flows.support import members
from tests.support import fast_and_slow, perturb
from tfp_flows import flows
from tfp_flows.bijectors import Coupling
from tfp_flows.distributions import VariationalDequantization

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

LEVELS = 8
VECTOR = {"event_shape": (3,), "layers": 2, "width": 8, "depth": 1}
IMAGE = {"event_shape": (4, 4, 1), "layers": 1, "width": 4, "depth": 1, "heads": 2}
NOISE = {"name": "variational", "layers": 2, "depth": 1, "width": 8, "components": 3}
INTEGERS = {"components": 3, "dequantize": NOISE, "bounds": (0, LEVELS)}


def build(arguments, **others):
    return flows.flow_plus_plus(**{"seed": 0, **INTEGERS, **arguments, **others})


def integers(shape, n=6):
    draw = np.random.default_rng(0)
    return draw.integers(0, LEVELS, (n, *shape)).astype("float32")


both = pytest.mark.parametrize("arguments", [VECTOR, IMAGE], ids=["vector", "image"])


def test_image_architecture():
    """Ho et al. 2019, section 4: 4 checkerboards, 2 of channels, 3 checkerboards."""
    flow = build(IMAGE, layers=None, event_shape=(4, 6, 3), dequantize=None, depth=0)
    found = [m for m in members(flow.bijector) if isinstance(m, Coupling)]
    assert [m.name[: len("coupling_0")] for m in found] == [
        f"coupling_{g}" for g, n in enumerate((4, 2, 3)) for _ in range(n)
    ]
    masks = [m.mask for m in found]
    assert [m.shape for m in masks] == (
        [(4, 6, 1)] * 4 + [(1, 1, 12)] * 2 + [(2, 3, 1)] * 3
    )
    for i, j in ((0, 1), (1, 2), (2, 3), (4, 5), (6, 7), (7, 8)):
        np.testing.assert_array_equal(masks[i], ~masks[j])
    # Nothing leaves on the way.
    assert flow.distribution.event_shape == (2, 3, 12)


@both
def test_integers_in_nats_of_integers(arguments):
    flow = build(arguments)
    assert isinstance(flow, VariationalDequantization)
    assert flow.levels == LEVELS
    perturb(flow, 0.1)
    x = integers(flow.event_shape)
    v, log_q = flow.dequantize(x, [4], seed=1)
    assert ((v >= x) & (v <= x + 1)).numpy().all()
    expected = np.log(np.exp(flow.flow.log_prob(v) - log_q).mean(0))
    np.testing.assert_allclose(flow.log_prob(x, seed=1, samples=4), expected, rtol=1e-4)
    # What the flow over real numbers is given are the data as stored.
    z = flow.flow.encode(v)
    np.testing.assert_allclose(flow.flow.decode(z), v, atol=1e-3)
    sample = flow.sample(50, seed=0).numpy()
    assert sample.shape == (50, *flow.event_shape)
    assert set(np.unique(sample)) <= set(range(LEVELS))
    assert len(np.unique(sample)) == LEVELS


@both
def test_noise_starts_nearly_uniform_and_depends_on_the_data(arguments):
    flow = build(arguments)
    x = integers(flow.event_shape)
    size = flow.event_shape.num_elements()
    _, log_q = flow.dequantize(x, [200], seed=0)
    assert np.abs(log_q / size).mean() < 0.1
    perturb(flow.noise_flow, 0.3)
    u = flow.dequantize(x, seed=0)[0] - x
    other = (x + 1) % LEVELS
    u_other = flow.dequantize(other, seed=0)[0] - other
    assert np.abs(u - u_other).max() > 0.01


@both
def test_every_variable_learns(arguments):
    flow = build(arguments)
    perturb(flow)
    x = integers(flow.event_shape)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(x, seed=0))
    variables = flow.trainable_variables
    assert len(variables) > len(flow.noise_flow.trainable_variables) > 0
    for v, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, v.name
        assert np.isfinite(gradient).all(), v.name
        assert np.abs(gradient).max() > 0, v.name


@pytest.mark.slow
@pytest.mark.parametrize("jit", fast_and_slow([False, True], False))
def test_fit_save_and_load(tmp_path, jit):
    # Noise is drawn anew in every step.
    keras.utils.set_random_seed(0)
    flow = build(VECTOR, dequantize={**NOISE, "layers": 1})
    model = tfp_flows.FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=jit)
    # Two of the eight integers for each entry: log 2 nats each, once known.
    x = 3 * (integers((3,), 512) % 2)
    history = model.fit(x, batch_size=32, epochs=12, verbose=0).history
    assert 3 * np.log(2) - 0.1 < history["nll"][-1] < history["nll"][0] - 0.5
    np.testing.assert_allclose(
        history["bits_per_dim"], np.divide(history["nll"], 3 * np.log(2)), rtol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.flow.config == flow.config
    for a, b in (
        (loaded.flow.log_prob(x, seed=1), flow.log_prob(x, seed=1)),
        (loaded.flow.sample(5, seed=1), flow.sample(5, seed=1)),
    ):
        np.testing.assert_array_equal(a, b)


@both
def test_config_round_trip(arguments):
    flow = build(arguments, num_classes=3, dequantize={**NOISE, "samples": 2})
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    assert again.config == flow.config
    assert again.samples == 2
    x, labels = integers(flow.event_shape, 3), tf.constant([0, 1, 2])
    perturb(flow), perturb(again)
    keywords = {"seed": 0, "context": labels}
    log_prob = flow.log_prob(x, **keywords)
    np.testing.assert_array_equal(again.log_prob(x, **keywords), log_prob)
    other = flow.log_prob(x, seed=0, context=labels[::-1])
    assert np.abs(other - log_prob)[[0, 2]].min() > 1e-4
    assert flow.sample(2, seed=0, context=labels).shape == (2, 3, *flow.event_shape)


@both
def test_rare_samples_are_thrown_no_further_than_components_are_wide(arguments):
    """Far out, an entry moves by e^(s - a): at most e^(1 + 2)."""
    flow = build(arguments, dequantize=None)
    (transformer,) = {
        repr(m.transformer): m.transformer
        for m in members(flow.bijector)
        if isinstance(m, Coupling)
    }.values()
    draw = np.random.default_rng(0)
    theta = tf.constant(100 * draw.normal(size=(transformer.num_parameters, 500)))
    y = tf.constant(draw.choice([-1e6, 1e6], 500))
    _, log_slope = transformer.forward_and_log_det(y, theta)
    assert 2.5 < np.max(log_slope) < 3.0


def test_uniform_and_none():
    uniform = build(VECTOR, dequantize="uniform")
    assert uniform.noise_flow is None
    plain = build(VECTOR, dequantize=None)
    assert isinstance(plain, tfp_flows.Flow)
    for a, b in zip(plain.variables, uniform.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    x = integers((3,))
    v, _ = uniform.dequantize(x, seed=0)
    np.testing.assert_allclose(
        uniform.log_prob(x, seed=0, samples=1), plain.log_prob(v), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dequantize": "logistic"}, "dequantize.*'uniform', 'variational'.*logistic"),
        ({"bounds": None}, r"bounds=\(0, K\); got bounds=None"),
        ({"bounds": (0.0, 1.5)}, r"bounds=\(0, K\)"),
        ({"bounds": (1, 8)}, r"bounds=\(0, K\)"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({**IMAGE, "layers": (1, 2)}, "layers must be 3 numbers"),
        ({**IMAGE, "event_shape": (4, 5, 1)}, "width divisible by 2.*got 5"),
        ({**IMAGE, "event_shape": (2, 4, 1)}, "height.*at least 4.*2"),
        ({**IMAGE, "heads": 3}, "heads.*width=4.*3"),
        ({"components": 0}, "components"),
        ({"heads": 2}, "heads is for.*images"),
        ({"dequantize": {**NOISE, "hats": 2}}, "dequantize is not understood.*hats"),
        ({"dequantize": {"name": "uniform", "width": 2}}, "samples alone.*width"),
        ({"dequantize": {"width": 2}}, "dequantize.*None"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        build({**VECTOR, **arguments})


@both
def test_dropout_is_for_training(arguments):
    flow = build(arguments, dequantize=None, bounds=None, normalize=False, dropout=0.5)
    perturb(flow, 0.3)
    model = tfp_flows.FlowModel(flow)
    x = tf.random.stateless_normal((20, *arguments["event_shape"]), (0, 1))
    tfp_flows.training.initialize(flow, x)
    np.testing.assert_array_equal(model(x), flow.log_prob(x))
    one, other = (model(x, training=True).numpy() for _ in range(2))
    assert (np.abs(one - other) > 1e-4).mean() > 0.5
