"""Units that repeat are traced once, and compute what each of them would alone."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close_nests, fast_and_slow, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks
from tfp_flows.core.repeat import _operations, unrolled
from tfp_flows.transformers import Affine

tfb = tfp.bijectors
DTYPE = "float64"
MASK = masks.half(4)
X = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)


class Counting(keras.layers.Layer):
    """A network that counts how often its Python code runs."""

    calls = 0

    def __init__(self, loss=False, noise=False, outside=None, **options):
        super().__init__(**{"dtype": DTYPE, **options})
        self.loss, self.noise, self.outside = loss, noise, outside
        self.dense = keras.layers.Dense(4, dtype=DTYPE)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        Counting.calls += 1
        h = keras.ops.tanh(self.dense(x))
        if self.loss:
            self.add_loss(keras.ops.mean(h))
        if self.noise:
            h += tf.random.normal([4], dtype=DTYPE)
        if self.outside is not None:
            h *= tf.convert_to_tensor(self.outside)
        return h


def coupling(mask, network, context_shape=None):
    return B.Coupling(
        mask, network, Affine("tanh"), context_shape=context_shape, dtype=DTYPE
    )


def pair(**options):
    return [coupling(m, Counting(**options)) for m in (MASK, ~MASK)]


UNITS = {
    "a coupling": lambda: coupling(MASK, Counting()),
    "a pair": pair,
    "permuted": lambda: [coupling(MASK, Counting()), B.Permutation("reverse", 4)],
    "Glow's step": lambda: [
        B.ActNorm((4,), dtype=DTYPE),
        B.PLU(4, dtype=DTYPE),
        coupling(masks.alternating(4), Counting()),
    ],
    "TFP's": lambda: [
        tfb.Invert(coupling(MASK, Counting())),
        tfb.Shift(tf.Variable([0.5] * 4, dtype=DTYPE)),
    ],
    "a chain": lambda: B.Chain([tfb.Chain(pair()), B.Scaling((4,), dtype=DTYPE)]),
    "repeated inside": lambda: B.Repeat(pair, 2),
}


def everything(bijector, x=X, **keywords):
    """Both directions and all gradients."""
    found = []
    for method in (bijector.forward_and_log_det, bijector.inverse_and_log_det):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value, log_det = method(x, **keywords)
            loss = tf.reduce_sum(tf.sin(value)) + tf.reduce_sum(log_det**2)
        sources = [x, *bijector.trainable_variables]
        found.append((value, log_det, tape.gradient(loss, sources)))
    return found


def calls_while(function):
    before = Counting.calls
    result = function()
    return Counting.calls - before, result


@pytest.mark.parametrize("recompute", fast_and_slow([False, True], False))
@pytest.mark.parametrize("unit", fast_and_slow(UNITS, "a pair", "Glow's step", "TFP's"))
def test_one_trace_gives_what_eager_layers_give(unit, recompute):
    bijector = perturb(B.Repeat(UNITS[unit], 3, recompute_gradients=recompute), seed=0)
    networks_of_a_unit = len([m for m in bijector.submodules if _is_conditioner(m)]) / 3
    expected = everything(bijector)
    traced = tf.function(lambda: everything(bijector), autograph=False)
    calls, found = calls_while(traced)
    close_nests(found, expected)
    # Two units, there and, if gradients rebuild what they need, back; both directions.
    assert calls == 2 * 2 * networks_of_a_unit * (2 if recompute else 1)


def _is_conditioner(module):
    return getattr(module, "keras_layer", None) is not None


def test_it_is_the_chain_of_its_members():
    bijector = perturb(B.Repeat(pair, 3), seed=0)
    chain = B.Chain(bijector.bijectors)
    close_nests(everything(bijector), everything(chain))
    assert bijector.count == 3
    inside = B.Chain([B.Scaling((4,), dtype=DTYPE), bijector])
    close_nests(inside.inverse(X), bijector.inverse(X))
    calls, _ = calls_while(lambda: tf.function(inside.inverse, autograph=False)(X))
    assert calls == 4


@pytest.mark.parametrize("every", fast_and_slow([None, 1, 2], 2))
def test_context_and_recomputation(every):
    def unit():
        network = networks.MLP(4, [8], dtype=DTYPE)
        return coupling(MASK, network, context_shape=(2,))

    context = tf.random.stateless_normal([3, 2], [3, 4], dtype=DTYPE)
    deep = perturb(B.Repeat(unit, 5, recompute_gradients=True), seed=0)
    if every is not None:
        deep = deep.copy(checkpoint_every=every)
    plain = deep.copy(recompute_gradients=False, checkpoint_every=None)
    expected = everything(plain, context=context)
    close_nests(everything(deep, context=context), expected)
    traced = tf.function(lambda b: everything(b, context=context), autograph=False)
    close_nests(traced(deep), expected)


def test_each_unit_is_called_with_its_own_variables():
    bijector = perturb(B.Repeat(lambda: B.Scaling((4,), dtype=DTYPE), 5), 1.0, seed=0)
    traced = tf.function(bijector.forward_log_det_jacobian, autograph=False)
    before = traced(X)
    bijector.bijectors[3].trainable_variables[0].assign_add(tf.ones([4], DTYPE))
    np.testing.assert_allclose(np.abs(traced(X) - before), 4.0)


def test_what_differs_may_be_a_variable_that_is_not_trained():
    draw = np.random.default_rng(0)

    class Rolled(B.JointBijector):
        def __init__(self, name="rolled"):
            parameters = dict(locals())
            order = draw.permutation(4)
            self.order = self._add_variable("order", order, trainable=False)
            super().__init__(
                forward_min_event_ndims=1, parameters=parameters, name=name
            )

        def _forward_and_log_det(self, x):
            return tf.gather(x, self.order, axis=-1), tf.zeros([], x.dtype)

        def _inverse_and_log_det(self, y):
            back = tf.math.invert_permutation(tf.convert_to_tensor(self.order))
            return tf.gather(y, back, axis=-1), tf.zeros([], y.dtype)

    bijector = B.Repeat(Rolled, 4)
    close_nests(tf.function(bijector.forward, autograph=False)(X), bijector.forward(X))
    close_nests(bijector.inverse(bijector.forward(X)), X)


def test_state_of_each_unit_is_its_own():
    def norm():
        return B.BatchNorm((4,), dtype=DTYPE)

    eager, traced = B.Repeat(norm, 3), B.Repeat(norm, 3)
    run = tf.function(lambda x: traced.inverse(x, training=True), autograph=False)
    for i in range(2):
        close_nests(run(X + i), eager.inverse(X + i, training=True))
    close_nests([*traced.variables], [*eager.variables])
    first, second = (
        np.concatenate([np.ravel(v) for v in b.variables]) for b in traced.bijectors[:2]
    )
    assert not np.allclose(first, second)


def test_variables_shared_inside_a_unit():
    def tied():
        network = Counting()
        return [coupling(MASK, network), coupling(~MASK, network)]

    bijector = perturb(B.Repeat(tied, 3), seed=0)
    expected = everything(bijector)
    calls, found = calls_while(
        tf.function(lambda: everything(bijector), autograph=False)
    )
    close_nests(found, expected)
    assert calls == 8


def test_variables_shared_by_all_units():
    network = Counting()
    bijector = perturb(B.Repeat(lambda: coupling(MASK, network), 3), seed=0)
    close_nests(tf.function(lambda: everything(bijector))(), everything(bijector))


OUTSIDE = tf.Variable(0.5, dtype=DTYPE)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "options", [{"loss": True}, {"noise": True}, {"outside": OUTSIDE}], ids=str
)
def test_units_that_use_more_than_their_variables_are_traced_one_by_one(
    options, recompute
):
    bijector = perturb(
        B.Repeat(lambda: pair(**options), 3, recompute_gradients=recompute), seed=0
    )
    calls, _ = calls_while(
        lambda: tf.function(bijector.forward, autograph=False).get_concrete_function(X)
    )
    # The trace that was found out is one more.
    assert calls >= 6


class Offset(B.JointBijector):
    """A bijector that keeps a constant of its own outside of its variables."""

    def __init__(self, offset, name="offset"):
        parameters = dict(locals())
        self.offset = offset
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward_and_log_det(self, x):
        return x + self.offset(x), tf.zeros([], x.dtype)

    def _inverse_and_log_det(self, y):
        return y - self.offset(y), tf.zeros([], y.dtype)


@pytest.mark.parametrize(
    ("kind", "recompute"),
    [
        ("number", False),
        pytest.param("array", False, marks=pytest.mark.slow),
        ("operation", True),
        pytest.param("number", True, marks=pytest.mark.slow),
        pytest.param("array", True, marks=pytest.mark.slow),
        pytest.param("operation", False, marks=pytest.mark.slow),
    ],
)
def test_units_that_compute_something_else_are_traced_one_by_one(kind, recompute):
    draw = np.random.default_rng(0)
    operations = iter([tf.sin, tf.cos, tf.tanh])

    def unit():
        if kind == "operation":
            operation = next(operations)
            offset = Offset(lambda x: operation(tf.ones_like(x)))
        else:
            constant = draw.normal(size=4 if kind == "array" else None)
            offset = Offset(lambda x: tf.constant(constant, x.dtype))
        return [coupling(MASK, Counting()), offset]

    bijector = B.Repeat(unit, 3, recompute_gradients=recompute)
    perturb(bijector)
    close_nests(tf.function(lambda: everything(bijector))(), everything(bijector))


def test_losses_that_layers_add_are_not_lost():
    bijector = perturb(B.Repeat(lambda: pair(loss=True), 3), seed=0)
    layers = [m.keras_layer for m in bijector.submodules if _is_conditioner(m)]

    def run():
        for layer in layers:
            layer._clear_losses()
        bijector.forward(X)
        return [sum(layer.losses) for layer in layers]

    close_nests(tf.function(run, autograph=False)(), run())


def test_random_numbers_are_drawn_for_each_unit():
    bijector = B.Repeat(lambda: coupling(MASK, Counting(noise=True)), 4)
    keras.utils.set_random_seed(1)
    y = tf.function(bijector.forward, autograph=False)(tf.zeros([1, 4], DTYPE))
    alone = tf.function(bijector.bijectors[0].forward)(tf.zeros([1, 4], DTYPE))
    assert not np.allclose(y, 4 * alone)


def test_a_variable_from_outside_gets_its_gradient():
    bijector = perturb(B.Repeat(lambda: pair(outside=OUTSIDE), 3), seed=0)

    def run():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(bijector.forward(X) ** 2)
        return tape.gradient(loss, OUTSIDE)

    close_nests(tf.function(run, autograph=False)(), run())


def test_unrolled_traces_every_unit():
    bijector = perturb(B.Repeat(pair, 4), seed=0)

    def graph():
        function = tf.function(bijector.forward, autograph=False)
        return function.get_concrete_function(X).graph.as_graph_def()

    with unrolled():
        calls, apart = calls_while(graph)
    assert calls == 8
    assert not apart.library.function
    calls, shared = calls_while(graph)
    assert calls == 4
    assert len(shared.library.function) == 1


def test_xla_traces_every_unit():
    bijector = perturb(B.Repeat(pair, 2), seed=0)
    compiled = tf.function(
        lambda: everything(bijector), autograph=False, jit_compile=True
    )
    calls, found = calls_while(compiled)
    assert calls >= 8
    close_nests(found, everything(bijector))
    calls, _ = calls_while(compiled)
    assert calls == 0


def test_depth_adds_little_to_a_graph():
    def operations(count):
        bijector = B.Repeat(UNITS["Glow's step"], count)
        run = tf.function(lambda: everything(bijector), autograph=False)
        graph = run.get_concrete_function().graph
        return len(graph.get_operations()), len(bijector.trainable_variables)

    (small, few), (large, many) = operations(2), operations(6)
    # A handle and outputs for each variable, and the calls of four more units.
    assert (large - small) / (many - few) < 10


def test_copies_share_units_and_deep_copies_do_not():
    bijector = perturb(B.Repeat(pair, 2), seed=0)
    shared, deep = bijector.copy(name="other"), copy.deepcopy(bijector)
    close_nests(shared.forward(X), bijector.forward(X))
    close_nests(deep.forward(X), bijector.forward(X))
    assert {id(v) for v in shared.variables} == {id(v) for v in bijector.variables}
    assert not {id(v) for v in deep.variables} & {id(v) for v in bijector.variables}
    perturb(bijector, seed=0)
    close_nests(shared.forward(X), bijector.forward(X))
    assert not np.allclose(deep.forward(X), bijector.forward(X))
    again = shared.copy(recompute_gradients=True)
    close_nests(again.forward(X), bijector.forward(X))


@pytest.mark.slow
def test_derivatives_of_higher_order_and_other_kinds():
    bijector = perturb(B.Repeat(pair, 2), seed=0)

    def hessian(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = bijector.inverse_log_det_jacobian(x)
            gradient = inner.gradient(value, x)
        return outer.batch_jacobian(gradient, x)

    def product(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            value = bijector.inverse(x)
        return accumulator.jvp(value)

    def mapped(x):
        return tf.vectorized_map(bijector.inverse, x)

    for function in (hessian, product, mapped):
        close_nests(tf.function(function, autograph=False)(X), function(X), 1e-8)


def test_saved_model(tmp_path):
    bijector = perturb(B.Repeat(pair, 3), seed=0)
    module = tf.Module()
    module.bijector = bijector
    signature = [tf.TensorSpec([None, 4], DTYPE)]
    module.inverse = tf.function(bijector.inverse, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    close_nests(loaded.inverse(X), bijector.inverse(X))


def test_checkpoint(tmp_path):
    bijector, other = perturb(B.Repeat(pair, 3), seed=0), B.Repeat(pair, 3)
    path = tf.train.Checkpoint(b=bijector).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(b=other).restore(path).assert_consumed()
    close_nests(other.forward(X), bijector.forward(X))


def test_batches_of_any_size_and_shape():
    bijector = perturb(B.Repeat(pair, 3), seed=0)
    signature = [tf.TensorSpec([None, None, 4], DTYPE)]
    compiled = tf.function(bijector.inverse_and_log_det, input_signature=signature)
    for shape in ([2, 3, 4], [1, 1, 4], [0, 3, 4]):
        x = tf.random.stateless_normal(shape, [1, 2], dtype=DTYPE)
        close_nests(compiled(x), bijector.inverse_and_log_det(x))


def growing(sizes):
    sizes = iter(sizes)
    return lambda: coupling(MASK, networks.MLP(4, [next(sizes)], dtype=DTYPE))


def sharing_once():
    first = iter([True, False])

    def unit():
        one = Counting()
        other = one if next(first) else Counting()
        return [coupling(MASK, one), coupling(~MASK, other)]

    return unit


@pytest.mark.parametrize(
    ("make_unit", "count", "error", "message"),
    [
        (growing([5, 6]), 2, ValueError, r"variable 0 of unit 1, .*\(2, 6\)"),
        (sharing_once(), 2, ValueError, "members of unit 1 share"),
        (pair, 0, ValueError, "count must be at least 1, got 0"),
        (pair, 1.5, TypeError, "count must be an integer"),
        (pair(), 2, TypeError, "make_unit must be a function"),
        (list, 2, ValueError, r"make_unit must build at least one bijector, got \[\]"),
        (lambda: 3, 2, TypeError, "make_unit"),
        (lambda: [3], 2, TypeError, r"bijectors\[0\]: it must be a tfb.Bijector"),
    ],
)
def test_wrong_arguments(make_unit, count, error, message):
    with pytest.raises(error, match=message):
        B.Repeat(make_unit, count)


def test_what_an_operation_waits_for_comes_in_no_order():
    """TensorFlow gives it from sets."""
    graph = tf.Graph()
    with graph.as_default():
        places = [tf.compat.v1.placeholder(tf.float32, name=n) for n in "ab"]
        before = [tf.no_op(name=n) for n in "cd"]
        with tf.control_dependencies(before):
            tf.add(*places, name="sum")
    definition = graph.as_graph_def()
    other = graph.as_graph_def()
    node = other.node[-1]
    assert node.input[2:] == ["^c", "^d"]
    node.input[2:] = ["^d", "^c"]
    assert _operations(other.node) == _operations(definition.node)
    # What it takes does.
    node.input[:2] = ["b", "a"]
    assert _operations(other.node) != _operations(definition.node)
