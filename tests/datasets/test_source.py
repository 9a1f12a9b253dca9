import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.datasets import load


def listed(dataset):
    return [x.numpy() for x in dataset]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=[50, 3, 5, 1], dtype=np.uint8)
    return load({"x": x, "labels": np.arange(50) % 4}, validation=0.2, test=0.2)


@pytest.fixture(scope="module")
def vectors():
    return load(np.random.default_rng(0).normal(size=[50, 3]), test=0)


def test_attributes(images, vectors):
    assert images.event_shape == (3, 5, 1)
    assert images.bounds == (0, 256)
    assert images.num_classes == 4
    assert images.sizes == {"train": 30, "validation": 10, "test": 10}
    assert vectors.event_shape == (3,)
    assert vectors.bounds is None
    assert vectors.num_classes is None
    assert vectors.sizes == {"train": 45, "validation": 5, "test": 0}


def test_batches_are_float32_in_stored_units(images):
    x, labels = images.arrays("train")
    batches = list(images.dataset("train", 8, labels=True, dequantize=False))
    assert [len(b) for b, _ in batches] == [8, 8, 8, 6]
    assert batches[0][0].dtype == tf.float32
    assert batches[0][1].dtype == tf.int32
    np.testing.assert_array_equal(np.concatenate([b for b, _ in batches]), x)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), labels)


def test_element_spec_and_cardinality(images):
    dataset = images.dataset("train", 8, epochs=3, initial_epoch=1)
    assert dataset.element_spec == tf.TensorSpec([None, 3, 5, 1], tf.float32)
    assert dataset.cardinality() == 2 * images.steps("train", 8) == len(listed(dataset))
    dataset = images.dataset("train", 8, drop_remainder=True)
    assert dataset.element_spec == tf.TensorSpec([8, 3, 5, 1], tf.float32)
    assert images.steps("train", 8, drop_remainder=True) == 3 == len(listed(dataset))
    assert listed(images.dataset("train", 8, epochs=2, initial_epoch=2)) == []


def test_shuffled_epochs_hold_every_row_once_with_its_label(images):
    x, labels = images.arrays("train")
    stored = {row.tobytes(): label for row, label in zip(x, labels, strict=True)}
    dataset = images.dataset(
        "train", 30, labels=True, dequantize=False, shuffle=True, epochs=3
    )
    orders = set()
    for batch, batch_labels in dataset:
        rows = [row.tobytes() for row in batch.numpy().astype(np.uint8)]
        assert sorted(rows) == sorted(stored)
        assert [stored[row] for row in rows] == batch_labels.numpy().tolist()
        orders.add(tuple(rows))
    assert len(orders) == 3


@pytest.mark.parametrize("source", ["images", "vectors"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(source, request):
    source = request.getfixturevalue(source)
    whole = listed(source.dataset("train", 8, shuffle=True, seed=7, epochs=4))
    tf.random.set_seed(123)
    resumed = source.dataset(
        "train", 8, shuffle=True, seed=7, epochs=4, initial_epoch=2
    )
    half = len(whole) // 2
    for _ in range(2):  # however often it is iterated
        for a, b in zip(whole[half:], listed(resumed), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (whole[0] != whole[half]).any()
    other = listed(source.dataset("train", 8, shuffle=True, seed=8))
    assert (whole[0] != other[0]).any()


def test_noise_is_uniform_and_stays_below_the_next_integer():
    # 255 is where a careless sum would round to 256.
    source = load(np.full([4000, 7], 255, np.uint8), validation=0, test=0)
    x = np.concatenate(listed(source.dataset("train", 128, epochs=4)))
    noise = x.astype(np.float64) - 255
    assert noise.min() >= 0
    assert noise.max() < 1
    assert x.max() < 256
    assert noise.max() > 0.9999
    error = 1 / np.sqrt(12 * noise.size)
    assert abs(noise.mean() - 0.5) < 4 * error
    assert abs((noise < 0.25).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / noise.size)
    columns = np.corrcoef(noise.reshape(4, -1))
    np.testing.assert_allclose(columns, np.eye(4), atol=0.04)
    columns = np.corrcoef(noise.T)
    np.testing.assert_allclose(columns, np.eye(7), atol=0.04)


def test_noise_does_not_depend_on_the_batch_size(images):
    # 15 values in an example, which is no multiple of what the generator makes at once.
    one, other = (
        np.concatenate(listed(images.dataset("train", size))) for size in (7, 30)
    )
    np.testing.assert_array_equal(one, other)


def test_continuous_data_get_no_noise(vectors):
    (x,) = listed(vectors.dataset("train", 100))
    np.testing.assert_array_equal(x, vectors.arrays("train")[0])


def test_arrays(images):
    x, labels = images.arrays("train", limit=4)
    assert (x.shape, x.dtype, labels.shape) == ((4, 3, 5, 1), np.uint8, (4,))
    np.testing.assert_array_equal(x, images.arrays("train")[0][:4])
    assert load(np.zeros([20, 2])).arrays("train")[1] is None


def test_keras_trains_epoch_by_epoch(vectors):
    seen = []

    class Recorder(tf.keras.layers.Layer):
        def call(self, x):
            tf.py_function(lambda x: seen.append(x.numpy()), [x], [])
            return x[:, :1]

    model = tf.keras.Sequential([Recorder()])
    model.compile("sgd", lambda y, p: tf.reduce_mean(p))
    dataset = vectors.dataset("train", 9, shuffle=True, epochs=3, initial_epoch=1)
    model.fit(
        dataset.map(lambda x: (x, x)),
        epochs=3,
        initial_epoch=1,
        steps_per_epoch=vectors.steps("train", 9),
        verbose=0,
    )
    expected = listed(vectors.dataset("train", 9, shuffle=True, epochs=3))[5:]
    for a, b in zip(expected, seen[-10:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"one of \['train', 'validation', 'test'\], got 'dev'"),
        ({"split": "test"}, "The test split of array is empty"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"labels": True}, "array has no class labels"),
        ({"initial_epoch": 3, "epochs": 2}, "from 0 to epochs=2, got 3"),
        ({"initial_epoch": -1}, "from 0 to epochs=1, got -1"),
        ({"batch_size": 46, "drop_remainder": True}, "leave no batch of the 45"),
    ],
)
def test_wrong_arguments(vectors, arguments, message):
    with pytest.raises(ValueError, match=message):
        vectors.dataset(**{"split": "train", "batch_size": 4} | arguments)


@pytest.mark.parametrize("batch_size", [2.5, True, "4", None])
def test_a_batch_size_that_is_no_integer(vectors, batch_size):
    for method in (vectors.dataset, vectors.steps):
        with pytest.raises(TypeError, match="batch_size must be an integer, got"):
            method("train", batch_size)


def test_wrong_limit(vectors):
    with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
        vectors.arrays("train", limit=0)
