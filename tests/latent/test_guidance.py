"""Guided samples, and flows that know what no label is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, fast_and_slow, normal, perturb
from tfp_flows import FlowModel, flows, latent
from tfp_flows.bijectors import MaskedAutoregressive

TINY = {"layers": 2, "width": 8, "depth": 1, "seed": 0}
LABELS = np.array([0, 1, 2, 2], np.int32)


def tarflow(shape=(4, 4, 1), spread=0.3, **options):
    return perturb(flows.tarflow(shape, num_classes=3, **{**TINY, **options}), spread)


BUILDS = {
    "patches": tarflow,
    # FiLM makes large numbers soon, whose last digits depend on the size of a batch.
    "jacobi": lambda: tarflow(
        (6,), 0.15, patch=2, jacobi_tolerance=1e-6, context_mode="film"
    ),
    "tokens": lambda: tarflow((3,)),
    "maf": lambda: perturb(flows.maf((3,), num_classes=3, **TINY), 0.3),
}


@pytest.mark.parametrize("name", fast_and_slow(BUILDS, "tokens", "maf"))
def test_without_weight_they_are_samples(name):
    flow, how = BUILDS[name](), {"seed": 3, "temperature": 0.8}
    expected = flow.sample(context=LABELS, **how)
    close(latent.guided_sample(flow, LABELS, 0.0, **how), expected, 1e-5)
    pushed = latent.guided_sample(flow, LABELS, 2.0, **how)
    assert np.abs(pushed - expected).max() > 0.01
    # Where both contexts are one, nothing pushes.
    same = latent.guided_sample(flow, LABELS, 2.0, against=LABELS, **how)
    close(same, expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "softer"),
    [(n, s) for n in BUILDS for s in (1.0, 2.0) if (n, s) != ("maf", 2.0)],
)
def test_compiled(name, softer):
    flow = BUILDS[name]()

    def draw():
        return latent.guided_sample(
            flow, LABELS, 2.0, attention_temperature=softer, seed=3
        )

    close(tf.function(draw)(), draw(), 1e-4)


def test_the_formula():
    """Entry by entry, by the parameters of the class and of the mean of all."""
    flow = flows.maf((3,), scale="exp", normalize=False, num_classes=3, **TINY)
    flow = perturb(flow.copy(), 0.3)
    (layer,) = (b for b in flow.bijector.bijectors[:1])
    flow = flow.copy(bijector=layer)
    assert isinstance(layer, MaskedAutoregressive)
    z, weight = normal(4, 3, dtype="float32").numpy(), 1.5
    flow._sample_noise = lambda *_, **__: (
        tf.constant(z),
        type(flow)._given(flow, {"context": LABELS}),
    )
    found = latent.guided_sample(flow, LABELS, weight)
    one, none = np.eye(3, dtype="float32")[LABELS], np.full((4, 3), 1 / 3, "float32")
    x = np.zeros_like(z)
    for i in range(3):
        c, u = (layer.conditioner(x, y).numpy() for y in (one, none))
        shift, log_scale = np.split(c + weight * (c - u), 2, -1)
        x[:, i] = z[:, i] * np.exp(log_scale[:, i]) + shift[:, i]
    close(found, x, 1e-5)


@pytest.mark.parametrize("tolerance", [None, 1e-7])
def test_less_attention(tolerance):
    """Token by token, by the parameters of a network whose queries are shorter."""
    flow = flows.tarflow((6,), patch=2, scale="exp", jacobi_tolerance=tolerance, **TINY)
    flow = perturb(flow, 0.2)
    layer = next(b for b in flow.bijector.bijectors if "block" in b.name)
    flow = flow.copy(bijector=layer)
    network, weight, temperature = layer.conditioner, 1.5, 3.0
    drawn = latent.guided_sample(
        flow, weight=weight, n=5, attention_temperature=temperature, seed=1
    )
    z = flow.sample(5, seed=1)
    z = layer.inverse(z).numpy()
    softer = type(network).from_config(network.get_config())
    softer(z)
    softer.set_weights(network.get_weights())
    attention = next(v for v in softer.weights if "attention_0/kernel" in v.path)
    bias = next(v for v in softer.weights if "attention_0/bias" in v.path)
    for part in (attention, bias):
        # The first third makes queries.
        scaled = part.numpy()
        scaled[..., : network.width] /= temperature
        part.assign(scaled)
    x = np.zeros_like(z)
    for i in network.fixed_order.reshape(3, 2):
        c, u = (n(x).numpy() for n in (network, softer))
        shift, log_scale = np.split(c + weight * (c - u), 2, -1)
        x[:, i] = (z * np.exp(log_scale) + shift)[:, i]
    assert np.abs(c - u).max() > 1e-2
    close(drawn, x, 1e-4)


def test_less_attention_and_less_context():
    flow, softer = tarflow(), {"attention_temperature": 2.0, "seed": 3}
    both = latent.guided_sample(flow, LABELS, 1.0, **softer)
    ways = {
        "context alone": latent.guided_sample(flow, LABELS, 1.0, seed=3),
        "attention alone": latent.guided_sample(
            flow, LABELS, 1.0, against=LABELS, **softer
        ),
        "neither": flow.sample(context=LABELS, seed=3),
    }
    for way, x in ways.items():
        assert np.abs(both - x).max() > 1e-3, way
    close(latent.guided_sample(flow, LABELS, 0.0, **softer), ways["neither"], 1e-5)
    assert latent.guided_sample(tarflow((3,)), LABELS[:0], **softer).shape == (0, 3)


def test_labels_are_left_out_in_training_alone():
    flow = tarflow((3,), class_drop=0.5, normalize=False)
    labels = np.arange(300, dtype=np.int32) % 3
    x = normal(300, 3, dtype="float32")
    of_class = flow.log_prob(x, context=labels)
    none = flow.copy(context_encoder=lambda labels: tf.fill([len(labels), 3], 1 / 3))
    of_none = none.log_prob(x, context=labels)
    model = FlowModel(flow)
    close(model((x, labels)), of_class, 1e-5)
    tf.random.set_seed(0)
    found = model((x, labels), training=True)
    near = [np.isclose(found, other, 1e-4, 1e-4) for other in (of_class, of_none)]
    assert np.logical_or(*near).all()
    assert 0.4 < np.mean(near[1] & ~near[0]) < 0.6
    for again in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        close(again.log_prob(x, context=labels), of_class, 1e-5)


def test_errors():
    with pytest.raises(ValueError, match=r"MaskedAutoregressive layers alone.*none"):
        latent.guided_sample(flows.maf((3,), **TINY), LABELS, 1.0)
    coupled = flows.nice((4,), num_classes=3, **TINY)
    with pytest.raises(ValueError, match=r"layers alone.*coupling_\d takes it"):
        latent.guided_sample(coupled, LABELS, 1.0)
    given = flows.maf((3,), context_shape=(2,), **TINY)
    context = normal(4, 2, dtype="float32")
    with pytest.raises(ValueError, match="against must be given"):
        latent.guided_sample(given, context, 1.0)
    drawn = latent.guided_sample(given, context, 1.0, against=[0.0, 0.0])
    assert drawn.shape == (4, 3)
    softer = {"attention_temperature": 2.0}
    with pytest.raises(ValueError, match=r"causal transformers.*maf has others"):
        latent.guided_sample(flows.maf((3,), num_classes=3, **TINY), LABELS, **softer)
    alone = flows.tarflow((3,), **TINY)
    with pytest.raises(ValueError, match="takes an attention_temperature"):
        latent.guided_sample(alone, n=4)
    for wrong in ({}, {"context": LABELS}, {"context": LABELS, "n": 4}):
        with pytest.raises(ValueError, match="tarflow takes no context: give n alone"):
            latent.guided_sample(alone, **wrong, **softer)
    with pytest.raises(ValueError, match="n is for flows without context"):
        latent.guided_sample(tarflow(), LABELS, n=4)
    with pytest.raises(ValueError, match="attention_temperature must be above 0"):
        latent.guided_sample(tarflow(), LABELS, attention_temperature=0.0)
    with pytest.raises(ValueError, match="weight must be at least 0"):
        latent.guided_sample(tarflow(), LABELS, -1.0)
    with pytest.raises(ValueError, match="class_drop is for labels"):
        flows.tarflow((3,), class_drop=0.1, **TINY)
    with pytest.raises(ValueError, match="drop must be at least 0 and below 1"):
        tarflow(class_drop=1.0)
