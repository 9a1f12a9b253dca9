"""CausalTransformer: who sees whom, and tokens generated one after the other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.networks.test_made import influence, random_weights
from tests.support import close, normal
from tfp_flows import flows
from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.networks import CausalTransformer
from tfp_flows.transformers import Affine, PerEntry

both = pytest.mark.parametrize("order", ["natural", "reverse"])


def make(order="natural", tokens=4, size=2, context=None, **options):
    network = CausalTransformer(
        tokens,
        size,
        **{"num_parameters": 2, "width": 8, "depth": 2, "heads": 2, **options},
        order=order,
        seed=0,
        dtype="float64",
    )
    inputs = [normal(3, tokens * size)]
    if context is not None:
        inputs.append(normal(3, context, seed=1))
    random_weights(network, *inputs)
    return network, *inputs


@both
def test_a_token_sees_all_tokens_before_it_and_no_other(order):
    network, x = make(order)
    seen = influence(network, x)
    in_order = seen[np.ix_(network.fixed_order, network.fixed_order)]
    tokens = np.tril(np.ones((4, 4), bool), -1)
    np.testing.assert_array_equal(in_order, np.kron(tokens, np.ones((2, 2), bool)))


@pytest.mark.parametrize("mode", ["concat", "film"])
@both
def test_the_first_token_sees_the_context(order, mode):
    network, x, context = make(order, context=3, context_mode=mode)
    with tf.GradientTape() as tape:
        tape.watch(context)
        out = tf.reshape(network(x, context), [3, 2, 8])
        first = tf.gather(out, network.fixed_order[:2], axis=2)
    assert np.abs(tape.batch_jacobian(first, context)).max((0, 1, 2)).min() > 0


@pytest.mark.parametrize("context", [None, 3])
@both
def test_generated_tokens_are_those_of_as_many_passes(order, context):
    network, x, *context = make(order, context=context)
    keywords = {"context": context[0]} if context else {}
    shape = context[0].shape[1:] if context else None

    def repeated(x, *context):
        return network(x, *context)

    fast = MaskedAutoregressive(network, context_shape=shape, dtype="float64")
    slow = MaskedAutoregressive(
        repeated, event_shape=8, context_shape=shape, dtype="float64"
    )
    close(fast.forward(x, **keywords), slow.forward(x, **keywords), 1e-10)
    close(fast.inverse(fast.forward(x, **keywords), **keywords), x, 1e-10)
    fldj = fast.forward_log_det_jacobian(x, **keywords)
    close(fldj, slow.forward_log_det_jacobian(x, **keywords), 1e-10)


def test_tokens_are_generated_with_a_transformer_for_each_entry():
    network, x = make("reverse", tokens=2)
    each = PerEntry([Affine("exp", bound) for bound in (1.0, 2.0, 3.0, 4.0)])
    bijector = MaskedAutoregressive(network, each, dtype="float64")
    close(bijector.inverse(bijector.forward(x)), x)


def test_passes_stop_when_nothing_changes():
    """Weak ties between tokens: far fewer passes than there are tokens, or entries."""
    passes = []

    def counted(x):
        passes.append(1)
        return network(x)

    network, x = make(tokens=30)
    for v in network.trainable_variables:
        v.assign(0.3 * v)
    bijector = MaskedAutoregressive(
        counted, event_shape=60, jacobi_tolerance=1e-12, dtype="float64"
    )
    passes.clear()
    y = bijector.forward(x)
    assert 1 < len(passes) < 25
    exact = MaskedAutoregressive(network, dtype="float64").forward(x)
    close(y, exact, 1e-10)


def test_dropout_is_for_training_alone():
    network, x = make(dropout=0.5)
    assert np.abs(network(x, training=True) - network(x)).max() > 1e-3
    np.testing.assert_array_equal(network(x), network(x))


def test_config():
    network, x = make("reverse", dropout=0.1, activation="relu")
    config = json.loads(json.dumps(network.get_config()))
    again = CausalTransformer.from_config(config)
    again(x)
    again.set_weights(network.get_weights())
    np.testing.assert_array_equal(again(x), network(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": 0}, "tokens must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide width=8, got 3"),
        ({"order": "random"}, "order must be one of"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_errors(options, words):
    given = {"tokens": 2, "token_size": 2, "num_parameters": 2, "width": 8, **options}
    with pytest.raises(ValueError, match=words):
        CausalTransformer(**given)


@pytest.mark.parametrize(
    ("width", "heads"), [(8, 1), (64, 1), (128, 2), (200, 2), (256, 4)]
)
def test_heads_of_64_or_more(width, heads):
    assert CausalTransformer(2, 2, 2, width=width).heads == heads


def test_no_layers_of_one_block_are_an_error_of_depth():
    with pytest.raises(ValueError, match=r"depth\[0\] must be at least 1, got 0"):
        flows.tarflow((4,), layers=2, depth=(0, 1), width=8)


def test_errors_of_inputs():
    network = CausalTransformer(2, 2, 2, width=8)
    with pytest.raises(ValueError, match=r"x must have shape \[batch, 4\]"):
        network(tf.zeros([3, 5]))
    with pytest.raises(ValueError, match="context must be a vector"):
        CausalTransformer(2, 2, 2, width=8)(tf.zeros([3, 4]), tf.zeros([3, 2, 2]))
