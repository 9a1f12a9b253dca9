"""MADE: who sees whom, and entries generated one after the other."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import normal
from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.networks import MADE


def random_weights(network, *args):
    network(*args)
    draw = np.random.default_rng(0)
    for v in network.trainable_variables:
        v.assign(0.5 * draw.standard_normal(v.shape))


def influence(network, x, *context):
    """Whether input j moves any parameter of entry i, `[D, D]`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = tf.reshape(network(x, *context), [len(x), -1, x.shape[1]])
    return np.abs(tape.batch_jacobian(out, x)).max((0, 1)) > 0


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("order", ["natural", "reverse", "random", [2, 0, 3, 1, 4]])
def test_an_entry_sees_all_entries_before_it_and_no_other(order, residual):
    network = MADE(
        5, 3, (16, 16), residual, order, activation="tanh", seed=3, dtype="float64"
    )
    x = normal(4, 5)
    random_weights(network, x)
    seen = influence(network, x)
    in_order = seen[np.ix_(network.order, network.order)]
    np.testing.assert_array_equal(in_order, np.tril(np.ones((5, 5), bool), -1))


@pytest.mark.parametrize("mode", ["concat", "film"])
def test_every_entry_sees_the_context_nonlinearly(mode):
    network = MADE(3, 2, (8,), activation="tanh", context_mode=mode, dtype="float64")
    x, context = normal(6, 3), normal(6, 2, seed=1)
    random_weights(network, x, context)

    def first_parameters(context):
        return tf.reshape(network(x, context), [6, 2, 3])[..., 0]

    zero = first_parameters(0 * context)
    one, two = first_parameters(context) - zero, first_parameters(2 * context) - zero
    assert np.abs(one).min() > 1e-6
    assert np.abs(two - 2 * one).max() > 1e-3


# Entry 3 has no parents, 1 has one, 0 and 4 the same two; 2 depends on nothing and
# nothing on it.
GRAPH = np.zeros((5, 5), bool)
for child, parent in ((1, 3), (0, 1), (0, 3), (4, 1), (4, 3)):
    GRAPH[child, parent] = True


def with_graph(given=(), graph=GRAPH, **options):
    fixed = {"hidden_units": (8, 8), "activation": "tanh", "dtype": "float64"}
    options = {**fixed, **options}
    network = MADE(len(graph), 2, adjacency=graph, seed=0, **options)
    x = normal(4, len(graph))
    random_weights(network, x, *given)
    return network, x


@pytest.mark.parametrize(
    ("mode", "residual"), [(None, False), ("concat", True), ("film", False)]
)
def test_an_entry_sees_the_entries_that_its_row_names_and_no_other(mode, residual):
    given = [] if mode is None else [normal(4, 2, seed=1)]
    options = {"residual": residual, "context_mode": mode or "concat"}
    network, x = with_graph(given, **options)
    np.testing.assert_array_equal(influence(network, x, *given), GRAPH)
    generated, log_det = network.generate(shift_and_scale, x, *given)
    parameters = tf.reshape(network(generated, *given), [4, 2, 5])
    want, slopes = shift_and_scale(x, tf.unstack(parameters, axis=1))
    np.testing.assert_allclose(generated, want, atol=1e-12)
    np.testing.assert_allclose(log_det, tf.reduce_sum(slopes, -1), atol=1e-12)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 12), share=st.floats(0, 1))
def test_the_jacobian_has_the_pattern_of_the_graph(seed, size, share):
    draw = np.random.default_rng(seed)
    order = draw.permutation(size)
    graph = np.tril(draw.uniform(size=(size, size)) < share, -1)
    graph = graph[np.ix_(order, order)]
    network, x = with_graph(graph=graph, hidden_units=(size, 2 * size))
    flow = MaskedAutoregressive(network, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = flow.inverse(x)
    pattern = np.abs(tape.batch_jacobian(z, x)).max(0) > 0
    np.testing.assert_array_equal(pattern, graph | np.eye(size, dtype=bool))
    back = flow.forward(tf.constant(z.numpy()))
    np.testing.assert_allclose(back, x, atol=1e-9)


def test_a_graph_is_part_of_the_configuration_and_of_the_architecture():
    network, x = with_graph()
    again = MADE.from_config(json.loads(json.dumps(network.get_config())))
    again(x)
    for a, b in zip(again.variables, network.variables, strict=True):
        a.assign(b)
    np.testing.assert_array_equal(again(x), network(x))
    other = GRAPH.copy()
    other[2, 3] = True
    one, two = (MaskedAutoregressive(with_graph(graph=g)[0]) for g in (GRAPH, other))
    assert one._structure != two._structure


def shift_and_scale(z, parameters):
    shift, raw = tf.unstack(parameters)
    return z * tf.exp(tf.tanh(raw)) + shift, tf.tanh(raw)


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 20),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    order=st.sampled_from(["natural", "reverse", "random"]),
    residual=st.booleans(),
    context=st.sampled_from([None, "concat", "film"]),
)
def test_generated_entries_have_the_parameters_that_they_give(
    size, widths, order, residual, context
):
    network = MADE(
        size,
        2,
        widths[:1] * len(widths) if residual else widths,
        residual,
        order,
        activation="tanh",
        context_mode=context or "concat",
        seed=0,
        dtype="float64",
    )
    z = normal(3, size)
    given = [] if context is None else [normal(3, 2, seed=1)]
    random_weights(network, z, *given)
    x, log_det = network.generate(shift_and_scale, z, *given)
    parameters = tf.reshape(network(x, *given), [3, 2, size])
    want, slopes = shift_and_scale(z, tf.unstack(parameters, axis=1))
    np.testing.assert_allclose(x, want, atol=1e-12)
    np.testing.assert_allclose(log_det, tf.reduce_sum(slopes, -1), atol=1e-12)


def test_generating_runs_no_whole_pass():
    """The arithmetic of all steps together is near that of one evaluation."""
    network = MADE(64, 2, (252, 252))  # four units of each degree
    z = tf.zeros([32, 64])
    network(z)

    def multiplications(function):
        graph = tf.function(function).get_concrete_function(z).graph
        count = 0
        for g in (graph, *(f.graph for f in graph._functions.values())):
            steps = 1 if g is graph else 8  # chunks of 8 entries
            for op in g.get_operations():
                if op.type in ("MatMul", "BatchMatMulV2"):
                    inner = op.inputs[1].shape[0]
                    count += steps * inner * op.outputs[0].shape.num_elements()
        return count

    def generate(z):
        return network.generate(shift_and_scale, z)[0]

    ratio = multiplications(generate) / multiplications(network)
    assert 1 <= ratio < 1.5


def test_configuration_builds_it_again():
    network = MADE(4, 2, [8], True, "random", seed=5, activation="silu")
    again = MADE.from_config(network.get_config())
    assert again.get_config() == network.get_config()
    np.testing.assert_array_equal(again.order, network.order)
    x = tf.ones([2, 4])
    network(x), again(x)
    for a, b in zip(network.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_random_order_is_a_variable():
    """Weights of one network are those of another, with another order drawn."""
    build = lambda seed: MADE(5, 2, (8,), order="random", seed=seed, dtype="float64")
    one, two = build(0), build(1)
    x = normal(4, 5)
    random_weights(one, x), random_weights(two, x)
    assert not np.array_equal(one.order, two.order)
    assert one.fixed_order is None and MADE(2, 2, (4,)).fixed_order is not None
    for v, w in zip(two.variables, one.variables, strict=True):
        v.assign(w)
    np.testing.assert_array_equal(two.order, one.order)
    np.testing.assert_array_equal(two(x), one(x))
    generated = [tf.function(m.generate)(shift_and_scale, x)[0] for m in (one, two)]
    np.testing.assert_array_equal(*generated)
    # And the same as of a network that was given this order.
    given = MADE(5, 2, (8,), order=one.order, dtype="float64")
    given(x)
    for v, w in zip(given.trainable_variables, one.trainable_variables, strict=True):
        v.assign(w)
    np.testing.assert_array_equal(given(x), one(x))
    np.testing.assert_array_equal(given.generate(shift_and_scale, x)[0], generated[0])


def test_a_regularizer_and_half_precision_reach_every_kernel():
    network = MADE(3, 2, (8,), kernel_regularizer="l2", dtype="mixed_bfloat16")
    z = tf.cast(normal(4, 3), "float32")
    assert network(z).dtype == tf.bfloat16
    assert len(network.losses) == 2
    assert all(v.dtype == "float32" for v in network.variables)
    x, _ = network.generate(shift_and_scale, z)
    assert x.dtype == tf.float32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"event_shape": 0}, "event_shape must be at least 1, got 0"),
        ({"event_shape": (3, 2)}, "event_shape must be D or .D., the shape of a vec"),
        ({"num_parameters": 0}, "num_parameters"),
        ({"hidden_units": (8, 0)}, r"hidden_units\[1\] must be at least 1, got 0"),
        ({"hidden_units": ()}, "at least one"),
        ({"hidden_units": (8, 4), "residual": True}, "one width"),
        ({"order": "up"}, "natural.*reverse.*random"),
        ({"order": [0, 1, 1]}, "each of 0 .. 2 once"),
        ({"adjacency": np.zeros((2, 3), bool)}, r"shape \(3, 3\).*got \(2, 3\)"),
        ({"adjacency": np.eye(3) > 0}, r"no cycles; entries \[0\] depend"),
        ({"adjacency": np.roll(np.eye(3), 1, 1) > 0}, r"entries \[0, 1, 2\] depend"),
        (
            {"adjacency": np.tri(3, k=-1) > 0, "order": "reverse"},
            "order follows from adjacency, got order='reverse'",
        ),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        MADE(**{"event_shape": 3, "num_parameters": 2, **arguments})


def test_a_graph_of_numbers_or_for_too_narrow_a_network():
    with pytest.raises(TypeError, match="adjacency must be boolean, got dtype float64"):
        MADE(3, 2, adjacency=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"at least 2 wide.*different rows.*got 1"):
        MADE(3, 2, (4, 1), adjacency=np.tri(3, k=-1) > 0)(tf.zeros([1, 3]))


def test_wrong_input():
    with pytest.raises(ValueError, match=r"\[batch, 3\]"):
        MADE(3, 2)(tf.zeros([2, 4]))
    with pytest.raises(ValueError, match="vector"):
        MADE(3, 2)(tf.zeros([2, 3]), tf.zeros([2, 4, 4, 1]))


def test_it_is_a_keras_layer_that_saves(tmp_path):
    inputs = keras.Input([3])
    model = keras.Model(inputs, MADE(3, 2, (8,), seed=0)(inputs))
    random_weights(model, tf.zeros([1, 3]))
    model.save(tmp_path / "made.keras")
    again = keras.saving.load_model(tmp_path / "made.keras")
    x = tf.cast(normal(4, 3), tf.float32)
    np.testing.assert_array_equal(again(x), model(x))
