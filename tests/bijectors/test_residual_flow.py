"""Residual flows: estimates of the log-determinant, inversion and its gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow, normal, perturb
from tfp_flows import FlowModel, bijectors, distributions, flows, networks
from tfp_flows.core.fixed_point import fixed_point, iterate

tfb = tfp.bijectors


def make(size=4, log_det="exact", coefficient=0.6, context_shape=None, **options):
    """A residual flow whose network uses up its Lipschitz constant."""
    network = networks.LipschitzMLP(
        size, (6,), coefficient=coefficient, activation="sine", seed=0, dtype="float64"
    )
    bijector = bijectors.ResidualFlow(
        network,
        (size,),
        log_det,
        context_shape=context_shape,
        dtype="float64",
        **options,
    )
    perturb(bijector, 1.0)
    network.normalize()
    return bijector


def strong(log_det, **options):
    """As `make`, with a Jacobian near -0.6 times the identity: a slow series."""
    bijector = make(4, log_det, **options)
    for v in bijector.trainable_variables:
        v.assign(0.2 * v)
        if "kernel" in v.name:
            sign = -3.0 if "output" in v.name else 3.0
            v.assign_add(sign * tf.eye(*v.shape, dtype=v.dtype))
    bijector.network.normalize()
    return bijector


def flat_gradients(target, tape, variables):
    gradients = tape.gradient(target, variables, unconnected_gradients="zero")
    return tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)


def draw(bijector, x, draws, training):
    """Many independent log-determinants, and the gradients of their sum."""
    variables = bijector.trainable_variables

    @tf.function(autograph=False)
    def all_of(seeds):
        def one(seed):
            with tf.GradientTape() as tape:
                _, log_det = bijector.forward_and_log_det(
                    x, seed=seed, training=training
                )
                total = tf.reduce_sum(log_det)
            return log_det, flat_gradients(total, tape, variables)

        return tf.map_fn(one, seeds, (x.dtype, x.dtype))

    return all_of(tf.random.experimental.stateless_split([0, 1], draws))


def exact(bijector, x):
    bijector = bijector.copy(log_det="exact")
    variables = bijector.trainable_variables
    with tf.GradientTape() as tape:
        _, log_det = bijector.forward_and_log_det(x)
        total = tf.reduce_sum(log_det)
    return log_det, flat_gradients(total, tape, variables)


def standard_errors(values, truth):
    """How far the mean of draws is from the truth, in standard errors."""
    values = values.numpy()
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    return np.abs(values.mean(0) - truth) / (error + 1e-12), error


@pytest.mark.parametrize("training", fast_and_slow([True, False], True))
def test_roulette_is_unbiased_in_value_and_gradient(training):
    bijector = strong("roulette", terms=1, evaluation_terms=2)
    x = 0.3 * normal(3, 4)
    truth, true_gradient = exact(bijector, x)
    values, gradients = draw(bijector, x, 4000, training)
    off, error = standard_errors(values, truth)
    assert off.max() < 4.0
    # Sharp enough to see a bias.
    assert error.max() < 0.1 * np.abs(truth).max()
    off, error = standard_errors(gradients, true_gradient)
    assert off.max() < 4.0
    assert np.median(error) < 0.1 * np.abs(true_gradient).max()


@pytest.mark.slow
def test_series_is_biased_by_what_it_leaves_out():
    """The check above sees the bias; more terms remove it."""
    x = 0.3 * normal(3, 4)
    short = strong("series", evaluation_terms=2)
    long = strong("series", evaluation_terms=20)
    truth, true_gradient = exact(short, x)
    off, _ = standard_errors(draw(short, x, 500, False)[0], truth)
    assert off.max() > 6.0
    values, gradients = draw(long, x, 500, False)
    assert standard_errors(values, truth)[0].max() < 4.0
    assert standard_errors(gradients, true_gradient)[0].max() < 4.0


@pytest.mark.parametrize(
    ("log_det", "probes", "jit"),
    [
        pytest.param("series", 1, False, marks=pytest.mark.slow),
        ("roulette", 3, False),
        pytest.param("roulette", 3, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "keywords",
    fast_and_slow(
        [{}, {"seed": 3}, {"training": True, "seed": 3}], {"training": True, "seed": 3}
    ),
    ids=str,
)
def test_in_one_dimension_estimates_are_exact(log_det, probes, jit, keywords):
    """Signs square to 1, so that enough terms leave nothing to chance.

    Value, gradient and second derivative, with respect to data and variables.
    """
    options = {"terms": 8, "evaluation_terms": 8, "probes": probes}
    bijector = make(1, log_det, 0.08, context_shape=(2,), **options)
    x, context = normal(5, 1), normal(5, 2, seed=1)
    variables = bijector.trainable_variables

    def derivatives(bijector, **keywords):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch([x, context])
                y, log_det = bijector.forward_and_log_det(
                    x, context=context, **keywords
                )
                total = tf.reduce_sum(tf.sin(y)[:, 0] + log_det * normal(5))
            first = inner.gradient(total, [x, context, *variables])
            slope = sum(tf.reduce_sum(tf.cos(g)) for g in first)
        second = outer.gradient(slope, [x, *variables])
        return [y, log_det, *first, *second]

    expected = derivatives(bijector.copy(log_det="exact"))
    compiled = tf.function(
        lambda: derivatives(bijector, **keywords), jit_compile=jit, autograph=False
    )
    for a, b in zip(compiled(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_the_deterministic_estimate():
    """Without training and seed: a function of x alone, with its true derivative."""
    bijector = make(5, "roulette", evaluation_terms=8)
    x = normal(6, 5)
    _, log_det = bijector.forward_and_log_det(x)
    np.testing.assert_array_equal(bijector.forward_and_log_det(x)[1], log_det)
    part = bijector.forward_and_log_det(tf.reshape(x[2:], [2, 2, 5]))[1]
    np.testing.assert_allclose(tf.reshape(part, [-1]), log_det[2:], rtol=1e-12)
    z, ildj = bijector.inverse_and_log_det(bijector.forward(x))
    np.testing.assert_allclose(z, x, atol=1e-11)
    np.testing.assert_allclose(ildj, -log_det, atol=1e-11)
    mapped = tf.vectorized_map(lambda x: bijector.forward_and_log_det(x)[1], x)
    np.testing.assert_allclose(mapped, log_det, rtol=1e-12)
    direction = normal(6, 5, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(bijector.forward_and_log_det(x)[1])
    slope = tf.reduce_sum(tape.gradient(total, x) * direction)

    def at(step):
        return tf.reduce_sum(bijector.forward_and_log_det(x + step * direction)[1])

    np.testing.assert_allclose(slope, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-7)


def test_random_numbers_of_a_call():
    bijector, x = make(5, "roulette"), normal(6, 5)
    other = bijectors.ResidualFlow(
        bijector.network, (5,), "roulette", seed=6, dtype="float64"
    )

    def estimate(bijector=bijector, **keywords):
        return bijector.forward_and_log_det(x, **keywords)[1].numpy()

    np.testing.assert_array_equal(estimate(seed=1), estimate(seed=1))
    np.testing.assert_array_equal(
        estimate(seed=1), estimate(seed=tf.constant([0, 1], tf.int32))
    )
    for a, b in (
        (estimate(seed=1), estimate(seed=2)),
        (estimate(training=True), estimate(training=True)),
        (estimate(seed=1), estimate()),
        (estimate(seed=1), estimate(other, seed=1)),
        (estimate(), estimate(other)),
    ):
        assert np.abs(a - b).max() > 1e-3
    fresh = tf.function(lambda: bijector.forward_and_log_det(x, training=True)[1])
    assert np.abs(fresh() - fresh()).max() > 1e-9


@pytest.mark.slow
def test_random_numbers_of_a_compiled_call():
    bijector, x = make(5, "roulette"), normal(6, 5)

    def estimate():
        return bijector.forward_and_log_det(x, seed=1)[1]

    compiled = tf.function(estimate, jit_compile=True)
    np.testing.assert_allclose(compiled(), estimate(), rtol=1e-9)


def test_standard_error_of_the_log_determinant():
    bijector, x = make(6, "roulette"), normal(200, 6)
    truth, _ = exact(bijector, x)
    measure = tf.function(bijector.log_det_and_standard_error, autograph=False)
    mean, error = measure(x, draws=64)
    off = (mean - truth) / error
    # Student's t with 63 degrees of freedom, or nearly.
    assert 0.85 < np.std(off) < 1.15
    assert np.abs(off).max() < 6.0
    _, small = measure(x, draws=256)
    assert 1.7 < np.mean(error) / np.mean(small) < 2.4
    mean, error = bijector.copy(log_det="exact").log_det_and_standard_error(x)
    np.testing.assert_allclose(mean, truth, rtol=1e-12)
    np.testing.assert_array_equal(error, np.zeros(200))
    with pytest.raises(ValueError, match="draws must be at least 2, got 1"):
        bijector.log_det_and_standard_error(x, draws=1)


@pytest.mark.slow
def test_standard_error_of_a_flow():
    options = {"layers": 2, "width": 6, "depth": 1, "num_classes": 2, "seed": 0}
    flow = flows.residual_flow((3,), log_det="roulette", dtype="float64", **options)
    perturb(flow, 0.8)
    x, labels = normal(50, 3), tf.constant([0, 1] * 25)
    with_error = distributions.log_prob_and_standard_error
    mean, error = tf.function(
        lambda x, labels: with_error(flow, x, labels, draws=64), autograph=False
    )(x, labels)
    small = flows.residual_flow((3,), log_det="exact", dtype="float64", **options)
    for a, b in zip(small.variables, flow.variables, strict=True):
        a.assign(b)
    truth = small.log_prob(x, context=labels)
    assert np.abs((mean - truth) / error).max() < 5.0
    assert 0.7 < np.std((mean - truth) / error) < 1.3
    same, none = with_error(small, x, labels)
    np.testing.assert_allclose(same, truth, rtol=1e-9)
    # An exact flow takes a seed and does not need it.
    np.testing.assert_allclose(none, np.zeros(50), atol=1e-12)
    other = flows.nice((3,), depth=1, width=4)
    mean, none = with_error(other, tf.zeros([2, 3]))
    np.testing.assert_array_equal(mean, other.log_prob(tf.zeros([2, 3])))
    np.testing.assert_array_equal(none, [0.0, 0.0])


# Inversion.


def test_how_the_inverse_was_found():
    bijector = make(4, coefficient=0.95)
    x = 3.0 * normal(2, 5, 4)
    y = bijector.forward(x)
    found = bijector.invert(y)
    assert found.value.shape == (2, 5, 4)
    assert found.iterations.shape == found.residual.shape == (2, 5)
    assert found.iterations.dtype == tf.int32
    assert np.all(found.converged)
    assert np.max(found.residual) <= 1e-12
    assert 5 < np.min(found.iterations) < np.max(found.iterations) < 1000
    np.testing.assert_allclose(found.value, x, atol=1e-10)
    # An entry does not depend on what else is in the batch.
    alone = bijector.invert(y[1, 3])
    assert alone.iterations == found.iterations[1, 3]
    np.testing.assert_allclose(alone.value, found.value[1, 3], rtol=1e-13, atol=1e-13)
    rough = bijector.copy(tolerance=1e-3).invert(y)
    assert np.all(rough.iterations < found.iterations)
    assert 1e-6 < np.abs(rough.value - x).max() < 0.1
    # The bound that Banach's theorem gives.
    steps = np.max(found.iterations)
    assert steps < np.log(1e-14) / np.log(0.95)


class Expansion(tf.Module):
    def __call__(self, x):
        return 1.5 * tf.cos(3.0 * x)


def test_an_inverse_that_does_not_converge():
    bijector = bijectors.ResidualFlow(
        Expansion(), (2,), max_iterations=50, name="expansion"
    )
    y = tf.constant([[0.3, 0.1], [float("nan"), 0.0]])
    with pytest.raises(
        ArithmeticError, match=r"expansion.*1 of 2 .*in 50 iterations.*Lipschitz"
    ):
        bijector.inverse(y)
    found = bijector.invert(y)
    assert found.iterations[0] == 50
    assert not found.converged[0]
    for jit in (False, True):
        z = tf.function(bijector.inverse, jit_compile=jit)(y)
        assert np.isnan(z[0]).all()
    # Data that are NaN already are no failure of the iteration.
    assert np.isnan(bijector.inverse(y[1:])[0, 0])
    few = make(3, max_iterations=3)
    with pytest.raises(ArithmeticError, match="3 iterations"):
        few.inverse(normal(2, 3))


@pytest.mark.parametrize("compiled", fast_and_slow(["no", "yes", "by XLA"], "no"))
def test_fixed_point_is_differentiable_to_any_order(compiled):
    """z = A z + sin(b) has a solution and derivatives in closed form."""
    matrix = 0.2 * normal(3, 3)
    b = normal(2, 3, seed=1)

    def solution(matrix, b):
        size = tf.eye(3, dtype=b.dtype)
        return tf.transpose(tf.linalg.solve(size - matrix, tf.transpose(tf.sin(b))))

    def found(matrix, b):
        return fixed_point(
            lambda z, matrix, b: tf.matmul(z, matrix, transpose_b=True) + tf.sin(b),
            tf.zeros_like(b),
            (matrix, b),
            tolerance=1e-14,
        )

    def derivatives(solve):
        results = []
        with tf.GradientTape() as third:
            third.watch([matrix, b])
            with tf.GradientTape() as second:
                second.watch([matrix, b])
                with tf.GradientTape() as first:
                    first.watch([matrix, b])
                    z = solve(matrix, b)
                    value = tf.reduce_sum(tf.exp(z))
                results.append(first.gradient(value, [matrix, b]))
                value = sum(tf.reduce_sum(tf.sin(g)) for g in results[-1])
            results.append(second.gradient(value, [matrix, b]))
            value = sum(tf.reduce_sum(tf.sin(g)) for g in results[-1])
        results.append(third.gradient(value, [matrix, b]))
        return [z, *results]

    run = derivatives
    if compiled != "no":
        xla = compiled == "by XLA"
        run = tf.function(derivatives, autograph=False, jit_compile=xla)
    # A solve does not compile under XLA: only the iteration is.
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8),
        run(found),
        derivatives(solution),
    )


def test_fixed_point_with_variables_integers_and_small_gradients():
    scale = tf.Variable(0.5, dtype=tf.float64)
    shift = normal(2, 3)
    power = tf.constant(2)

    def function(z, shift, power):
        return scale * tf.sin(z) / tf.cast(power, z.dtype) + shift

    with tf.GradientTape() as tape:
        tape.watch(shift)
        z = fixed_point(function, shift, (shift, power))
        loss = 1e-30 * tf.reduce_sum(z)
    gradients = tape.gradient(loss, [scale, shift])
    slope = 1.0 / (1.0 - 0.25 * np.cos(z))
    np.testing.assert_allclose(gradients[1], 1e-30 * slope, rtol=1e-10)
    expected = np.sum(1e-30 * slope * np.sin(z) / 2.0)
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-10)


def test_iterate_stops_each_entry_on_its_own():
    factor = tf.constant([[0.1], [0.5], [0.9]], tf.float64)
    found = iterate(lambda z: factor * z, tf.ones_like(factor), 1e-6)
    expected = np.ceil(np.log(1e-6 / (1.0 / factor[:, 0] - 1.0)) / np.log(factor[:, 0]))
    # The tolerance is relative to one plus the value: near enough to one here.
    assert np.abs(found.iterations - expected).max() <= 1
    assert found.value.shape == (3, 1)
    empty = iterate(lambda z: z, tf.zeros([0, 2]))
    assert empty.iterations.shape == (0,)


# Log-determinants and networks of other kinds.


def test_exact_log_determinant_of_large_skew_and_nearly_singular_jacobians():
    """Up to the bound, where I + J is furthest from the identity."""
    draw = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        for kind in ("any", "skew", "minus_identity"):
            matrix = draw.standard_normal((size, size))
            if kind == "skew":
                matrix = matrix - matrix.T
            if kind == "minus_identity":
                matrix = -np.eye(size)
            norm = np.linalg.norm(matrix, 2)
            matrix *= 0.97 / norm if norm else 1.0
            constant = tf.constant(matrix)
            bijector = bijectors.ResidualFlow(
                lambda x, constant=constant: tf.matmul(x, constant),
                (size,),
                "exact",
                dtype="float64",
            )
            expected = np.linalg.slogdet(np.eye(size) + matrix)[1]
            log_det = bijector.forward_log_det_jacobian(normal(2, size), 1)
            np.testing.assert_allclose(log_det, [expected] * 2, rtol=1e-10, atol=1e-12)


def test_an_exact_log_determinant_runs_the_network_once(monkeypatch):
    sizes = []

    def counted(self, weights, x, context):
        sizes.append(len(x))
        return forward(self, weights, x, context)

    forward = networks.LipschitzMLP._pass
    bijector = bijectors.ResidualFlow(networks.LipschitzMLP(3, (6,)), (3,), "exact")
    monkeypatch.setattr(networks.LipschitzMLP, "_pass", counted)
    bijector.forward_and_log_det(tf.ones([4, 3]))
    assert sizes == [4]


class Halved(networks.LipschitzMLP):
    """With an `evaluate` of its own, of which `linearize` knows nothing."""

    def evaluate(self, weights, x, context=None):
        return tf.sin(super().evaluate(weights, x, context)) / 2


@pytest.mark.parametrize("log_det", fast_and_slow(["exact", "series"], "exact"))
def test_networks_that_evaluate_otherwise(log_det):
    network = Halved(3, (6,), seed=0, dtype="float64")
    options = {"evaluation_terms": 40, "dtype": "float64"}
    bijector = bijectors.ResidualFlow(network, (3,), log_det, **options)
    perturb(bijector, 1.0)
    network.normalize()
    x = normal(4, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = bijector.forward(x)
    np.testing.assert_allclose(y, x + network(x), rtol=1e-9)
    expected = np.linalg.slogdet(tape.batch_jacobian(y, x))[1]
    found = bijector.forward_log_det_jacobian(x)
    if log_det == "series":
        # The mean over all signs has no error but rounding. Opposite ones are alike.
        found = {}
        estimate = tf.function(bijector.forward_log_det_jacobian, autograph=False)
        for seed in range(32):
            bijector._seed.assign(seed)
            log_det = estimate(x).numpy()
            found[tuple(log_det.round(12))] = log_det
        assert len(found) == 4
        found = np.mean(list(found.values()), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_auto_is_exact_where_that_is_cheap():
    def of(size, **options):
        network = networks.LipschitzMLP(size, (2,), seed=0)
        return bijectors.ResidualFlow(network, (size,), **options).log_det

    assert of(16) == "exact"
    assert of(17) == "roulette"
    assert of(17, log_det="exact") == "exact"


@pytest.mark.parametrize("jit_compile", fast_and_slow([False, True], False))
def test_training_moves_the_power_iteration_and_files_keep_it(tmp_path, jit_compile):
    flow = flows.residual_flow(
        (3,), layers=1, width=8, depth=1, log_det="roulette", seed=0
    )
    model = FlowModel(flow)
    model.compile("adam", jit_compile=jit_compile)
    x = np.random.default_rng(0).standard_normal((64, 3)).astype("float32") * [1, 2, 3]

    def states():
        return [v.numpy() for v in flow.variables if "singular_vector" in v.name]

    before = states()
    assert len(before) == 2
    model.fit(x, epochs=3, batch_size=32, verbose=0)
    after = states()
    assert all(np.abs(a - b).max() > 1e-6 for a, b in zip(before, after, strict=True))
    model.evaluate(x, verbose=0)
    for a, b in zip(after, states(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras").flow
    for a, b in zip(loaded.variables, flow.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    x = tf.constant(x, tf.float32)
    np.testing.assert_array_equal(loaded.log_prob(x), flow.log_prob(x))
    np.testing.assert_allclose(flow.decode(flow.encode(x)), x, atol=1e-4)


@pytest.mark.slow
def test_log_likelihood_improves_and_samples_fit():
    """Points around a ring: a few steps of the unbiased estimate."""
    flow = flows.residual_flow(
        (2,), layers=3, width=16, depth=1, log_det="roulette", seed=0
    )
    draw = np.random.default_rng(0)
    angle = draw.uniform(0, 2 * np.pi, 512)
    radius = 2.0 + 0.3 * draw.standard_normal(512)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype("float32")
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(x, epochs=12, batch_size=32, verbose=0).history["nll"]
    assert history[-1] < history[0] - 0.1
    sample = flow.sample(500, seed=0)
    assert 1.6 < np.mean(np.linalg.norm(sample, axis=1)) < 2.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_det": "trace"}, "auto.*exact.*series.*roulette.*trace"),
        ({"terms": 0}, "terms must be at least 1, got 0"),
        ({"probes": 0}, "probes must be at least 1, got 0"),
        ({"evaluation_terms": 0}, "evaluation_terms must be at least 1"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"tolerance": 0.0}, "tolerance must be above 0"),
        ({"event_shape": (3,)}, r"must return shape \[batch, 3\] \(that of x\)"),
        ({"event_shape": (2000,), "log_det": "exact"}, "2000 evaluations.*1024"),
    ],
)
def test_errors(options, words):
    network = networks.LipschitzMLP(2, (3,), seed=0)
    with pytest.raises(ValueError, match=words):
        bijectors.ResidualFlow(network, **{"event_shape": (2,), **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coefficient": 1.2}, "coefficient"),
        ({"activation": "relu"}, "activation"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"levels": 2}, "levels is for images"),
        ({"event_shape": (6, 8, 1), "levels": 3}, "height.*4.*6"),
    ],
)
def test_errors_of_the_ready_flow(options, words):
    with pytest.raises(ValueError, match=words):
        flows.residual_flow(**{"event_shape": (3,), "width": 4, **options})
