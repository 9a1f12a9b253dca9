"""VisionTransformer: who sees whom, its start, its files, and half precision."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.networks.test_made import influence, random_weights
from tests.support import close, normal
from tfp_flows import bijectors, masks
from tfp_flows.networks import VisionTransformer


def make(context=None, random=True, **options):
    network = VisionTransformer(
        3,
        2,
        **{"num_parameters": 2, "width": 8, "depth": 2, "heads": 2, **options},
        seed=0,
        dtype="float64",
    )
    inputs = [normal(4, 6)]
    if context is not None:
        inputs.append(normal(4, context, seed=1))
    network(*inputs)
    if random:
        random_weights(network, *inputs)
    return network, *inputs


def test_every_token_sees_all():
    network, x = make()
    assert influence(network, x).all()


@pytest.mark.parametrize("mode", ["concat", "film"])
def test_every_token_sees_the_context(mode):
    network, x, context = make(context=3, context_mode=mode)
    with tf.GradientTape() as tape:
        tape.watch(context)
        out = network(x, context)
    assert np.abs(tape.batch_jacobian(out, context)).max((0, 2)).min() > 0


def test_it_knows_the_places_of_tokens():
    network, x = make()
    turned = tf.reverse(tf.reshape(x, [4, 3, 2]), [1])
    out = tf.reshape(network(x), [4, 2, 3, 2])
    other = tf.reshape(network(tf.reshape(turned, [4, 6])), [4, 2, 3, 2])
    assert np.abs(tf.reverse(other, [2]) - out).max() > 1e-3


def test_what_the_output_sees_is_normalised():
    network, x = make()
    before = network(x)
    # A shift of all entries of a vector is what the last normalisation takes away.
    bias = network._stack[-1]["added"].bias
    bias.assign(bias + 5.0)
    close(network(x), before)


def test_it_starts_at_zero_and_learns():
    network, x = make(random=False)
    assert not network(x).numpy().any()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(x) ** 2 + network(x))
    found = tape.gradient(loss, network.trainable_variables)
    assert any(np.abs(g).max() > 0 for g in found if g is not None)


def test_a_copy_by_its_configuration():
    network, x = make(width=4, depth=1, dropout=0.1)
    config = json.loads(json.dumps(network.get_config()))
    again = VisionTransformer.from_config(config)
    again(x)
    again.set_weights(network.get_weights())
    close(again(x), network(x))


def test_half_precision_within_a_coupling():
    def build(policy):
        network = VisionTransformer(2, 2, 2, 8, 1, 2, seed=0, dtype=policy)
        coupling = bijectors.AffineCoupling(masks.half(8), network, event_shape=(8,))
        random_weights(network, normal(4, 4, dtype="float32"))
        return coupling

    x = normal(4, 8, dtype="float32")
    y, fldj = build("mixed_bfloat16").forward_and_log_det(x)
    exact = build("float32").forward_and_log_det(x)
    assert y.dtype == fldj.dtype == tf.float32
    for found, expected in zip((y, fldj), exact, strict=True):
        error = np.abs(found - expected).max()
        assert 0 < error < 0.3
