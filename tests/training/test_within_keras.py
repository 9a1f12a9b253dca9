"""Flows inside Keras models, with Keras's callbacks and tuners, and TFP's own flows."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow, perturb
from tests.training.support import assert_same, compiled, points, values, vector
from tfp_flows import Flow, FlowModel, distributions, flows, networks
from tfp_flows.training import BitsPerDim, NegativeLogLikelihood
from tfp_flows.training import negative_log_likelihood as nll
from tfp_flows.training.keras_variables import find_variables

tfb = tfp.bijectors
tfd = tfp.distributions


class Bare(tfb.Bijector):
    """A bijector that tells TFP nothing of its arguments."""

    def __init__(self):
        self.shift = tf.Variable(1.0)
        super().__init__(forward_min_event_ndims=0, name="bare")

    def _forward(self, x):
        return x + self.shift

    def _inverse(self, y):
        return y - self.shift

    def _forward_log_det_jacobian(self, x):
        return tf.zeros_like(x)


def test_a_bijector_without_parameters(tmp_path):
    flow = tfd.TransformedDistribution(distributions.standard_normal((2,)), Bare())
    model = compiled(flow, run_eagerly=True)
    model.fit(points(), epochs=2, verbose=0)
    assert flow.bijector.shift.numpy() != 1.0
    model.save_weights(tmp_path / "a.weights.h5")
    model.load_weights(tmp_path / "a.weights.h5")


# Flows that Keras does not see.


class Holder(keras.Model):
    """A model with a flow as a plain attribute."""

    def __init__(self, part, use):
        super().__init__()
        self.scale = keras.layers.Dense(2)
        self.part, self.use = part, use

    def call(self, x):
        return self.use(self.part, self.scale(x))


def log_prob_of(distribution, x):
    return distribution.log_prob(x)


USES = {
    "log_prob": (vector, lambda flow, x: flow.log_prob(x)),
    "encode": (vector, lambda flow, x: flow.encode(x)),
    "sample": (vector, lambda flow, x: x + flow.sample(seed=0)),
    "bijector": (lambda: vector().bijector, lambda b, x: b.forward(x)),
    "log_det": (
        lambda: vector().bijector,
        lambda b, x: b.inverse_log_det_jacobian(x, event_ndims=1),
    ),
    "mixture": (lambda: distributions.gaussian_mixture((2,)), log_prob_of),
    "fitted_mixture": (lambda: distributions.FittedMixture((2,)), log_prob_of),
    "diagonal": (lambda: distributions.diagonal_normal((2,)), log_prob_of),
    "student_t": (lambda: distributions.student_t((2,)), log_prob_of),
    "samples_of_a_mixture": (
        lambda: distributions.gaussian_mixture((2,)),
        lambda base, x: x + base.sample(seed=0),
    ),
    "resampled": (
        lambda: distributions.ResampledBase(networks.MLP(1, [4]), (2,), draws=4),
        log_prob_of,
    ),
    "of_classes": (
        lambda: distributions.ClassConditionalNormal((2,), 2),
        lambda base, x: base.log_prob(x, context=x),
    ),
    "of_given_classes": (
        lambda: distributions.ClassConditionalNormal((2,), 2),
        lambda base, x: base.given(x).log_prob(x),
    ),
    "a_flow_whose_base_has_all_variables": (
        lambda: Flow(distributions.diagonal_normal((2,)), tfb.Exp()),
        lambda flow, x: flow.log_prob(tf.exp(x)),
    ),
    "its_samples": (
        lambda: Flow(distributions.diagonal_normal((2,)), tfb.Exp()),
        lambda flow, x: x + flow.sample_and_log_prob(seed=0)[0],
    ),
    "tfp_distribution": (
        lambda: tfd.TransformedDistribution(
            distributions.standard_normal((2,)), tfb.Chain([vector().bijector])
        ),
        lambda d, x: d.log_prob(x),
    ),
}


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("name", USES)
def test_a_flow_that_keras_does_not_see_is_an_error(name, run_eagerly):
    build, use = USES[name]
    model = Holder(build(), use)
    model.compile(loss=nll, run_eagerly=run_eagerly)
    match = "does not track them.*FlowModel"
    with pytest.raises(ValueError, match=match):
        model.fit(points(), np.zeros(24), verbose=0)
    with pytest.raises(ValueError, match=match):
        model(points())
    with pytest.raises(ValueError, match=match):
        keras.Sequential([keras.layers.Input((2,)), model])


class Layer(keras.layers.Layer):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, x):
        return self.part.log_prob(x)


def test_a_layer_that_keras_does_not_see_is_an_error():
    with pytest.raises(ValueError, match="does not track them"):
        keras.Sequential([keras.layers.Input((2,)), Layer(vector())])
    # Where no Keras layer is running, nobody asks.
    Layer(vector()).part.log_prob(points())


class Step(keras.Model):
    """Uses a flow in a step of the user's own, or in what such a step calls."""

    def __init__(self, density, where, use=log_prob_of):
        super().__init__()
        self.scale = keras.layers.Dense(2)
        self.density, self.where, self.use = density, where, use

    def call(self, x):
        return self.scale(x)

    def loss_of(self, x):
        flow = getattr(self.density, "flow", self.density)
        return -tf.reduce_mean(self.use(flow, self(x)))

    def train_step(self, data):
        if self.where != "train_step":
            return super().train_step(data)
        with tf.GradientTape() as tape:
            loss = self.loss_of(data[0])
        # Even if the user trains the flow, Keras would not save it.
        variables = self.trainable_variables or self.density.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"own_loss": loss}

    def test_step(self, data):
        return {"loss": self.loss_of(data[0])}

    def predict_step(self, data):
        return self.loss_of(data)

    def compute_loss(self, x=None, *args, **kwargs):
        return self.loss_of(x)


STEP_USES = {
    "log_prob": (vector, log_prob_of),
    "sample": (vector, lambda flow, x: x + flow.sample_and_log_prob(seed=0)[0]),
    "bijector": (lambda: vector().bijector, lambda b, x: b.inverse(x)),
    "base": (lambda: distributions.student_t((2,)), log_prob_of),
}


@pytest.mark.parametrize("name", fast_and_slow(STEP_USES, "log_prob", "bijector"))
def test_a_flow_in_a_step_of_ones_own_is_an_error(name):
    build, use = STEP_USES[name]
    run_eagerly = name != "log_prob"
    match = "Step .* does not track them.*FlowModel"
    x, y = points(), np.zeros(24)
    for where in ("train_step", "compute_loss"):
        model = Step(build(), where, use)
        model.compile(run_eagerly=run_eagerly)
        with pytest.raises(ValueError, match=match):
            model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=match):
        model.evaluate(x, y, verbose=0)
    with pytest.raises(ValueError, match=match):
        model.predict(x, verbose=0)


def test_a_step_that_autograph_converts():
    class Converted(Step):
        @tf.function
        def train_step(self, x):
            return self.loss_of(x)

    with pytest.raises(ValueError, match="does not track them"):
        Converted(vector(), "train_step").train_step(points())


def test_a_tracked_flow_in_a_step_of_ones_own():
    model = Step(FlowModel(vector()), "train_step")
    before = values(model.density.flow)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(points(), np.zeros(24), epochs=3, verbose=0).history
    assert history["own_loss"][-1] < history["own_loss"][0]
    moved = zip(before, values(model.density.flow), strict=True)
    assert any(not np.array_equal(a, b) for a, b in moved)
    assert np.isfinite(model.evaluate(points(), np.zeros(24), verbose=0))


def test_who_is_no_keras_model_may_have_steps():
    class Trainer:
        flow = vector()

        def train_step(self, x):
            return self.flow.log_prob(x)

    assert Trainer().train_step(points()).shape == (24,)


def test_a_flow_model_with_a_train_step_of_ones_own():
    """It may update none of the metrics that `compile` has added."""

    class Own(FlowModel):
        def train_step(self, data):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(self.flow.log_prob(data))
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return {"loss": loss}

    model = Own(vector())
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(points(), epochs=3, verbose=0).history
    assert set(history) == {"loss"} and history["loss"][-1] < history["loss"][0]
    assert len(model.evaluate(points(), verbose=0)) == 3


class Wrapped(keras.Model):
    """One that tracks the variables in its own way."""

    def __init__(self, flow):
        super().__init__()
        self.part = flow
        self.wrapped = [
            keras.Variable(v, trainable=v.trainable, dtype=v.dtype.name)
            for v in flow.variables
        ]

    def call(self, x):
        return self.part.log_prob(x)


@keras.saving.register_keras_serializable("test_within_keras")
class Outer(keras.Model):
    """A flow behind a layer, as documented."""

    def __init__(self, model=None, **kwargs):
        super().__init__(**kwargs)
        self.scale = keras.layers.Dense(2, kernel_initializer="identity")
        self.density = FlowModel(vector()) if model is None else model

    def call(self, x):
        return self.density(self.scale(x))

    def get_config(self):
        return {"name": self.name}


def test_tracked_variables_are_trained():
    x = points()
    wrapped, outer = Wrapped(vector()), Outer()
    for model, flow in ((wrapped, wrapped.part), (outer, outer.density.flow)):
        before = values(flow)
        model.compile(keras.optimizers.Adam(0.02), loss=nll)
        history = model.fit(x, np.zeros(24), epochs=3, verbose=0).history["loss"]
        assert history[-1] < history[0]
        moved = zip(before, values(flow), strict=True)
        assert any(not np.array_equal(a, b) for a, b in moved)


def test_a_model_within_a_model_is_saved(tmp_path):
    model = Outer()
    size = 2
    model.compile(
        keras.optimizers.Adam(0.02),
        loss=nll,
        metrics=[NegativeLogLikelihood(), BitsPerDim(size)],
    )
    x = points()
    history = model.fit(x, np.zeros(24), epochs=2, verbose=0).history
    assert set(history) == {"loss", "nll", "bits_per_dim"}
    np.testing.assert_allclose(history["nll"], history["loss"], 1e-5)
    bits = np.asarray(history["nll"]) / (size * np.log(2.0))
    np.testing.assert_allclose(history["bits_per_dim"], bits, 1e-5)
    model.save(tmp_path / "outer.keras")
    loaded = keras.models.load_model(tmp_path / "outer.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    model.save_weights(tmp_path / "outer.weights.h5")
    other = Outer(FlowModel(vector(seed=5)))
    other(x)
    other.load_weights(tmp_path / "outer.weights.h5")
    np.testing.assert_array_equal(other(x), model(x))


def test_a_frozen_flow():
    flow = perturb(vector())
    model = Outer(FlowModel(flow))
    model.density.trainable = False
    before = values(flow)
    model.compile(keras.optimizers.Adam(0.02), loss=nll)
    model.fit(points(), np.zeros(24), verbose=0)
    assert_same(before, values(flow))


def test_mixed_precision_around_a_flow():
    """The check sees through the precision in which the layers around compute."""
    model = Outer()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = Outer(model.density)
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed.compute_dtype == "bfloat16"
    assert np.isfinite(mixed(points())).all()


# Callbacks and tuners.


def test_callbacks_know_that_less_is_better(tmp_path):
    for name in ("nll", "val_nll", "bits_per_dim", "val_bits_per_dim"):
        callbacks = [
            keras.callbacks.EarlyStopping(name),
            keras.callbacks.ReduceLROnPlateau(name),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor=name, save_best_only=True
            ),
        ]
        model = compiled(vector(), run_eagerly=True)
        model.fit(
            points(),
            validation_data=points(8, seed=3),
            epochs=2,
            callbacks=callbacks,
            verbose=0,
        )
        for callback in callbacks:
            assert callback.monitor_op is keras.ops.less


def test_a_loaded_model_has_its_metrics_once(tmp_path):
    model = compiled(vector())
    model.fit(points(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert set(loaded.fit(points(), verbose=0).history) == {
        "loss",
        "nll",
        "bits_per_dim",
    }


def test_metrics_of_the_users_own():
    def squared(y_true, log_prob):
        return log_prob**2

    flow = vector()
    w = np.linspace(0, 2, 24)
    model = compiled(
        flow,
        keras.optimizers.SGD(0.0),
        metrics=[squared],
        weighted_metrics=[keras.metrics.MeanMetricWrapper(squared, name="weighted")],
        run_eagerly=True,
    )
    history = model.fit(points(), sample_weight=w, verbose=0).history
    assert set(history) == {"loss", "nll", "bits_per_dim", "squared", "weighted"}
    log_prob = flow.log_prob(points()).numpy()
    np.testing.assert_allclose(history["squared"], [np.mean(log_prob**2)], 1e-5)
    expected = (w * log_prob**2).sum() / w.sum()
    np.testing.assert_allclose(history["weighted"], [expected], 1e-5)


@pytest.mark.slow
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    model = compiled(vector())
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_graph=True)
    model.fit(points(), validation_data=points(8), epochs=2, callbacks=board, verbose=0)
    assert {p.name for p in tmp_path.iterdir()} == {"train", "validation"}


@pytest.mark.slow
def test_a_search_over_arguments(tmp_path):
    """What Keras Tuner does: builds, fits with a checkpoint, reads the best epoch."""
    results = {}
    for width in (4, 8):
        keras.backend.clear_session()
        model = compiled(flows.real_nvp((2,), layers=1, width=width))
        path = str(tmp_path / f"{width}.weights.h5")
        checkpoint = keras.callbacks.ModelCheckpoint(
            path, monitor="val_nll", save_best_only=True, save_weights_only=True
        )
        history = model.fit(
            points(),
            validation_data=(points(8),),
            epochs=2,
            callbacks=[checkpoint],
            verbose=0,
        )
        results[width] = min(history.history["val_nll"])
        model.load_weights(path)
        found = model.evaluate(points(8), verbose=0, return_dict=True)["nll"]
        np.testing.assert_allclose(found, results[width], 1e-5)


def test_plot_model(tmp_path):
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    model = FlowModel(vector())
    x = keras.Input((2,))
    around = keras.Model(x, model(keras.layers.Rescaling(0.1)(x)))
    path = tmp_path / "model.png"
    keras.utils.plot_model(around, path, show_shapes=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_keras_tuner(tmp_path):
    tuner = pytest.importorskip("keras_tuner")

    def build(hp):
        width = hp.Choice("width", [4, 8])
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        return compiled(
            flows.real_nvp((2,), layers=1, width=width), keras.optimizers.Adam(rate)
        )

    objective = tuner.Objective("val_nll", "min")
    search = tuner.RandomSearch(
        build, objective, max_trials=2, seed=0, directory=tmp_path, project_name="t"
    )
    search.search(
        points(), validation_data=(points(8),), epochs=2, verbose=0, batch_size=24
    )
    best = search.oracle.get_best_trials(1)[0]
    (model,) = search.get_best_models(1)
    found = model.evaluate(points(8), verbose=0, return_dict=True)["nll"]
    np.testing.assert_allclose(found, best.score, 1e-5)


def test_optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        width = trial.suggest_categorical("width", [4, 8])
        model = compiled(flows.real_nvp((2,), layers=1, width=width), run_eagerly=True)
        history = model.fit(points(), validation_data=points(8), verbose=0).history
        trial.report(history["val_nll"][-1], 0)
        return history["val_nll"][-1]

    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.optimize(objective, n_trials=2)
    assert np.isfinite(study.best_value)


# TFP's own flows and distributions.


def autoregressive():
    network = tfb.AutoregressiveNetwork(
        2, event_shape=[2], hidden_units=[16], activation="tanh"
    )
    return tfd.TransformedDistribution(
        distributions.standard_normal((2,)), tfb.MaskedAutoregressiveFlow(network)
    )


@pytest.mark.slow
def test_the_masked_autoregressive_flow_of_tfp_stays_a_density():
    """Its masks are constraints of its variables."""
    keras.utils.set_random_seed(0)
    x = points(256)
    x[:, 1] += 0.5 * x[:, 0] ** 2
    for optimizer in ("adam", keras.optimizers.Adam(0.02)):
        distribution = autoregressive()
        model = compiled(distribution, optimizer)
        model.optimizer.learning_rate.assign(0.02)
        model.fit(x, batch_size=32, epochs=8, verbose=0)
        side = np.linspace(-40.0, 60.0, 801, dtype="float32")
        grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
        density = np.exp(distribution.log_prob(grid).numpy().astype("float64"))
        np.testing.assert_allclose(density.sum() * (side[1] - side[0]) ** 2, 1, 2e-3)
        jacobian = tfp.math.value_and_gradient(
            lambda x: distribution.bijector.inverse(x)[..., 0], tf.constant(x)
        )[1]
        np.testing.assert_array_equal(jacobian[:, 1], 0.0)


def test_constraints_of_variables_hold():
    scale = tf.Variable([1.0, 1.0], constraint=lambda v: tf.clip_by_value(v, 0.9, 1.1))
    distribution = tfd.TransformedDistribution(
        distributions.standard_normal((2,)), tfb.Scale(scale)
    )
    compiled(distribution, keras.optimizers.SGD(1.0)).fit(10 * points(), verbose=0)
    np.testing.assert_allclose(scale, 1.1)


def test_a_model_evaluates_nothing_when_it_is_built():
    """TFP's Glow starts from the first data it sees."""
    glow = tfb.Glow(
        output_shape=(4, 4, 1),
        coupling_bijector_fn=tfb.GlowDefaultNetwork,
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
        num_glow_blocks=1,
        num_steps_per_block=1,
    )
    distribution = tfd.TransformedDistribution(
        distributions.standard_normal((16,)), glow
    )
    before = values(distribution)
    model = FlowModel(distribution)
    assert_same(before, values(distribution))
    assert len(model.trainable_variables) == len(distribution.trainable_variables)


@pytest.mark.parametrize(
    "build",
    [
        lambda: flows.maf((2,), bounds=(18, 90), logit_margin=0.01, width=8, layers=1),
        lambda: tfd.Pareto(tf.Variable(3.0), 10.0, validate_args=True),
        lambda: tfd.TransformedDistribution(
            tfd.Beta(tf.Variable(2.0), 2.0, validate_args=True),
            tfb.Shift(5.0),
            validate_args=True,
        ),
        lambda: tfd.Poisson(tf.Variable(3.0), validate_args=True),
    ],
    ids=["bounds", "pareto", "beta", "poisson"],
)
def test_any_support(build):
    distribution = build()
    found = {v.ref() for v in find_variables(distribution)}
    assert found == {v.ref() for v in distribution.trainable_variables}
    assert FlowModel(distribution).trainable_variables


def test_hidden_variables_keep_their_values():
    """A network that is called for its variables, and shows none of them."""
    seen = []

    def network(x, units):
        if not seen:
            seen.append(tf.Variable(tf.ones([1, units]), name="hidden"))
            seen.append(tf.Variable(0.0, trainable=False, name="calls"))
        if tf.executing_eagerly():
            seen[1].assign_add(1.0)
        return tf.matmul(x, seen[0]), None

    distribution = tfd.TransformedDistribution(
        distributions.standard_normal((2,)),
        tfb.RealNVP(1, shift_and_log_scale_fn=network),
    )
    model = FlowModel(distribution)
    assert len(seen) == 2 and float(seen[1]) == 0.0
    assert [id(v.value) for v in model.trainable_variables] == [id(seen[0])]
