"""Training, evaluating and predicting."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tests.support import close_relatively, fast_and_slow, perturb
from tests.training.support import (
    assert_same,
    compiled,
    contexts,
    copies,
    image,
    images,
    points,
    values,
    vector,
)
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows, masks, networks
from tfp_flows.training import initialize

tfb = tfp.bijectors
tfd = tfp.distributions


def still(flow, **options):
    """A compiled model that does not learn: its losses can be computed by hand."""
    return compiled(flow, keras.optimizers.SGD(0.0), **options)


# What is trained on.


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def bare(parts):
    return parts[0] if len(parts) == 1 else parts


def batches(parts):
    return [tuple(p[i : i + 8] for p in parts) for i in range(0, 24, 8)]


def dataset(parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(8)


KINDS = {
    "arrays": lambda *parts: parts,
    "lists": lambda *parts: [p.tolist() for p in parts],
    "tensors": lambda *parts: [tf.constant(p) for p in parts],
    "float64": lambda *parts: [p.astype("float64") for p in parts],
    "one_argument": lambda *parts: [bare(parts)],
    "dataset": lambda *parts: [dataset(parts)],
    "bare_dataset": lambda *parts: [dataset(bare(parts))],
    "generator": lambda *parts: [(b for b in batches(parts))],
    "bare_generator": lambda *parts: [(bare(b) for b in batches(parts))],
    "iterator": lambda *parts: [iter(batches(parts))],
    "py_dataset": lambda *parts: [Batches(batches(parts))],
    "bare_py_dataset": lambda *parts: [Batches([bare(b) for b in batches(parts)])],
}


@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:.*shuffle=True")
@pytest.mark.parametrize("conditional", [False, True], ids=["x", "x_context"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data(kind, conditional):
    flow = perturb(vector(layers=1, context_shape=(3,) if conditional else None))
    x, c = points(), contexts()
    parts = (x, c) if conditional else (x,)
    expected = -np.mean(flow.log_prob(x, **({"context": c} if conditional else {})))
    model = still(flow, run_eagerly=True)
    history = model.fit(*KINDS[kind](*parts), verbose=0).history
    close_relatively(history["loss"], [expected])
    close_relatively(history["nll"], [expected])


@pytest.mark.parametrize("kind", ["arrays", "dataset", "py_dataset"])
def test_kinds_of_data_to_evaluate_and_predict(kind):
    flow = perturb(vector(context_shape=(3,)))
    x, c = points(), contexts()
    log_prob = flow.log_prob(x, context=c).numpy()
    model = still(flow, run_eagerly=True)
    close_relatively(model.evaluate(*KINDS[kind](x, c), verbose=0)[0], -log_prob.mean())
    given = ((x, c),) if kind == "arrays" else KINDS[kind](x, c)
    close_relatively(model.predict(*given, verbose=0), log_prob)


def test_integers_are_numbers_too():
    x = np.round(points()).astype("uint8")
    flow = perturb(vector())
    with pytest.warns(UserWarning, match="whole numbers"):
        history = still(flow, run_eagerly=True).fit(x, verbose=0).history
    close_relatively(history["loss"], [-np.mean(flow.log_prob(x.astype("float32")))])


def test_labels():
    flow = perturb(image())
    x, labels = images()
    initialize(flow, x, labels)
    log_prob = flow.log_prob(x, context=labels).numpy()
    model = still(flow, run_eagerly=True)
    for given in (labels, labels.tolist(), labels.astype("int64")):
        history = model.fit(x, given, verbose=0).history
        close_relatively(history["loss"], [-log_prob.mean()])
        close_relatively(
            history["bits_per_dim"], [-log_prob.mean() / (16 * math.log(2))]
        )
    close_relatively(model.predict((x, labels), verbose=0), log_prob)
    other = flow.log_prob(x, context=(labels + 1) % 3).numpy()
    assert np.abs(other - log_prob).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "run_eagerly"),
    [
        ("array", False),
        ("array", True),
        ("array_context", True),
        ("dataset", True),
        ("dataset_context", True),
        ("validation", True),
    ],
)
def test_sample_weights(kind, run_eagerly):
    """The loss is the mean of weight times loss, `nll` the weighted mean."""
    conditional = kind.endswith("context")
    flow = perturb(vector(layers=1, context_shape=(3,) if conditional else None))
    x, c = points(), contexts()
    w = np.linspace(0.0, 3.0, 24).astype("float32")
    nll = -flow.log_prob(x, **({"context": c} if conditional else {})).numpy()
    weighted = (w * nll).sum() / w.sum()
    assert abs((w * nll).mean() / nll.mean() - 1) > 0.01
    assert abs(weighted / nll.mean() - 1) > 0.01

    model = still(flow, run_eagerly=run_eagerly)
    parts = (x, c) if conditional else (x,)
    if kind == "validation":
        history = model.fit(x, validation_data=(x, None, w), verbose=0).history
        close_relatively(history["loss"], [nll.mean()])
        history = {k: history[f"val_{k}"] for k in ("loss", "nll", "bits_per_dim")}
    elif kind.startswith("dataset"):
        elements = (x, c if conditional else None, w)
        data = tf.data.Dataset.from_tensor_slices(elements).batch(24)
        history = model.fit(data, shuffle=False, verbose=0).history
    else:
        history = model.fit(*parts, sample_weight=w, batch_size=24, verbose=0).history
    close_relatively(history["loss"], [(w * nll).mean()])
    close_relatively(history["nll"], [weighted])
    close_relatively(history["bits_per_dim"], [weighted / (2 * math.log(2))])
    evaluated = model.evaluate(*parts, sample_weight=w, batch_size=24, verbose=0)
    close_relatively(evaluated[0], (w * nll).mean())


# Loss and metrics.


def test_loss_and_metrics():
    flow = perturb(vector())
    x, held_out = points(24), points(10, seed=5)
    before = -flow.log_prob(x).numpy().mean()
    model = compiled(flow, keras.optimizers.Adam(0.01))
    history = model.fit(
        x, batch_size=24, epochs=3, validation_data=(held_out,), verbose=0
    ).history
    names = {"loss", "nll", "bits_per_dim"}
    assert set(history) == names | {f"val_{n}" for n in names}
    close_relatively(history["loss"][0], before)
    assert history["loss"][2] < history["loss"][0]
    for prefix in ("", "val_"):
        close_relatively(history[f"{prefix}loss"], history[f"{prefix}nll"])
        bits = np.array(history[f"{prefix}bits_per_dim"])
        close_relatively(history[f"{prefix}nll"], bits * 2 * math.log(2))

    log_prob = flow.log_prob(held_out).numpy()
    close_relatively(history["val_nll"][2], -log_prob.mean())
    result = model.evaluate(held_out, batch_size=4, verbose=0, return_dict=True)
    assert set(result) == names
    close_relatively(result["nll"], -log_prob.mean())
    predicted = model.predict(held_out, batch_size=4, verbose=0)
    assert predicted.shape == (10,)
    close_relatively(predicted, log_prob)
    close_relatively(model(held_out), log_prob)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regularisers_of_networks_are_in_the_loss(dtype):
    """Keras adds losses up in its own dtype, which need not be that of the flow."""
    network = networks.MLP(
        2, (8,), seed=0, kernel_regularizer=keras.regularizers.L2(3), dtype=dtype
    )
    flow = Flow(
        distributions.standard_normal((2,), dtype),
        bijectors.AffineCoupling(masks.half(2), network, dtype=dtype),
    )
    perturb(flow)
    x = points().astype(dtype)
    nll = -flow.log_prob(x).numpy().mean()
    kernels = copies(v for v in flow.trainable_variables if "kernel" in v.name)
    assert len(kernels) == 2
    penalty = 3 * sum((k**2).sum() for k in kernels)
    model = still(flow, run_eagerly=True)
    result = model.evaluate(x, verbose=0, return_dict=True)
    close_relatively(result["loss"], nll + penalty)
    close_relatively(result["nll"], nll)
    history = model.fit(x, verbose=0).history
    close_relatively(history["loss"], [nll + penalty])
    close_relatively(history["nll"], [nll])


def test_batch_norm_has_a_training_mode():
    """In `fit` the batch's statistics, in `evaluate` the running averages."""
    flow = vector(batch_norm=True)
    x = points()
    norm = flow.bijector.bijectors[1]
    model = still(flow)
    history = model.fit(x, batch_size=24, verbose=0).history
    after = np.copy(norm.moving_mean.numpy())
    # At the start the coupling before it is the identity.
    close_relatively(after, x.mean(0), 1e-4)

    others = 3 * x + 1
    averages = -flow.log_prob(others).numpy().mean()
    close_relatively(model.evaluate(others, batch_size=24, verbose=0)[0], averages)
    np.testing.assert_array_equal(norm.moving_mean, after)
    batch = -flow.log_prob(x, training=True).numpy().mean()
    close_relatively(history["loss"], [batch])
    assert abs(flow.log_prob(others, training=True).numpy().mean() + averages) > 0.1


# What is trained.


def standard():
    return distributions.standard_normal((2,))


def template():
    return tfb.real_nvp_default_template(hidden_layers=[8], activation="tanh")


def maf():
    network = tfb.AutoregressiveNetwork(
        2, event_shape=[2], hidden_units=[8], activation="tanh"
    )
    return tfd.TransformedDistribution(
        standard(), tfb.MaskedAutoregressiveFlow(network)
    )


def tf_keras_network():
    layers = [tf_keras.layers.Dense(8, "tanh"), tf_keras.layers.Dense(2)]
    return bijectors.AffineCoupling(masks.half(2), tf_keras.Sequential(layers))


def inside_tfp_chain():
    network = networks.MLP(2, (8,), activation="tanh", seed=0)
    chain = [
        bijectors.AffineCoupling(masks.half(2), network),
        tfb.Permute([1, 0]),
        tfb.Scale(tf.Variable([1.0, 2.0])),
    ]
    return tfd.TransformedDistribution(standard(), tfb.Chain(chain))


def a_number(*_):
    return points()[:, 0]


# A distribution, the number of its trainable parameters, and what to fit it to.
TRAINED = {
    "ready": (lambda: vector(base="diagonal"), 2 * 106 + 4, points),
    "batch_norm": (lambda: vector(batch_norm=True), 2 * 106 + 2 * 4, points),
    "nice": (
        lambda: flows.nice((2,), layers=2, depth=1, width=8, seed=0),
        2 * 25 + 2,
        points,
    ),
    "tf_keras_network": (lambda: Flow(standard(), tf_keras_network()), 34, points),
    "inside_tfp_chain": (inside_tfp_chain, 34 + 2, points),
    "tfp_maf": (maf, 60, points),
    "tfp_real_nvp": (
        lambda: tfd.TransformedDistribution(
            standard(), tfb.RealNVP(1, shift_and_log_scale_fn=template())
        ),
        34,
        points,
    ),
    "tfp_scale": (
        lambda: tfd.TransformedDistribution(
            tfd.Normal(0.0, 1.0), tfb.Scale(tf.Variable(2.0))
        ),
        1,
        a_number,
    ),
    "tfp_normal": (
        lambda: tfd.Normal(
            tf.Variable(0.0), tfp.util.TransformedVariable(1.0, tfb.Exp())
        ),
        2,
        a_number,
    ),
}


@pytest.mark.filterwarnings("ignore:`tf.layers.dense` is", "ignore:`layer.updates`")
@pytest.mark.parametrize(
    "name",
    fast_and_slow(
        TRAINED, "ready", "tf_keras_network", "tfp_maf", "tfp_scale", "tfp_normal"
    ),
)
def test_every_variable_is_trained(name):
    keras.utils.set_random_seed(0)
    build, parameters, data = TRAINED[name]
    distribution, x = build(), data()
    model = compiled(distribution, keras.optimizers.Adam(0.02), run_eagerly=True)
    variables = model.trainable_variables
    assert len({id(v.value) for v in variables}) == len(variables)
    assert sum(math.prod(v.shape) for v in variables) == parameters
    seen = {id(v.value) for v in variables}
    assert all(id(v) in seen for v in distribution.trainable_variables)
    start = copies(variables)
    # An output layer that starts at zero hides the layers below from the first step.
    history = model.fit(x, batch_size=24, epochs=5, verbose=0).history
    for v, old in zip(variables, start, strict=True):
        assert not np.array_equal(v, old), v.path
    assert history["loss"][-1] < history["loss"][0]
    close_relatively(
        model.evaluate(x, verbose=0)[0], -np.mean(distribution.log_prob(x)), 1e-4
    )


def test_what_is_not_trainable_stays():
    flow = image()
    kept = [v for v in flow.variables if not v.trainable and v.dtype != tf.bool]
    assert len(kept) == 2  # permutation and signs of the 1x1 convolution
    start = copies(kept)
    trained = copies(flow.trainable_variables)
    compiled(flow, keras.optimizers.Adam(0.02), run_eagerly=True).fit(
        *images(), batch_size=12, epochs=2, verbose=0
    )
    assert_same(start, copies(kept))
    for v, old in zip(flow.trainable_variables, trained, strict=True):
        assert not np.array_equal(v, old), v.name


def test_summary():
    def summary(distribution):
        lines = []
        FlowModel(distribution).summary(print_fn=lines.append, line_length=80)
        return "\n".join(lines)

    def row(text, name, count):
        return any(name in line and f" {count} " in line for line in text.splitlines())

    text = summary(vector(batch_norm=True, base="diagonal"))
    for i in range(2):
        assert row(text, f"coupling_{i} (AffineCoupling)", 106)
        assert row(text, f"coupling_{i}_norm (BatchNorm)", 9)
    assert row(text, "(Normal)", 4)
    assert "Total params: 234 " in text
    assert "Trainable params: 224 " in text
    assert "Non-trainable params: 10 " in text

    # Boolean variables that tell whether data have been seen count too.
    text = summary(image())
    assert row(text, "actnorm (ActNorm)", 2 * 4 + 1)
    assert row(text, "conv1x1 (InvertibleConv1x1)", 16 + 16 + 4)
    hidden = 9 * (2 + 3) * 4 + 4 + 4 * 4 + 4
    assert row(text, "coupling (AffineCoupling)", hidden + 9 * 4 * 4 + 4)
    assert "(MultiScale)" in summary(image(levels=2))

    assert row(summary(inside_tfp_chain()), "scale (Scale)", 2)
    with pytest.warns(UserWarning):
        hidden = tfd.TransformedDistribution(
            standard(), tfb.RealNVP(1, shift_and_log_scale_fn=template())
        )
        assert row(summary(hidden), "hidden_variables", 34)


# How it is trained.


class Traces(keras.callbacks.Callback):
    """The number of Python calls of a conditioner after each epoch."""

    def __init__(self):
        super().__init__()
        self.calls, self.after = 0, []

    def conditioner(self, x):
        self.calls += 1
        return tf.concat([tf.sin(x), tf.cos(x)], -1)

    def on_epoch_end(self, epoch, logs=None):
        self.after.append(self.calls)


def test_one_trace_for_all_epochs():
    """A partial last batch does not make another one, nor does a second fit."""
    traces = Traces()
    chain = [
        bijectors.ActNorm([2]),
        bijectors.AffineCoupling(masks.half(2), traces.conditioner),
    ]
    model = compiled(Flow(standard(), bijectors.Chain(chain)))
    x = points(21)
    initialize(model.flow, x)
    model.predict(x, batch_size=8, verbose=0)
    model.fit(x, batch_size=8, epochs=3, callbacks=[traces], verbose=0)
    first = traces.after[0]
    assert traces.after == [first] * 3
    model.fit(x[:19], batch_size=8, epochs=2, callbacks=[traces], verbose=0)
    assert traces.after[3:] == [first] * 2
    model.evaluate(x, batch_size=8, verbose=0)
    evaluated = traces.calls
    model.evaluate(x, batch_size=8, verbose=0)
    model.predict(x, batch_size=8, verbose=0)
    assert traces.calls == evaluated


def run(flow, **options):
    """The loss history and the final variables of a short training."""
    # Plain gradients: Adam would blow rounding errors of zero gradients up.
    model = compiled(flow, keras.optimizers.SGD(0.02), **options)
    history = model.fit(
        points(), batch_size=4, epochs=3, shuffle=False, verbose=0
    ).history
    return history["loss"], values(flow)


def test_steps_per_execution():
    loss, weights = run(vector())
    assert loss[2] < 0.95 * loss[0]
    several_loss, several = run(vector(), steps_per_execution=3)
    close_relatively(several_loss, loss, 1e-6)
    assert_same(several, weights)


@pytest.mark.slow
def test_jit_compile():
    loss, weights = run(vector())
    # XLA sums in another order: some 1e-7 at each of 18 steps.
    xla_loss, xla = run(vector(), jit_compile=True)
    close_relatively(xla_loss, loss, 1e-5)
    for a, b in zip(xla, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_callbacks(tmp_path):
    """Learning rates, checkpoints of both kinds, and stopping, in one training."""
    flow = vector()
    rates = [0.02, 0.02, 0.0, 0.0, 0.0, 0.0]
    options = {"monitor": "val_nll", "save_best_only": True}
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", save_weights_only=True, **options
        ),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", **options),
        keras.callbacks.EarlyStopping("nll", patience=1, min_delta=1e-6),
    ]
    x, held_out = points(), points(16, seed=3)
    model = compiled(flow)
    history = model.fit(
        x,
        batch_size=8,
        epochs=6,
        shuffle=False,
        validation_data=(held_out,),
        callbacks=callbacks,
        verbose=0,
    ).history
    # The third epoch still improves on the second, the fourth not on the third.
    np.testing.assert_allclose(history["learning_rate"], rates[:4])
    assert np.argmin(history["val_nll"]) == 1

    other = FlowModel(vector(seed=1))
    other.load_weights(tmp_path / "best.weights.h5")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    for restored in (other, loaded):
        assert_same(values(flow), values(restored.flow))
        np.testing.assert_array_equal(
            restored.flow.log_prob(held_out), flow.log_prob(held_out)
        )


def test_early_stopping_restores_the_best_weights():
    flow = vector()
    stop = keras.callbacks.EarlyStopping(
        "val_nll", patience=1, restore_best_weights=True
    )
    # A step this long overshoots after the first epochs.
    model = compiled(flow, keras.optimizers.Adam(0.3), run_eagerly=True)
    held_out = points(16, seed=3)
    history = model.fit(
        points(),
        batch_size=24,
        epochs=20,
        validation_data=(held_out,),
        callbacks=[stop],
        verbose=0,
    ).history["val_nll"]
    assert 2 < len(history) < 20
    close_relatively(-np.mean(flow.log_prob(held_out)), min(history))
    assert history[-1] > min(history)


# tf_keras.


class Density(tf_keras.layers.Layer):
    def __init__(self, bijector):
        super().__init__()
        self.bijector = bijector
        self.distribution = tfd.TransformedDistribution(standard(), bijector)

    def call(self, x):
        return self.distribution.log_prob(x)


class DensityModel(tf_keras.Model):
    def __init__(self, bijector):
        super().__init__()
        self.bijector = bijector

    def call(self, x):
        z, log_det = self.bijector.inverse_and_log_det(x)
        return standard().log_prob(z) + log_det


@pytest.mark.slow
@pytest.mark.parametrize("holder", [Density, DensityModel])
def test_tf_keras_trains_a_bijector(holder):
    chain = [
        bijectors.AffineCoupling(masks.half(2), networks.MLP(2, (8,), seed=1)),
        bijectors.Permutation("reverse", 2),
        tf_keras_network(),
        bijectors.ActNorm([2]),
    ]
    bijector = bijectors.Chain(chain)
    model = holder(bijector)
    if holder is Density:
        model = tf_keras.Sequential([tf_keras.layers.Input((2,)), model])
    model.compile(
        tf_keras.optimizers.Adam(0.02),
        loss=lambda y_true, log_prob: -log_prob,
        run_eagerly=holder is DensityModel,
    )
    variables = bijector.trainable_variables
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in variables}
    start = copies(variables)
    x = points()
    before = -np.mean(Flow(standard(), bijector).log_prob(x))
    history = model.fit(x, np.zeros(24), epochs=4, batch_size=24, verbose=0).history
    close_relatively(history["loss"][0], before)
    assert history["loss"][-1] < history["loss"][0]
    for v, old in zip(variables, start, strict=True):
        assert not np.array_equal(v, old), v.name
