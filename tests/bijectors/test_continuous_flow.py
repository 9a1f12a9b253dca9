"""Continuous flows: known velocities, traces, costs in the loss, and options."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.linalg import expm

from tests.support import close, fast_and_slow, normal, perturb
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows, networks
from tfp_flows.distributions import log_prob_and_standard_error

MATRIX = np.array([[0.3, 0.8, 0.0], [-0.9, 0.1, 0.2], [0.4, 0.0, -0.7]])


def linear(**options):
    """$v = A x + b t$, of which everything is known."""
    layer = keras.layers.Dense(3, dtype="float64")
    flow = bijectors.ContinuousFlow(layer, (3,), dtype="float64", **options)
    kernel = np.concatenate([MATRIX.T, [[0.5, -1.0, 2.0]]])
    layer.set_weights([kernel, np.zeros(3)])
    return flow


def small(size=3, **options):
    network = networks.MLP(size, (8,), activation="tanh", seed=1, dtype="float64")
    options = {"dtype": "float64", "steps": 4, **options}
    return perturb(bijectors.ContinuousFlow(network, (size,), **options))


@pytest.mark.parametrize(
    "options",
    [{"steps": 16}, pytest.param({"solver": "dormand_prince"}, marks=pytest.mark.slow)],
)
def test_a_linear_velocity(options):
    # The time is a fourth entry, which grows by one.
    whole = np.zeros((5, 5))
    whole[:3, :3], whole[:3, 3], whole[3, 4] = MATRIX, [0.5, -1.0, 2.0], 1.0
    x = normal(4, 3)
    start = np.concatenate([x, np.zeros((4, 1)), np.ones((4, 1))], 1)
    expected = (start @ expm(whole).T)[:, :3]
    flow = linear(**options)

    @tf.function(autograph=False)
    def there_and_back(x):
        y, log_det = flow.forward_and_log_det(x)
        return y, log_det, flow.inverse(y)

    y, log_det, back = there_and_back(x)
    close(y, expected, 1e-6)
    close(log_det, np.full(4, np.trace(MATRIX)), 1e-6)
    close(back, x, 1e-6)


def test_twice_the_steps_are_sixteen_times_as_good():
    x = 2.0 * normal(5, 3)
    fine = small(steps=16).forward_and_log_det(x)
    errors = [
        [np.abs(a - b).max() for a, b in zip(found, fine, strict=True)]
        for found in (small(steps=n).forward_and_log_det(x) for n in (1, 2, 4))
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 3.0).all()


def test_the_velocity_is_that_of_the_network():
    flow = small(context_shape=(2,))
    x, context, t = (
        normal(4, 3),
        normal(4, 2, seed=1),
        tf.constant([0.0, 0.2, 0.5, 1.0]),
    )
    t = tf.cast(t, x.dtype)
    expected = flow.network(tf.concat([x, t[:, None]], -1), context)
    close(flow.velocity(x, t, context), expected)
    close(flow.velocity(x, 0.2, context)[1], expected[1])
    with pytest.raises(ValueError, match="context is required"):
        flow.velocity(x, t)


def test_images():
    network = networks.ConvNet(1, 4, activation="tanh", seed=0, dtype="float64")
    flow = bijectors.ContinuousFlow(network, (2, 3, 1), steps=2, dtype="float64")
    perturb(flow)
    x = normal(2, 3, 1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, log_det = flow.forward_and_log_det(x)
    jacobian = tape.jacobian(y, x, experimental_use_pfor=False)
    _, expected = np.linalg.slogdet(tf.reshape(jacobian, [6, 6]))
    close(log_det, expected, 1e-3)
    assert np.abs(log_det) > 0.02


def test_the_estimate_of_the_trace():
    x = normal(3, 3)
    exact = small().forward_and_log_det(x)[1]
    flow = small(log_det="hutchinson")
    assert flow.keywords == {"seed", "training"} and small().keywords == set()

    @tf.function(autograph=False)
    def draw(seeds):
        found = lambda seed: flow.forward_and_log_det(x, seed=seed)[1]
        return tf.map_fn(found, seeds, fn_output_signature=x.dtype)

    values = draw(tf.random.experimental.stateless_split([0, 1], 300)).numpy()
    error = values.std(0) / np.sqrt(len(values))
    assert (np.abs(values.mean(0) - exact) < 4 * error).all()
    assert (error > 0).all() and error.max() < 0.2 * np.abs(exact).max()
    # More vectors, less variance.
    many = small(log_det="hutchinson", probes=100)
    difference = np.abs(many.forward_and_log_det(x)[1] - exact)
    assert difference.max() < 4 * values.std(0).max() / 10

    once, again = (flow.forward_and_log_det(x)[1] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    close(flow.forward_and_log_det(x[1:])[1], once[1:])
    keras.utils.set_random_seed(0)
    one, two = (flow.forward_and_log_det(x, training=True)[1] for _ in range(2))
    assert np.abs(one - two).min() > 1e-6


def test_in_one_dimension_the_estimate_is_exact():
    x = normal(4, 1)
    close(
        small(1, log_det="hutchinson").inverse_and_log_det(x)[1],
        small(1).inverse_and_log_det(x)[1],
    )


@pytest.mark.slow
def test_standard_errors_of_a_flow():
    flow = flows.ffjord((3,), width=8, depth=1, steps=2, log_det="hutchinson", seed=0)
    perturb(flow, 0.5)
    _, error = log_prob_and_standard_error(flow, normal(2, 3, dtype="float32"), draws=2)
    assert (error.numpy() > 0).all()


@pytest.mark.parametrize("log_det", fast_and_slow(["exact", "hutchinson"], "exact"))
def test_both_gradients(log_det):
    x, context = normal(4, 3), normal(4, 2, seed=1)
    found = []
    for gradients in ("autodiff", "adjoint"):
        options = {"log_det": log_det, "context_shape": (2,), "steps": 5}
        flow = small(gradients=gradients, **options)
        with tf.GradientTape() as tape:
            tape.watch([x, context])
            z, ildj = flow.inverse_and_log_det(x, context=context)
            loss = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(
                ildj * tf.range(1.0, 5.0, dtype=x.dtype)
            )
        found.append(tape.gradient(loss, [x, context, *flow.trainable_variables]))
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-4)
        assert np.abs(a).max() > 1e-3


def test_costs_of_a_linear_velocity_are_in_the_loss():
    options = {"kinetic_energy": 0.5, "jacobian_norm": 0.25, "steps": 3}
    x = normal(6, 3).numpy()

    def losses(**options):
        flow = linear(**options)
        of_noise = distributions.standard_normal((3,), "float64")
        model = FlowModel(Flow(of_noise, flow))
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        evaluated = model.evaluate(x, verbose=0, return_dict=True)
        close(evaluated["loss"], evaluated["nll"], 1e-6)
        found = model.train_on_batch(x, return_dict=True)
        if flow.log_det == "exact":
            close(found["nll"], evaluated["nll"], 1e-6)
        return found["loss"] - found["nll"]

    # By the path itself, in small steps back from the data.
    flow, energy, z = linear(), 0.0, tf.constant(x)
    for i in range(100):
        t = 1.0 - (i + 0.5) / 100
        v = flow.velocity(z - flow.velocity(z, t) / 200, t)
        energy += np.square(v).sum(-1).mean() / 100
        z = z - v / 100
    norm = np.square(MATRIX).sum()
    close(losses(**options), 0.5 * energy + 0.25 * norm, 1e-3)
    close(losses(jacobian_norm=2.0, steps=1), 2.0 * norm, 1e-5)
    only = {"jacobian_norm": 1.0, "log_det": "hutchinson", "probes": 200}
    close(losses(**only, steps=1), norm, 0.2)


@pytest.mark.slow
def test_costs_move_variables():
    flow = flows.ffjord((2,), width=8, depth=1, steps=2, kinetic_energy=100.0, seed=0)
    perturb(flow, 0.5)
    x = np.tile(normal(64, 2, dtype="float32"), (40, 1))
    inner = flow.bijector.bijectors[-1]
    before = float(tf.reduce_mean(tf.square(inner.velocity(x, 0.5))))
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, batch_size=64, verbose=0)
    after = float(tf.reduce_mean(tf.square(inner.velocity(x, 0.5))))
    assert after < 0.1 * before


def test_costs_need_activations_that_are_kept():
    options = {"width": 4, "depth": 1, "steps": 1, "kinetic_energy": 1.0}
    flow = flows.ffjord((2,), recompute_gradients=True, seed=0, **options)
    model = FlowModel(flow)
    model.compile()
    with pytest.raises(ValueError, match="recompute_gradients=False"):
        model.fit(normal(4, 2).numpy(), verbose=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "euler"}, "rk4.*dormand_prince"),
        ({"steps": 0}, "steps"),
        ({"tolerance": 1e-3}, 'tolerance is for solver="dormand_prince"'),
        ({"solver": "dormand_prince", "steps": 4}, 'steps is for solver="rk4"'),
        ({"solver": "dormand_prince", "gradients": "autodiff"}, "'adjoint'.*autodiff"),
        ({"gradients": "backprop"}, "autodiff.*adjoint"),
        ({"log_det": "series"}, "exact.*hutchinson"),
        ({"probes": 0}, "probes"),
        ({"kinetic_energy": -1.0}, "kinetic_energy"),
        ({"event_shape": ()}, "event_shape"),
        ({"event_shape": (2000,), "log_det": "exact"}, "at most 1024"),
        ({"network": lambda x: x}, r"must return shape \[batch, 3\].*time"),
        ({"network": lambda x: x[:, :3], "jacobian_norm": 1.0}, "Keras layer"),
    ],
)
def test_errors(options, words):
    network = networks.MLP(3, (4,), seed=0)
    arguments = {"network": network, "event_shape": (3,), **options}
    with pytest.raises(ValueError, match=words):
        bijectors.ContinuousFlow(**arguments)


def test_options_that_no_variable_depends_on():
    flow = small()
    fine = flow.copy(steps=8, gradients="adjoint")
    x = normal(4, 3)
    assert 1e-12 < np.abs(fine.forward(x) - flow.forward(x)).max() < 1e-4
    assert fine.trainable_variables[0] is flow.trainable_variables[0]
