"""Steps that try XLA, and keep it where it is faster."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import FlowModel, flows
from tfp_flows.bijectors import AffineCoupling
from tfp_flows.distributions import Flow, standard_normal
from tfp_flows.masks import alternating
from tfp_flows.training import FlowMatching, XLAWhereFaster, initialize

STEPS = XLAWhereFaster.steps
X = np.random.default_rng(0).normal(size=(100, 2)).astype("float32")


def small():
    return flows.radial((2,), layers=1, seed=0)


class Step:
    """Stands for a step that takes some time; keeps its batches."""

    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error, self.batches = seconds, error, []
        self.spent = 0.0

    def __call__(self, batches):
        if self.error is not None:
            raise self.error
        self.batches.append(next(batches) if hasattr(batches, "__next__") else batches)
        self.spent += self.seconds
        return self.batches[-1]


def tried_at_once(plain, compiled):
    """Tries XLA as soon as it can, by the time that the two steps say they take."""
    return XLAWhereFaster(
        plain,
        lambda: compiled,
        patience=1.0,
        least=0.0,
        clock=lambda: plain.spent + compiled.spent,
    )


@pytest.mark.parametrize("with_xla", [True, False])
def test_the_faster_one_stays(with_xla):
    plain, compiled = Step(1.0), Step(0.9 if with_xla else 1.1)
    step = tried_at_once(plain, compiled)
    batches = iter(range(40))
    assert [step(batches) for _ in range(40)] == list(range(40))
    assert step.uses_xla is with_xla
    # So many of both, then those of one alone.
    assert plain.batches[: STEPS + 1] == list(range(STEPS + 1))
    assert compiled.batches[: STEPS + 1] == list(range(STEPS + 1, 2 * STEPS + 2))
    assert len((compiled if with_xla else plain).batches) == 40 - STEPS - 1
    with pytest.raises(StopIteration):
        step(iter(())) if with_xla else next(batches)


def test_a_step_that_is_always_compiled_anew_is_soon_given_up():
    plain, compiled = Step(1.0), Step(50.0)
    step = tried_at_once(plain, compiled)
    for i in range(40):
        assert step([i]) == [i]
    assert len(compiled.batches) == 4 and not step.uses_xla


@pytest.mark.parametrize("waits", [{"least": 100.0}, {"least": 0.0, "patience": 1e9}])
def test_it_waits(waits):
    step = XLAWhereFaster(Step(), lambda: pytest.fail("compiled"), **waits)
    for i in range(50):
        assert step([i]) == [i]
    assert not step.uses_xla


@pytest.mark.parametrize("kind", [iter, list])
def test_no_batch_is_lost_where_xla_fails(kind):
    plain = Step()
    failing = Step(error=tf.errors.UnimplementedError(None, None, "no such\nop"))
    step = XLAWhereFaster(plain, lambda: failing, patience=1.0, least=0.0)
    with pytest.warns(UserWarning, match=r"goes on without it.*XLA said: no such$"):
        for i in range(30):
            step(kind([i]))
    assert [b if kind is iter else b[0] for b in plain.batches] == list(range(30))
    assert not step.uses_xla


def test_no_batch_is_lost_where_xla_fails_late():
    """At a batch of another size, say, long after it was found to be faster."""
    plain, compiled = Step(1.0), Step(0.5)
    step = tried_at_once(plain, compiled)
    batches = iter(range(50))
    for _ in range(40):
        step(batches)
    assert step.uses_xla
    compiled.error = tf.errors.InvalidArgumentError(None, None, "no constant shape")
    with pytest.warns(UserWarning, match=r"goes on without it.*no constant shape$"):
        step(batches)
    for _ in range(9):
        step(batches)
    assert sorted(plain.batches + compiled.batches) == list(range(50))
    assert plain.batches[-10:] == list(range(40, 50)) and not step.uses_xla


def model_that_tries(flow, step="train", **options):
    """A model of which a step tries XLA at once."""
    model = FlowModel(flow)
    model.compile("adam", jit_compile=False, **options)
    make = getattr(model, f"make_{step}_function")
    make()
    plain = getattr(model, f"{step}_function")

    def compiled():
        model.jit_compile = True
        make(force=True)
        made = getattr(model, f"{step}_function")
        model.jit_compile = False
        setattr(model, f"{step}_function", chooses)
        return made

    batches = options.get("steps_per_execution", 1)
    chooses = XLAWhereFaster(plain, compiled, batches, patience=1.0, least=0.0)
    setattr(model, f"{step}_function", chooses)
    return model, chooses


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 3])
def test_training_is_the_same_up_to_rounding(batches):
    def trained(tries):
        keras.utils.set_random_seed(0)
        flow = small()
        if tries:
            model, step = model_that_tries(flow, steps_per_execution=batches)
        else:
            model, step = FlowModel(flow), None
            model.compile("adam", jit_compile=False, steps_per_execution=batches)
        # Ten batches, the last of which is smaller.
        history = model.fit(X[:95], batch_size=10, epochs=8, verbose=0, shuffle=False)
        assert int(model.optimizer.iterations.numpy()) == 80
        return history.history["nll"], step

    plain, _ = trained(False)
    both, step = trained(True)
    np.testing.assert_allclose(both, plain, rtol=1e-5)
    assert step._compiled is not None


def test_predictions_are_all_there():
    model, step = model_that_tries(small(), "predict")
    initialize(model.flow, X)
    expected = model.flow.log_prob(X)
    found = [model.predict(X, batch_size=9, verbose=0) for _ in range(3)]
    for log_prob in found:
        np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    assert step._compiled is not None


class OutsideOfTensorFlow(keras.layers.Layer):
    """A conditioner that XLA cannot compile."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        y = self.dense(x)
        same = tf.numpy_function(lambda v: v, [y], y.dtype)
        return y + tf.stop_gradient(tf.ensure_shape(same, y.shape) - y)


def test_a_flow_that_xla_cannot_compile_trains_on():
    coupling = AffineCoupling(alternating(2), OutsideOfTensorFlow())
    model, step = model_that_tries(Flow(standard_normal([2]), coupling))
    with pytest.warns(UserWarning, match="XLA cannot compile this step"):
        model.fit(X, batch_size=10, epochs=3, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 30
    assert not step.uses_xla


@pytest.mark.slow
def test_a_flow_of_loops_trains_with_xla():
    """Also the last batch of an epoch, which is smaller."""
    flow = flows.ffjord((2,), width=4, depth=1, steps=2, seed=0)
    model, step = model_that_tries(flow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X[:95], batch_size=10, epochs=3, verbose=0)
    assert step._compiled is not None


def test_who_tries(tmp_path):
    """`"auto"` does, by default and in files; nothing else does."""
    model = FlowModel(small())
    model.compile("adam")
    model.fit(X, verbose=0, validation_data=X)
    model.predict(X, verbose=0)
    steps = [model.train_function, model.test_function, model.predict_function]
    assert all(isinstance(step, XLAWhereFaster) for step in steps)
    model.fit(X, verbose=0)
    assert model.train_function is steps[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["jit_compile"] == "auto"
    for options in ({"jit_compile": False}, {"run_eagerly": True}):
        model.compile("adam", **options)
        model.make_train_function()
        assert not isinstance(model.train_function, XLAWhereFaster)
        assert model.get_compile_config()["jit_compile"] is False
    with pytest.raises(ValueError, match=r"jit_compile must be one of .*'always'"):
        model.compile("adam", jit_compile="always")


def test_optimal_transport_does_not_try():
    model = FlowMatching(
        flows.ffjord((2,), layers=1, width=8, base="normal"),
        pairing="optimal_transport",
    )
    model.compile("adam")
    model.make_train_function()
    assert not isinstance(model.train_function, XLAWhereFaster)
