"""Layers that repeat are traced once, and compute what each of them would alone."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors as tfb
from tfp_flows import flows
from tfp_flows.core import repeat
from tfp_flows.core.likeness import likeness
from tfp_flows.core.own_constant import OwnConstant
from tfp_flows.networks import MLP
from tfp_flows.transformers import Affine

DTYPE = "float64"
VECTOR = {"seed": 0, "dtype": DTYPE}
SMALL = {"width": 8, **VECTOR}
# A flow over [*event] with layers enough to repeat, by name.
FLOWS = {
    "nice": lambda **o: flows.nice((4,), **SMALL, **o),
    "real_nvp": lambda **o: flows.real_nvp((5,), **SMALL, **o),
    "real_nvp of images": lambda **o: flows.real_nvp((4, 4, 1), **SMALL, **o),
    "glow": lambda **o: flows.glow((4, 4, 2), levels=1, steps=4, **SMALL, **o),
    "neural_spline_flow": lambda **o: flows.neural_spline_flow((4,), **SMALL, **o),
    "flow_plus_plus": lambda **o: flows.flow_plus_plus((3,), **SMALL, **o),
    "maf": lambda **o: flows.maf((3,), **SMALL, **o),
    "iaf": lambda **o: flows.iaf((3,), **SMALL, **o),
    "planar": lambda **o: flows.planar((3,), **VECTOR, **o),
    "radial": lambda **o: flows.radial((3,), **VECTOR, **o),
    "sylvester": lambda **o: flows.sylvester((3,), **VECTOR, **o),
    "residual_flow": lambda **o: flows.residual_flow((3,), blocks=2, **SMALL, **o),
    "residual_flow, series": lambda **o: flows.residual_flow(
        (3,), blocks=2, log_det="series", evaluation_terms=2, **SMALL, **o
    ),
}


def perturb(variables, scale=0.1):
    draw = np.random.default_rng(0)
    for v in variables:
        if v.trainable:
            v.assign_add(scale * draw.standard_normal(v.shape))


def batch_of(flow, n=6):
    draw = np.random.default_rng(1)
    return tf.constant(0.5 * draw.standard_normal((n, *flow.event_shape)), flow.dtype)


def density_and_gradients(flow, x, **keywords):
    variables = flow.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = flow.log_prob(x, **keywords)
        loss = tf.reduce_sum(tf.sin(log_prob))
    return [log_prob, *tape.gradient(loss, [x, *variables])]


def assert_close(found, expected, tolerance=1e-9):
    tf.nest.assert_same_structure(found, expected)
    pairs = zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture
def traces(monkeypatch):
    """Of each stretch that repeats: how many units there are, and if one was traced."""
    found = []
    trace = repeat._TracedOnce._trace

    def note(self, i, given):
        trace(self, i, given)
        found.append((len(self._alike), self._is_alike))

    monkeypatch.setattr(repeat._TracedOnce, "_trace", note)
    return found


@pytest.mark.parametrize("name", FLOWS)
def test_graphs_give_what_eager_layers_give(name, traces):
    flow = FLOWS[name]()
    perturb(flow.trainable_variables)
    x = batch_of(flow)
    expected = density_and_gradients(flow, x)
    assert not traces
    compiled = tf.function(density_and_gradients, autograph=False)
    assert_close(compiled(flow, x), expected)
    assert traces
    assert all(units >= 2 and alike for units, alike in traces)


@pytest.mark.parametrize("recompute", [False, True])
def test_xla_compiles_once(recompute, traces):
    flow = FLOWS["glow"](recompute_gradients=recompute)
    perturb(flow.trainable_variables)
    x = batch_of(flow)
    compiled = tf.function(density_and_gradients, autograph=False, jit_compile=True)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = compiled(flow, x)
        seconds.append(time.perf_counter() - start)
        perturb(flow.trainable_variables, 0.01)
    assert seconds[1] < seconds[0] / 10
    assert not traces
    perturb(flow.trainable_variables, -0.01)
    assert_close(found, density_and_gradients(flow, x), 1e-7)


@pytest.mark.parametrize(
    "name",
    ["real_nvp", "glow", "flow_plus_plus", "maf", "residual_flow, series"],
)
@pytest.mark.parametrize(
    "options", [{"checkpoint_every": None}, {"context_shape": (2,)}]
)
def test_recomputed_gradients_repeat_as_well(name, options, traces):
    options = {k: v for k, v in options.items() if v}
    keywords = {}
    if options:
        draw = np.random.default_rng(3)
        keywords["context"] = tf.constant(draw.standard_normal((6, 2)), DTYPE)
    flow = FLOWS[name](recompute_gradients=True, **options)
    perturb(flow.trainable_variables)
    x = batch_of(flow)
    expected = density_and_gradients(flow, x, **keywords)
    assert not traces
    compiled = tf.function(density_and_gradients, autograph=False)
    assert_close(compiled(flow, x, **keywords), expected)
    # There and back.
    assert len(traces) >= 2
    assert all(alike for _, alike in traces)


@pytest.mark.parametrize("name", ["real_nvp", "glow", "neural_spline_flow", "maf"])
def test_samples(name, traces):
    flow = FLOWS[name]()
    perturb(flow.trainable_variables)
    compiled = tf.function(lambda: flow.sample(4, seed=[1, 2]), autograph=False)
    assert_close(compiled(), flow.sample(4, seed=[1, 2]))
    assert traces


@pytest.mark.parametrize("recompute", [False, True])
def test_steps_that_recompute_themselves(recompute, traces):
    """Their gradient reads variables anew."""
    couplings = [[coupling(keep_first=k) for k in [True, False] * 2] for _ in range(3)]
    inner = [tfb.Chain(four, recompute_gradients=True) for four in couplings]
    chain = tfb.Chain(inner, recompute_gradients=recompute)
    perturb(chain.trainable_variables)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)

    def run():
        with tf.GradientTape() as tape:
            y, log_det = chain.inverse_and_log_det(x)
            loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
        return y, log_det, tape.gradient(loss, chain.trainable_variables)

    assert_close(tf.function(run, autograph=False)(), run())
    assert any(alike for _, alike in traces)


@pytest.mark.parametrize("recompute", [False, True])
def test_depth_adds_little_to_a_graph(recompute):
    def cost(steps):
        flow = flows.glow(
            (4, 4, 2), levels=1, steps=steps, width=4, recompute_gradients=recompute
        )
        layers = flow.trainable_variables
        x = batch_of(flow)
        step = tf.function(density_and_gradients, autograph=False)
        graph = step.get_concrete_function(flow, x).graph
        return len(graph.get_operations()), len(layers), step(flow, x)

    (small, few, _), (large, many, found) = cost(4), cost(12)
    assert not any(d is None for d in found)
    # A handle and an output for each variable, and the calls of eight more steps.
    assert (large - small) / (many - few) < (10 if recompute else 6)


def test_each_unit_is_called_with_its_own_variables():
    scales = [tfb.Scaling((4,), dtype=DTYPE) for _ in range(5)]
    chain = tfb.Chain(scales)
    perturb(chain.trainable_variables, 1.0)
    x = tf.ones([2, 4], DTYPE)
    y, log_det = tf.function(chain.forward_and_log_det, autograph=False)(x)
    assert_close((y, log_det), chain.forward_and_log_det(x))
    scales[3].trainable_variables[0].assign_add(tf.ones([4], DTYPE))
    again = tf.function(chain.forward_and_log_det, autograph=False)(x)
    assert_close(again[1], log_det - 4)


def test_state_of_each_layer_is_its_own(traces):
    norms = [tfb.BatchNorm((3,), dtype=DTYPE) for _ in range(3)]
    twins = [tfb.BatchNorm((3,), dtype=DTYPE) for _ in range(3)]
    x = 2 + tf.random.stateless_normal([8, 3], [1, 2], dtype=DTYPE)
    for i in range(2):
        tfb.Chain(norms).inverse(x + i, training=True)
        tf.function(
            lambda x: tfb.Chain(twins).inverse(x, training=True), autograph=False
        )(x + i)
    assert traces
    for a, b in zip(norms, twins, strict=True):
        assert_close([tf.identity(v) for v in b.variables], [*a.variables])
    means = [[*norm.variables] for norm in norms]
    assert not all(map(np.allclose, means[0], means[1]))


def coupling(conditioner=None, *, keep_first=True, clamp=2.0, name="coupling"):
    keep = [True, True, False, False] if keep_first else [False, False, True, True]
    conditioner = conditioner or MLP(4, hidden=(5,), dtype=DTYPE)
    return tfb.Coupling(
        np.array(keep), conditioner, Affine(clamp=clamp), dtype=DTYPE, name=name
    )


class Times(keras.layers.Layer):
    """A conditioner with a number that no configuration tells."""

    def __init__(self, number, loss=False, **options):
        super().__init__(dtype=DTYPE, **options)
        self.number, self.loss = number, loss
        self.dense = keras.layers.Dense(4, dtype=DTYPE)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        h = self.number * self.dense(x)
        if self.loss:
            self.add_loss(keras.ops.mean(h))
        return h


def sequential(activation):
    layers = [keras.layers.Dense(5, activation, dtype=DTYPE) for _ in range(2)]
    return keras.Sequential([*layers, keras.layers.Dense(4, dtype=DTYPE)])


def closing_over(number, network):
    network(tf.zeros([1, 2], DTYPE))
    return lambda x: number * network(x)


class Renamed(tfb.JointBijector):
    """A user's bijector that reads its own arguments."""

    def __init__(self, factor, name="renamed"):
        self.factor = tf.Variable(tf.ones([], DTYPE))
        super().__init__(
            forward_min_event_ndims=1, parameters=dict(factor=factor), name=name
        )

    def _forward_and_log_det(self, x):
        factor = self.factor * self.parameters["factor"]
        return x * factor, 4 * tf.math.log(factor)

    def _inverse_and_log_det(self, y):
        factor = self.factor * self.parameters["factor"]
        return y / factor, -4 * tf.math.log(factor)


class WithConstant(Renamed):
    """As a residual block has signs of its own."""

    def __init__(self, constant, name="with_constant"):
        self.constant = OwnConstant(np.full([4], constant))
        super().__init__(1.0, name=name)

    def _forward_and_log_det(self, x):
        y, log_det = super()._forward_and_log_det(x)
        return y + self.constant.tensor(), log_det


ACTIVATIONS = ["relu", "elu", "tanh", "softplus"]
# Layers by a number from which each gets something of its own: not to be mixed up.
DIFFERENT = {
    "clamp": lambda i: coupling(clamp=1.0 + i),
    "mask": lambda i: coupling(keep_first=i % 2 == 0, clamp=1.0 + i // 2),
    "attribute of a layer": lambda i: coupling(Times(1.0 + i)),
    "layer of a model": lambda i: coupling(sequential(ACTIVATIONS[i])),
    "closure": lambda i: coupling(closing_over(1.0 + i, Times(2.0))),
    "parameters": lambda i: Renamed(1.0 + i),
    "permutation": lambda i: tfb.Permutation(np.roll(np.arange(4), i)),
    "TFP's": lambda i: tfp.bijectors.Shift(tf.constant([1.0 + i] * 4, DTYPE)),
    "constant": lambda i: tfb.Chain([tfp.bijectors.Scale(np.float64(1 + i))]),
}
# Layers that differ in names and initial values alone.
ALIKE = {
    "coupling": lambda i: coupling(name=f"coupling_{i}"),
    "seed": lambda i: coupling(MLP(4, hidden=(5,), dtype=DTYPE, seed=i, name=f"m{i}")),
    "layer": lambda i: coupling(Times(2.0)),
    "sequential": lambda i: coupling(sequential("relu")),
    "closure": lambda i: coupling(closing_over(2.0, Times(2.0))),
    "parameters": lambda i: Renamed(2.0, name=f"renamed_{i}"),
    "TFP's": lambda i: tfp.bijectors.Shift(tf.Variable([1.0 + i] * 4, dtype=DTYPE)),
    "linear": lambda i: tfb.PLU(4, seed=i, dtype=DTYPE),
    "own constant": lambda i: WithConstant(1.0 + i),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_layers_that_compute_something_else_are_told_apart(name, traces):
    layers = [DIFFERENT[name](i) for i in range(4)]
    keys = [likeness(layer).key for layer in layers]
    assert keys[0] != keys[1] != keys[2]
    chain = tfb.Chain(layers)
    perturb(chain.trainable_variables)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)
    found = tf.function(chain.forward_and_log_det, autograph=False)(x)
    assert_close(found, chain.forward_and_log_det(x))
    assert not traces


@pytest.mark.parametrize("name", ALIKE)
def test_layers_that_differ_in_values_alone_are_alike(name, traces):
    layers = [ALIKE[name](i) for i in range(4)]
    first, *others = [likeness(layer) for layer in layers]
    for other in others:
        assert other.key == first.key
        shapes = [v.shape for v in first.variables]
        assert [v.shape for v in other.variables] == shapes
        assert not {id(v) for v in first.variables} & {id(v) for v in other.variables}
    chain = tfb.Chain(layers)
    perturb(chain.trainable_variables)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)
    found = tf.function(chain.forward_and_log_det, autograph=False)(x)
    assert_close(found, chain.forward_and_log_det(x))
    assert [alike for _, alike in traces] == [True]


def test_values_of_attributes_are_read_anew():
    layers = [coupling(Times(2.0)) for _ in range(3)]
    chain = tfb.Chain(layers)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)
    compiled = tf.function(chain.forward, autograph=False)
    assert_close(compiled(x), chain.forward(x))
    layers[1].conditioner.number = 3.0
    compiled = tf.function(chain.forward, autograph=False)
    assert_close(compiled(x), chain.forward(x))


def test_weights_tied_between_layers(traces):
    a, b = MLP(4, hidden=(5,), dtype=DTYPE), MLP(4, hidden=(5,), dtype=DTYPE)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)
    # Pairs that share a network, and pairs that do not.
    for networks in ([a, a, b, b], [a, b, a, b], [a, a, a, b], [a, b, b, b, a, a]):
        chain = tfb.Chain(
            [coupling(n, keep_first=i % 2 == 0) for i, n in enumerate(networks)]
        )
        perturb(chain.trainable_variables)

        def run(chain=chain):
            with tf.GradientTape() as tape:
                y, log_det = chain.inverse_and_log_det(x)
                loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
            return y, log_det, tape.gradient(loss, chain.trainable_variables)

        assert_close(tf.function(run, autograph=False)(), run())
    assert traces


OUTSIDE = tf.Variable(0.5, dtype=DTYPE)


def with_a_variable_from_outside(network):
    network(tf.zeros([1, 2], DTYPE))
    return lambda x: OUTSIDE * network(x)


@pytest.mark.parametrize("recompute", [False, True])
def test_variables_that_no_layer_owns(recompute, traces):
    nets = [Times(2.0) for _ in range(6)]
    layers = [
        coupling(with_a_variable_from_outside(net), keep_first=i % 2 == 0)
        for i, net in enumerate(nets)
    ]
    assert len({likeness(layer).key for layer in layers}) == 2
    chain = tfb.Chain(layers, recompute_gradients=recompute)
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)

    def run():
        with tf.GradientTape() as tape:
            y, log_det = chain.inverse_and_log_det(x)
            loss = tf.reduce_sum(y**2) + tf.reduce_sum(log_det)
        return y, tape.gradient(loss, [OUTSIDE, *nets[2].trainable_variables])

    assert_close(tf.function(run, autograph=False)(), run())
    assert [alike for _, alike in traces] == [True] * (1 + recompute)


@pytest.mark.parametrize("loss", [False, True])
def test_losses_that_layers_add_are_not_lost(loss, traces):
    nets = [Times(2.0, loss=loss) for _ in range(3)]
    chain = tfb.Chain([coupling(net) for net in nets])
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)

    def run():
        for net in nets:
            net._clear_losses()
        y = chain.forward(x)
        return y, [sum(net.losses) for net in nets]

    assert_close(tf.function(run, autograph=False)(), run())
    assert [alike for _, alike in traces] == [not loss]


def test_regularised_activity_is_not_lost(traces):
    nets = [
        keras.layers.Dense(4, activity_regularizer="l2", dtype=DTYPE) for _ in range(3)
    ]
    chain = tfb.Chain([coupling(net) for net in nets])
    x = tf.random.stateless_normal([3, 4], [1, 2], dtype=DTYPE)
    compiled = tf.function(lambda: (chain.forward(x), [n.losses for n in nets]))
    assert all(len(losses) == 1 for losses in compiled()[1])
    assert not traces


def test_random_numbers_are_drawn_for_each_layer(traces):
    net = Times(0.0)
    noisy = closing_over(1.0, net)
    layers = [
        coupling(lambda x: noisy(x) + tf.random.normal([4], dtype=DTYPE), keep_first=k)
        for k in [True, False] * 4
    ]
    y = tf.function(tfb.Chain(layers).forward, autograph=False)(tf.zeros([1, 4], DTYPE))
    assert len(np.unique(y)) == 4
    assert traces
    assert not any(alike for _, alike in traces)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("log_det", ["series", "roulette"])
def test_seeds_of_blocks_are_their_own(log_det, recompute, traces):
    few = {"blocks": 2, "terms": 1, "evaluation_terms": 2}
    flow = flows.residual_flow(
        (3,), log_det=log_det, recompute_gradients=recompute, **few, **SMALL
    )
    perturb(flow.trainable_variables)
    x = batch_of(flow)
    before = [v.numpy() for v in flow.variables]
    for keywords in ({"seed": 1}, {"seed": 1, "training": True}):
        expected = density_and_gradients(flow, x, **keywords)
        # Training goes on with power iterations from where they were.
        for v, value in zip(flow.variables, before, strict=True):
            v.assign(value)
        compiled = tf.function(density_and_gradients, autograph=False)
        assert_close(compiled(flow, x, **keywords), expected)
    assert traces
    assert all(alike for _, alike in traces)


class Swap(keras.layers.Layer):
    """A contraction whose Jacobian's estimate is 1 or -1."""

    def build(self, shape):
        self.half = self.add_weight(shape=(), initializer="ones")

    def bounded_weights(self, training=False, repeat=False):
        return [0.5 * self.half]

    def evaluate(self, weights, x):
        return weights[0] * tf.reverse(x, [-1])

    def call(self, x):
        return self.evaluate(self.bounded_weights(), x)


@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_draw_signs_of_their_own(recompute, traces):
    """As many of their estimates agree as chance will have it."""
    blocks = [
        tfb.ResidualFlow(
            Swap(dtype=DTYPE), (2,), log_det="series", terms=1, dtype=DTYPE
        )
        for _ in range(6)
    ]
    chain = tfb.Chain(blocks, recompute_gradients=recompute)
    run = tf.function(chain.forward_log_det_jacobian, autograph=False)
    x = tf.zeros([500, 2], DTYPE)
    totals = np.array(run(x, training=True))
    assert [alike for _, alike in traces] == [True]
    assert set(totals) <= {-6, -4, -2, 0, 2, 4, 6}
    # Of variance 6, by 500 draws; signs in common would make it 36.
    assert 4.5 < np.var(totals) < 7.5
    assert not np.array_equal(totals, run(x, training=True))


def test_derivatives_of_higher_order_and_other_kinds():
    flow = FLOWS["real_nvp"]()
    perturb(flow.trainable_variables)
    x = batch_of(flow, 3)

    def hessian(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = flow.log_prob(x)
            gradient = inner.gradient(value, x)
        return outer.batch_jacobian(gradient, x)

    def product(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            value = flow.log_prob(x)
        return accumulator.jvp(value)

    def mapped(x):
        return tf.vectorized_map(flow.log_prob, x)

    for function in (hessian, product, mapped):
        assert_close(tf.function(function, autograph=False)(x), function(x), 1e-8)


def test_saved_model(tmp_path):
    flow = FLOWS["glow"]()
    perturb(flow.trainable_variables)
    module = tf.Module()
    module.flow = flow
    module.log_prob = tf.function(
        flow.log_prob, input_signature=[tf.TensorSpec([None, 4, 4, 2], DTYPE)]
    )
    x = batch_of(flow)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert_close(loaded.log_prob(x), flow.log_prob(x))


def test_batches_of_any_size_and_shape():
    flow = FLOWS["real_nvp"]()
    perturb(flow.trainable_variables)
    compiled = tf.function(
        flow.log_prob, input_signature=[tf.TensorSpec([None, None, 5], DTYPE)]
    )
    for shape in ([2, 3, 5], [1, 1, 5], [0, 3, 5]):
        x = tf.random.stateless_normal(shape, [1, 2], dtype=DTYPE)
        assert_close(compiled(x), flow.log_prob(x))
