"""The fused Adam makes Keras's updates."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

import tfp_flows
from tests.training.support import compiled, points, vector
from tfp_flows.training import FusedAdam

OPTIONS = {
    "default": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2},
    "schedule": {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 5)},
    "weight decay": {"weight_decay": 0.1},
    "clipping": {"global_clipnorm": 0.5},
    "clipping each": {"clipnorm": 0.2},
    "average": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    "accumulation": {"gradient_accumulation_steps": 2},
    "amsgrad": {"amsgrad": True},
}


def updates(kind, wrap=lambda f: f, dtype="float64", sparse=False, **options):
    """Variables, and then the optimizer's, after six steps."""
    options = {"learning_rate": 0.1, **options}
    draw = np.random.default_rng(0)
    variables = [
        tf.Variable(draw.standard_normal(shape), dtype=dtype) for shape in ([], [3, 2])
    ]
    gradients = tf.constant(draw.standard_normal((6, 7)), dtype)
    optimizer = kind(**options)
    optimizer.build(variables)

    @wrap
    def step(g):
        second = tf.reshape(g[1:], [3, 2])
        if sparse:
            second = tf.IndexedSlices(second[1:], tf.constant([2, 0]), [3, 2])
        optimizer.apply([g[0], second], variables)

    for g in gradients:
        step(g)
    return [np.array(v.numpy()) for v in (*variables, *optimizer.variables)]


def assert_same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_updates_are_those_of_keras(name):
    options = OPTIONS[name]
    found = updates(FusedAdam, tf.function, **options)
    # Keras rounds the betas to single precision.
    assert_same(found, updates(keras.optimizers.Adam, **options), 1e-4)


def test_updates_are_those_of_the_paper():
    variable = tf.Variable(1.5, dtype=tf.float64)
    optimizer = FusedAdam(0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-3)
    theta, m, v = 1.5, 0.0, 0.0
    for t, g in enumerate([0.3, -2.0, 0.7], 1):
        optimizer.apply([tf.constant(g, tf.float64)], [variable])
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        rate = 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
        theta -= rate * m / (np.sqrt(v) + 1e-3)
        # The rate itself is a variable of single precision.
        np.testing.assert_allclose(variable, theta, rtol=1e-8)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_ways_to_run(dtype, tolerance):
    expected = updates(FusedAdam, dtype=dtype)
    for wrap in (tf.function, tf.function(jit_compile=True)):
        assert_same(updates(FusedAdam, wrap, dtype), expected, tolerance)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"use_ema": True}])
def test_warmup(wrap, options):
    class Rising(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1 * keras.ops.minimum((keras.ops.cast(step, "float32") + 1) / 4, 1)

    found = updates(FusedAdam, wrap, warmup_steps=4, **options)
    rising = updates(keras.optimizers.Adam, wrap, learning_rate=Rising(), **options)
    # Beside these Keras keeps the rate, which is a variable here.
    np.testing.assert_allclose(found.pop(3), 0.1, rtol=1e-6)
    assert_same(found, rising, 1e-4)


def test_warmup_and_a_rate_that_a_callback_sets():
    variable, optimizer = tf.Variable(0.0), FusedAdam(0.1, warmup_steps=2)
    optimizer.apply([tf.constant(1.0)], [variable])
    np.testing.assert_allclose(variable, -0.05, rtol=1e-5)
    optimizer.learning_rate = 1.0
    optimizer.apply([tf.constant(1.0)], [variable])
    np.testing.assert_allclose(variable, -1.05, rtol=1e-5)
    again = FusedAdam.from_config(optimizer.get_config())
    assert again.warmup_steps == 2
    with pytest.raises(ValueError, match="warmup_steps must be at least 0, got -1"):
        FusedAdam(warmup_steps=-1)
    with pytest.raises(TypeError, match="warmup_steps"):
        FusedAdam(warmup_steps=2.5)


def test_warmup_to_a_rate_that_is_a_function():
    found = updates(FusedAdam, learning_rate=lambda: 0.1, warmup_steps=4)
    expected = updates(FusedAdam, warmup_steps=4)
    del expected[3]  # The rate, which is a variable there.
    assert_same(found, expected, 1e-6)


def test_only_images_warm_up():
    assert compiled(vector()).optimizer.warmup_steps == 0
    flow = tfp_flows.flows.nice((2, 2, 1), layers=2, width=4, seed=0)
    assert compiled(flow).optimizer.warmup_steps == 100
    assert type(compiled(flow, keras.optimizers.Adam()).optimizer) is not FusedAdam


def test_sparse_gradients():
    options = {"wrap": tf.function, "sparse": True}
    expected = updates(keras.optimizers.Adam, **options)
    assert_same(updates(FusedAdam, **options), expected, 1e-4)


def test_variables_of_two_precisions():
    single, double = tf.Variable([1.0]), tf.Variable([1.0], dtype=tf.float64)
    optimizer = FusedAdam(0.1)
    optimizer.apply([tf.ones([1]), tf.ones([1], tf.float64)], [single, double])
    np.testing.assert_allclose(single, [0.9], rtol=1e-6)
    np.testing.assert_allclose(double, [0.9], rtol=1e-6)


def test_one_operation_for_each_variable():
    def operations(n):
        variables = [tf.Variable([1.0]) for _ in range(n)]
        optimizer = FusedAdam()
        optimizer.build(variables)
        step = tf.function(lambda g: optimizer.apply([g] * n, variables))
        graph = step.get_concrete_function(tf.ones([1])).graph
        return len(graph.get_operations())

    # With the handles of a variable and its two moments.
    assert operations(12) - operations(2) == 10 * 4


def test_is_the_adam_of_a_model():
    model = compiled(vector())
    assert type(model.optimizer) is FusedAdam
    assert type(compiled(vector(), keras.optimizers.Adam()).optimizer) is not FusedAdam


def test_learns_as_with_keras():
    found = []
    for optimizer in (FusedAdam(0.02), keras.optimizers.Adam(0.02)):
        model = compiled(vector(), optimizer)
        history = model.fit(points(), epochs=3, batch_size=8, shuffle=False, verbose=0)
        found.append(history.history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    assert found[0][-1] < found[0][0]


def test_is_saved_with_a_model(tmp_path):
    model = compiled(vector(), FusedAdam(0.02, beta_1=0.8))
    model.fit(points(), epochs=2, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, tfp_flows.FlowModel)
    assert type(loaded.optimizer) is FusedAdam
    assert loaded.optimizer.beta_1 == 0.8
    histories = [
        m.fit(points(), epochs=2, batch_size=8, shuffle=False, verbose=0).history
        for m in (model, loaded)
    ]
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-6)


def test_state_of_keras_goes_on(tmp_path):
    """A run that was begun with Keras's Adam."""
    model = compiled(vector(), keras.optimizers.Adam(0.02))
    model.fit(points(), epochs=1, batch_size=8, verbose=0)
    path = str(tmp_path / "checkpoint")
    tf.train.Checkpoint(optimizer=model.optimizer).write(path)
    other = compiled(vector(), FusedAdam(0.02))
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(optimizer=other.optimizer).read(path).assert_consumed()
    for a, b in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["real_nvp", "iaf"])
def test_a_dropped_model_leaves_no_graph(name):
    """TensorFlow would keep those of Keras's Adam, and all weights with them."""

    def graphs():
        gc.collect()
        found = (o for o in gc.get_objects() if isinstance(o, FuncGraph))
        return sum("one_step_on_data" in graph.name for graph in found)

    before = graphs()
    flow = getattr(tfp_flows.flows, name)((2,), layers=1, width=4, normalize=False)
    model = tfp_flows.FlowModel(flow)
    model.compile("adam")
    model.fit(points(), epochs=1, verbose=0)
    assert graphs() > before
    del model, flow
    assert graphs() == before
