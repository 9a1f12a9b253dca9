"""What users hand in: every container through every method, and what is refused."""

from __future__ import annotations

import collections
import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tests.support import fast_and_slow, perturb
from tests.training.support import compiled, contexts, images, points, vector
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows
from tfp_flows.training import data_checks, initialize

W = np.linspace(0.0, 3.0, 24).astype("float32")


class Frame:
    """A data frame as far as NumPy, pandas and polars agree on one."""

    def __init__(self, columns: dict):
        self._columns = columns
        self.columns = list(columns)
        self.dtypes = [np.asarray(c).dtype for c in columns.values()]

    @property
    def shape(self):
        return len(next(iter(self._columns.values()))), len(self._columns)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, name):
        return np.asarray(self._columns[name])

    def __array__(self, dtype=None, copy=None):
        return np.stack([np.asarray(c, object) for c in self._columns.values()], 1)


class Foreign:
    """An array of another library, such as JAX."""

    def __init__(self, values):
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __len__(self):
        return len(self._values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._values, dtype)


CONTAINERS = {
    "numpy": lambda x: x,
    "fortran": np.asfortranarray,
    "big_endian": lambda x: x.astype(">f4"),
    "float16": lambda x: x.astype("float16").astype("float32"),
    "list": lambda x: x.tolist(),
    "tuple_of_rows": lambda x: tuple(map(tuple, x.tolist())),
    "list_of_arrays": list,
    "tensor": tf.constant,
    "variable": tf.Variable,
    "keras_variable": keras.Variable,
    "frame": lambda x: Frame({"a": x[:, 0], "b": x[:, 1].astype(object)}),
    "foreign": Foreign,
    "tuple_of_one": lambda x: (x,),
    "list_of_one": lambda x: [x],
    "unmasked": np.ma.masked_array,
    "objects": lambda x: x.astype(object),
}


@pytest.fixture(scope="module")
def model():
    """A model that does not learn, and runs eagerly: no traces to wait for."""
    flow = perturb(vector(layers=1))
    return compiled(flow, keras.optimizers.SGD(0.0), run_eagerly=True)


def in_container(model, kind):
    """Data, themselves and in a container, and their densities, weighted and not."""
    x = points().astype("float16").astype("float32")
    log_prob = model.flow.log_prob(x).numpy()
    return x, CONTAINERS[kind](x), log_prob, -(W * log_prob).mean()


# One of each kind: arrays, rows, variables, wrappings, objects. The test below has
# tensors, tables and tuples.
@pytest.mark.parametrize(
    "kind",
    fast_and_slow(
        CONTAINERS,
        *("float16", "big_endian", "list", "list_of_arrays", "keras_variable"),
        *("foreign", "list_of_one", "objects"),
    ),
)
def test_containers(model, kind):
    _, given, log_prob, weighted = in_container(model, kind)
    options = {"batch_size": 24, "verbose": 0}
    results = [
        model.fit(given, sample_weight=W, **options).history["loss"][0],
        model.evaluate(given, sample_weight=W, **options)[0],
        model.train_on_batch(given, None, W)[0],
    ]
    np.testing.assert_allclose(results, weighted, 1e-5)
    np.testing.assert_allclose(model.predict(given, verbose=0), log_prob, 1e-5)


@pytest.mark.parametrize(
    "kind", fast_and_slow(CONTAINERS, "tensor", "frame", "tuple_of_one")
)
def test_containers_through_every_method(model, kind):
    """With weights, which none of them drops."""
    x, given, log_prob, weighted = in_container(model, kind)
    options = {"batch_size": 24, "verbose": 0}
    results = [
        model.fit(given, sample_weight=W, **options).history["loss"][0],
        model.fit(given, None, 24, 1, 0, sample_weight=W).history["loss"][0],
        model.evaluate(given, sample_weight=W, **options)[0],
        model.evaluate(given, None, 24, 0, W)[0],
        model.train_on_batch(given, None, W)[0],
        model.test_on_batch(given, sample_weight=W)[0],
    ]
    if "one" not in kind:
        history = model.fit(x, validation_data=(given, None, W), **options).history
        results += [
            history["val_loss"][0],
            model.fit((given, None, W), **options).history["loss"][0],
            model.evaluate((given, None, W), **options)[0],
        ]
    np.testing.assert_allclose(results, weighted, 1e-5)
    unweighted = model.fit(x, validation_data=given, **options).history["val_loss"]
    np.testing.assert_allclose(unweighted, -log_prob.mean(), 1e-5)
    np.testing.assert_allclose(model.predict(given, verbose=0), log_prob, 1e-5)
    np.testing.assert_allclose(model.predict_on_batch(given), log_prob, 1e-5)


STREAMS = {
    "dataset": lambda parts: tf.data.Dataset.from_tensor_slices(parts).batch(24),
    "generator": lambda parts: (parts for _ in range(1)),
    "iterator": lambda parts: iter([parts]),
    "py_dataset": lambda parts: OneBatch(parts),
    "loader": lambda parts: Loader(parts),
}


class OneBatch(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.batch


class Loader(OneBatch):
    """One that does not tell its length."""

    @property
    def num_batches(self):
        return None


@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:.*shuffle=True")
@pytest.mark.parametrize("kind", ["dataset", "generator", "iterator", "py_dataset"])
def test_streams_keep_their_weights(model, kind):
    x = points()
    weighted = -(W * model.flow.log_prob(x).numpy()).mean()

    def given():
        return STREAMS[kind]((x, np.empty((24, 0), "float32"), W))

    results = [
        model.fit(given(), verbose=0).history["loss"][0],
        model.evaluate(given(), verbose=0)[0],
        model.fit(x, validation_data=given(), verbose=0).history["val_loss"][0],
    ]
    np.testing.assert_allclose(results, weighted, 1e-5)
    predicted = model.predict(given(), verbose=0)
    np.testing.assert_allclose(predicted, model.flow.log_prob(x), 1e-5)


def test_a_dataset_without_shapes(model):
    x = points()
    data = tf.data.Dataset.from_generator(lambda: [x[:12], x[12:]], tf.float32)
    assert data.element_spec.shape.rank is None
    expected = -model.flow.log_prob(x).numpy().mean()
    # Traced, where a shape has to be known.
    other = compiled(model.flow, keras.optimizers.SGD(0.0))
    close = np.testing.assert_allclose
    close(other.fit(data, verbose=0).history["loss"], [expected], 1e-5)
    close(other.evaluate(data, verbose=0)[0], expected, 1e-5)


def masked():
    return np.ma.masked_greater(points(), 3.0)


Point = collections.namedtuple("Point", ["a", "b"])

# What is handed in as x, what is raised, and what it says.
REFUSED = {
    "masked": (masked, ValueError, r"masked array with \d+ masked value"),
    "text": (lambda: [["a", "b"]], TypeError, "must hold numbers, got dtype <U1"),
    "string": (lambda: "points.csv", TypeError, r"got the text 'points\.csv'"),
    "text_column": (
        lambda: Frame({"size": np.ones(3), "city": np.array(["a", "b", "c"], object)}),
        TypeError,
        r"columns that do not hold numbers.*'city' \(object\)",
    ),
    "gaps": (
        lambda: Frame({"size": np.array([1, None, "?"], object), "b": np.ones(3)}),
        TypeError,
        "or have gaps: 'size'",
    ),
    "nan_column": (
        lambda: Frame({"size": np.array([1, np.nan, 2]), "b": np.ones(3)}),
        ValueError,
        "NaN or infinite.*'size': 1",
    ),
    "complex": (lambda: points() + 1j, TypeError, "complex numbers"),
    "structured": (
        lambda: np.array([(1.0, 2.0)], [("a", "f4"), ("b", "f4")]),
        TypeError,
        r"structured array with the fields \['a', 'b'\]",
    ),
    "dict": (lambda: {"x": points()}, TypeError, r"dict with the keys \['x'\]"),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], ValueError, "rows of one length"),
    "sparse": (
        lambda: tf.sparse.from_dense(points()),
        TypeError,
        "dense array, got SparseTensor",
    ),
    "dates": (
        lambda: np.full((4, 2), np.datetime64("2020-01-01")),
        TypeError,
        "must hold numbers, got dtype datetime64",
    ),
    "number": (lambda: 3.0, ValueError, "axis of examples"),
    "overflow": (
        lambda: np.where(points() > 3, 1e39, points().astype("float64")),
        ValueError,
        r"beyond 3\.4e\+38, the largest float32",
    ),
    "infinite": (
        lambda: np.where(points() > 3, np.inf, points()),
        ValueError,
        "NaN or infinite",
    ),
    "many_parts": (
        lambda: (points(),) * 4,
        ValueError,
        "got 4 parts",
    ),
}


@pytest.mark.parametrize(
    "method",
    [
        "fit",
        "evaluate",
        "predict",
        "train_on_batch",
        "test_on_batch",
        "predict_on_batch",
        "validation",
    ],
)
@pytest.mark.parametrize("name", REFUSED)
def test_refused(model, name, method):
    make, error, match = REFUSED[name]
    with pytest.raises(error, match=match):
        if method == "validation":
            model.fit(points(), validation_data=make(), verbose=0)
        else:
            getattr(model, method)(make())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sample_weight": W[:5]}, r"sample_weight must have shape \(24,\)"),
        ({"sample_weight": W * np.nan}, "sample_weight holds 24 value"),
        ({"class_weight": {0: 1.0}}, "class_weight weighs examples by their labels"),
        ({"validation_split": 0.99}, "leaves no example"),
    ],
)
def test_refused_arguments(model, options, match):
    with pytest.raises(ValueError, match=match):
        model.fit(points(), verbose=0, **options)


@pytest.mark.parametrize("beside", [{"y": points()}, {"sample_weight": W}])
def test_streams_hold_all(model, beside):
    data = tf.data.Dataset.from_tensor_slices(points()).batch(8)
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="belong into them"):
            method(data, **beside)


@pytest.mark.parametrize("name", ["masked", "complex", "overflow", "infinite"])
def test_streams_are_refused_by_their_first_batch(model, name):
    make, error, match = REFUSED[name]
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(error, match=match):
            method(make() for _ in range(1))


def test_elements_of_streams(model):
    data = tf.data.Dataset.from_tensor_slices({"image": points()}).batch(8)
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(TypeError, match=r"got dicts with the keys \['image'\]"):
            method(data)
    data = tf.data.Dataset.from_tensor_slices(points())
    with pytest.raises(ValueError, match=r"one by one.*dataset\.batch"):
        model.fit(data)


@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:.*shuffle=True")
def test_class_weights_weigh_labels():
    x, labels = points(), np.arange(24) % 3
    flow = perturb(vector(num_classes=3, layers=1))
    model = compiled(flow, keras.optimizers.SGD(0.0), run_eagerly=True)
    weights = np.array([0.0, 1.0, 3.0])[labels]
    nll = -flow.log_prob(x, context=labels).numpy()
    options = {"class_weight": {0: 0.0, 2: 3.0}, "verbose": 0}
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(24)
    results = [
        model.fit(x, labels, batch_size=24, **options).history["loss"][0],
        model.fit(data, **options).history["loss"][0],
        model.train_on_batch(x, labels, class_weight={0: 0.0, 2: 3.0})[0],
    ]
    np.testing.assert_allclose(results, (weights * nll).mean(), 1e-5)
    with pytest.raises(ValueError, match="not both"):
        model.fit(x, labels, sample_weight=W, **options)
    with pytest.raises(ValueError, match="given twice"):
        model.fit((x, labels), labels, verbose=0)


def test_a_float64_flow_sees_float64():
    """Keras alone would round arrays to float32."""
    x = 5.3e6 + 0.3 * points().astype("float64")
    flow = vector(layers=1, dtype="float64", normalize=True)
    model = compiled(flow, keras.optimizers.SGD(0.0), run_eagerly=True)
    history = model.fit(
        x, batch_size=7, sample_weight=W, validation_data=(x, None, W), verbose=0
    ).history
    log_prob, w = flow.log_prob(x).numpy(), W.astype("float64")
    results = [history["nll"][0], history["val_nll"][0]]
    results.append(model.evaluate(x, None, 24, 0, W)[1])
    np.testing.assert_allclose(results, -(w * log_prob).sum() / w.sum(), 1e-12)
    np.testing.assert_allclose(model.predict(x, verbose=0), log_prob, 1e-10)
    history = model.fit(x, batch_size=7, validation_split=0.25, verbose=0).history
    np.testing.assert_allclose(history["nll"], -log_prob[:18].mean(), 1e-10)
    np.testing.assert_allclose(history["val_nll"], -log_prob[18:].mean(), 1e-10)


# What is said at once.


def said(x, flow=None, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data_checks.describe_oddities(np.asarray(x), flow or vector(), **options)
    return " ".join(str(w.message) for w in caught)


def table(n=2000):
    return np.random.default_rng(0).normal(size=(n, 2))


def test_ordinary_data_cause_no_warning():
    assert said(table()) == said(table().astype("float32")) == said(table()[:1]) == ""
    x, _ = images()
    assert said(x, types.SimpleNamespace(dtype=tf.float32)) == ""


def test_whole_numbers_are_said():
    counts = np.random.default_rng(0).poisson(3.0, (50, 2))
    for x in (counts, counts.astype("float32"), counts.astype("uint8")):
        assert "whole numbers" in said(x) and "dequantize=True" in said(x)
    assert said(counts, quantum=1.0) == ""
    assert said(counts + np.random.default_rng(1).uniform(size=(50, 2))) == ""
    mixed = np.stack([counts[:, 0], table(50)[:, 0]], 1)
    assert "columns of whole numbers: 'count'." in said(mixed, labels=["count", "size"])
    integers = flows.flow_plus_plus(
        (2,), layers=1, components=1, bounds=(0, 99), dequantize="uniform"
    )
    assert said(counts, integers) == ""


def test_constant_columns_are_said():
    x = table()
    x[:, 1] = 0.3
    assert "1 constant column(s): (1,)." in said(x)


def test_merged_values_are_said():
    x = table()
    x[:, 1] = 5.3e6 + 0.5 * x[:, 1]
    assert "float32 merges values of (1,)" in said(x)
    assert "float32 merges values of 'north'" in said(x, labels=["east", "north"])
    assert "merges" not in said(x, vector(dtype="float64"))
    x[:, 1] = 1.7e9 + np.arange(2000) / 7
    assert "merges values of (1,)" in said(x)


def test_units_are_said():
    x = table() * [1.0, 3e8]
    assert "units far from 1: (1,). Training is slow" in said(x)
    assert "Build the flow with normalize=True" in said(x)
    assert "units" not in said(x, vector(normalize=True))
    assert "units" not in said(x, vector(bounds=(-2e9, 2e9)))
    assert "'b'. Training" in said(1e-4 * x / [1e-4, 3e8], labels=["a", "b"])


def own_flow(*members, shape=(2,), **options):
    base = distributions.standard_normal(shape)
    return Flow(base, bijectors.Chain([*members, bijectors.Scaling(shape)]), **options)


@pytest.mark.parametrize(
    ("first", "is_scaled"),
    [
        ([], False),
        ([tfb.Shift([1.0, 0.0])], False),
        ([bijectors.ActNorm([2])], True),
        ([bijectors.Standardize([2])], True),
        ([tfb.Shift([0.0, 4e5]), tfb.Scale([1.0, 3e5])], True),
    ],
    ids=["nothing", "shift", "actnorm", "standardize", "tfp"],
)
def test_units_of_flows_of_the_users_own(first, is_scaled):
    """What counts is where data end up, not what a member is called."""
    x = table() * [1.0, 3e5] + [0.0, 4e5]
    flow = own_flow(*first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow.initialize(x)
    assert ("Standardize first" in said(x, flow)) != is_scaled


def test_units_of_images_and_contexts():
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 4000, (50, 2, 2, 3)) * [1e-4, 1.0, 1.0]
    flow = own_flow(shape=(2, 2, 3))
    assert "units far from 1: channels (1,), (2,). Training" in said(x, flow)
    x, context = table(), draw.normal(1e6, 1e5, (2000, 3))
    flow = vector(context_shape=(3,))
    assert "context has columns in units far from 1: (0,), (1,), (2,)" in said(
        x, flow, context=context
    )
    for other in (
        vector(context_shape=(3,), normalize_context=True),
        vector(
            context_shape=(3,),
            context_encoder=keras.layers.Rescaling(1e-6),
            normalize_context=False,
        ),
    ):
        initialize(other, x, context)
        assert "units" not in said(x, other, context=context)


@pytest.mark.slow
def test_fit_says_units_once_what_starts_from_data_has_started():
    x = table()[:200] * [1.0, 3e5]
    model = compiled(own_flow(bijectors.ActNorm([2])), keras.optimizers.SGD(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, verbose=0)
    model = compiled(own_flow(), keras.optimizers.SGD(0.0))
    with pytest.warns(UserWarning, match="units far from 1"):
        model.fit(x, verbose=0)
    model = compiled(own_flow(), keras.optimizers.SGD(0.0))
    with pytest.warns(UserWarning, match="units far from 1"):
        model.train_on_batch(x)


# Noise on whole numbers.


def test_dequantize_adds_noise_in_each_step():
    """The densities of uniform data are known: those of the data as stored."""
    x = np.zeros((64, 2), "uint8")
    flow = perturb(vector(layers=1, bounds=(0, 4)))
    model = FlowModel(flow, dequantize=True)
    model.compile(keras.optimizers.SGD(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = model.fit(x, epochs=2, batch_size=32, verbose=0).history
    assert history["nll"][0] != history["nll"][1]
    grid = np.stack(np.meshgrid(*[(np.arange(40) + 0.5) / 40] * 2), -1).reshape(-1, 2)
    mean = -flow.log_prob(grid.astype("float32")).numpy()
    for found in (
        *history["nll"],
        model.evaluate(x, verbose=0)[1],
        -model.predict(x, verbose=0).mean(),
    ):
        assert abs(found - mean.mean()) < 5 * mean.std() / 8
    assert model.predict(x, verbose=0).std() > 0
    np.testing.assert_array_equal(model(x[:2]), flow.log_prob(x[:2].astype("float32")))


def test_dequantize_is_saved_and_checked(tmp_path):
    flow = vector(bounds=(0, 4), logit_margin=0.01)
    model = FlowModel(flow, dequantize=True)
    model.compile()
    with pytest.raises(ValueError, match="with noise of up to 1"):
        model.fit(np.full((8, 2), 4))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.dequantize == 1.0
    assert FlowModel(vector(), dequantize=1 / 255).dequantize == 1 / 255
    with pytest.raises(ValueError, match="dequantize must be at least 0"):
        FlowModel(vector(), dequantize=-1)


def test_contexts_are_checked_as_data_are():
    model = compiled(vector(context_shape=(3,)), run_eagerly=True)
    for wrong in (contexts() + 1j, np.ma.masked_greater(contexts(), 0), "abc"):
        for method in (model.fit, model.evaluate, model.train_on_batch):
            with pytest.raises((TypeError, ValueError), match=r"^context"):
                method(points(), wrong)


def test_few_levels_on_a_grid_are_said():
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (64, 4, 4, 1)) / 255
    for x in (pixels, pixels.astype("float32"), pixels[:, :, 0, 0]):
        text = said(x, types.SimpleNamespace(dtype=tf.float32))
        assert "dequantize=0.00392157, as an argument" in text
    halves = table()
    halves[:, 1] = np.round(2 * halves[:, 1]) / 2
    assert "at a distance of 0.5: (1,)." in said(halves)
    assert said(pixels[:, :, 0, 0] * [1, 1, 1, np.pi], quantum=1 / 255) == ""
    # Few values that lie on no grid, or two of them, are not.
    other = table()
    other[:, 1] = draw.normal(size=9)[draw.integers(0, 9, 2000)]
    assert said(other) == ""
    other[:, 1] = np.where(other[:, 1] > 0, 0.3, 0.7)
    assert said(other) == ""
    other[:, 1] = other[:, 0] > 0
    assert "columns of whole numbers: (1,)" in said(other)


def test_merged_contexts_are_said():
    context = 2.0**26 + np.arange(64.0)[:, None]
    flow = vector(context_shape=(1,))
    assert "merges values of the context, in (0,)" in said(
        table(64), flow, context=context
    )
    assert said(table(64), flow, context=context - 2.0**26) == ""


def test_train_on_batch_says_it_once():
    model = compiled(vector(layers=1), run_eagerly=True)
    x = np.random.default_rng(0).integers(0, 9, (24, 2)).astype("uint8")
    with pytest.warns(UserWarning, match="x holds whole numbers"):
        model.train_on_batch(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train_on_batch(x)


@pytest.mark.filterwarnings("ignore:.*shuffle=True")
def test_weights_with_an_axis_of_one():
    """In graphs, which are traced anew for other shapes."""
    model = compiled(perturb(vector(layers=1)), keras.optimizers.SGD(0.0))
    x, column = points(), W[:, None]
    none = np.empty((24, 0), "float32")
    stream = tf.data.Dataset.from_tensor_slices((x, none, column)).batch(24)
    losses = [
        model.fit(x, sample_weight=w, batch_size=24, verbose=0).history["loss"][0]
        for w in (column, W, column)
    ]
    losses.append(model.fit(stream, verbose=0).history["loss"][0])
    losses.append(model.train_on_batch(x, sample_weight=column)[0])
    expected = -(W * model.flow.log_prob(x).numpy()).mean()
    np.testing.assert_allclose(losses, expected, 1e-5)


@pytest.mark.parametrize("key", [3, -1, "a"])
def test_class_weights_of_labels_that_do_not_exist(key):
    x, labels = points(), np.arange(24) % 3
    model = compiled(vector(num_classes=3, layers=1))
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(24)
    for given in ((x, labels), (data,)):
        with pytest.raises(ValueError, match="class_weight must have the labels 0 to"):
            model.fit(*given, class_weight={0: 1.0, key: 2.0}, verbose=0)


@pytest.mark.filterwarnings("ignore:.*shuffle=True")
def test_class_weights_of_some_labels_in_a_stream():
    """In a graph, where Keras looks weights up by position."""
    x, labels = points(), np.arange(24) % 3
    model = compiled(
        perturb(vector(num_classes=3, layers=1)), keras.optimizers.SGD(0.0)
    )
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(24)
    loss = model.fit(data, class_weight={0: 2.0}, verbose=0).history["loss"]
    nll = -model.flow.log_prob(x, context=labels).numpy()
    np.testing.assert_allclose(loss, (np.where(labels, 1.0, 2.0) * nll).mean(), 1e-5)


def test_calls(model):
    x = points()
    np.testing.assert_array_equal(model((x,)), model(x))
    with pytest.raises(TypeError, match="x holds complex numbers"):
        model(x + 1j)
    masked = np.ma.masked_greater(x, 1.0)
    with pytest.raises(ValueError, match="x is a masked array"):
        model(masked)
    with pytest.raises(ValueError, match="x is a masked array"):
        model.fit(list(masked))
    with pytest.raises(ValueError, match="inputs must be x"):
        model((x, x, x))


def test_a_py_dataset_with_none(model):
    with pytest.raises(ValueError, match="PyDataset cannot yield None"):
        model.fit(OneBatch((points(), None, W)))


class Positional(Frame):
    """A data frame that may have two columns of one name, as those of pandas."""

    def __init__(self, values):
        self._values = values
        self.columns = ["a"] * values.shape[1]
        self.dtypes = [values.dtype] * values.shape[1]

    @property
    def iloc(self):
        return self._values

    def __getitem__(self, name):
        return self._values


def test_columns_of_one_name():
    found = data_checks.as_array("x", Positional(points()))
    np.testing.assert_array_equal(found, points())
