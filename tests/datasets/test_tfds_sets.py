import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from tests.support import fast_and_slow
from tfp_flows.datasets import DatasetUnavailableError, load, tfds_sets

# A folder of TensorFlow Datasets with mnist and fashion_mnist, where there is one.
DATA_DIR = os.environ.get("TFP_FLOWS_DATA_DIR")
MNIST = ((28, 28, 1), 256, {"train": 54000, "validation": 6000, "test": 10000})
SETS = {"digits": ((8, 8, 1), 17, {"train": 1350, "validation": 150, "test": 297})}
if DATA_DIR:
    SETS.update(mnist=MNIST, fashion_mnist=MNIST)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    load("digits", data_dir=path)
    return path


@pytest.fixture
def digits(data_dir):
    return load("digits", data_dir=data_dir)


@pytest.fixture
def streamed(data_dir, monkeypatch):
    monkeypatch.setattr(tfds_sets, "_MEMORY_LIMIT", 0)
    return load("digits", data_dir=data_dir)


def test_digits(digits):
    assert digits.event_shape == (8, 8, 1)
    assert digits.bounds == (0, 17)
    assert digits.num_classes == 10
    assert digits.sizes == {"train": 1350, "validation": 150, "test": 297}
    parts = [digits.arrays(split) for split in digits.sizes]
    images = np.concatenate([x for x, _ in parts])
    labels = np.concatenate([y for _, y in parts])
    assert images.dtype == np.uint8
    expected = load_digits()
    assert sorted((x.tobytes(), y) for x, y in zip(images, labels, strict=True)) == (
        sorted(
            (x.astype(np.uint8).tobytes(), y)
            for x, y in zip(expected.images, expected.target, strict=True)
        )
    )


def test_a_version_is_the_same_data(digits, data_dir):
    versioned = load("digits:1.0.0", data_dir=data_dir)
    assert versioned == digits
    assert versioned.fingerprint() == digits.fingerprint()


@pytest.mark.parametrize("name", fast_and_slow(["digits", "streamed"], "digits"))
def test_stored_rows_can_be_pickled(name, request):
    source = request.getfixturevalue(name)
    copied = pickle.loads(pickle.dumps(source))
    for a, b in zip(source.arrays("test", 9), copied.arrays("test", 9), strict=True):
        np.testing.assert_array_equal(a, b)
    assert copied.fingerprint() == source.fingerprint()


def test_other_threads_keep_stdout_while_digits_are_prepared(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    stdout, seen = sys.stdout, []
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def look(builder):
        seen.append(sys.stdout)
        prepare(builder)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", look)
    load("digits", data_dir=tmp_path)
    assert seen == [stdout]


def test_digits_test_split_is_stratified(digits):
    whole = np.bincount(load_digits().target)
    test = np.bincount(digits.arrays("test")[1])
    np.testing.assert_allclose(test, whole * 297 / 1797, atol=1)


def test_digits_noise_stays_within_the_bounds(digits):
    x = np.concatenate(list(digits.dataset("train", 64)))
    assert x.min() >= 0
    assert 16.9 < x.max() < 17
    np.testing.assert_array_equal(np.floor(x), digits.arrays("train")[0])


def test_preparing_is_silent_and_keeps_the_random_state(tmp_path, capfd):
    random.seed(0)
    expected = random.random()
    random.seed(0)
    load("digits", data_dir=tmp_path)
    assert random.random() == expected
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_digits_prepared_by_two_processes_at_once(tmp_path):
    code = (
        "import random, tensorflow_datasets; from tfp_flows.datasets import load\n"
        "print('ready', flush=True); input(); random.seed(0)\n"
        f"source = load('digits', data_dir={os.fspath(tmp_path)!r})\n"
        "print(source.arrays('test')[0].astype(int).sum())"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "ready\n"
    other.stdin.write("go\n")
    other.stdin.flush()
    random.seed(0)
    source = load("digits", data_dir=tmp_path)
    output, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    assert int(output) == source.arrays("test")[0].astype(int).sum()
    assert [p.name for p in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_losing_the_race_is_no_error(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def prepare_late(builder):
        prepare(type(builder)(data_dir=tmp_path))
        raise OSError("Directory not empty")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare_late)
    assert load("digits", data_dir=tmp_path).sizes["test"] == 297


def test_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DatasetUnavailableError, match="Name a folder that can be"):
        load("digits", data_dir=blocked)


def test_streamed_batches_are_those_from_memory(digits, streamed):
    for a, b in zip(
        digits.dataset("test", 50, labels=True),
        streamed.dataset("test", 50, labels=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    for limit in (None, 10):
        for a, b in zip(
            digits.arrays("test", limit), streamed.arrays("test", limit), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_streamed_epochs_resume_and_hold_every_image_once(streamed):
    options = {"shuffle": True, "seed": 5, "epochs": 3}
    whole = [x.numpy() for x in streamed.dataset("train", 100, **options)]
    tf.random.set_seed(9)
    resumed = [
        x.numpy() for x in streamed.dataset("train", 100, initial_epoch=1, **options)
    ]
    for a, b in zip(whole[14:], resumed, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (whole[0] != whole[14]).any()
    stored = sorted(x.tobytes() for x in streamed.arrays("train")[0])
    epoch = np.floor(np.concatenate(whole[14:28])).astype(np.uint8)
    assert sorted(x.tobytes() for x in epoch) == stored


def test_streamed_shuffling_leaves_the_global_seed_alone(streamed):
    tf.random.set_seed(3)
    expected = tf.random.uniform([3]).numpy()
    tf.random.set_seed(3)
    next(iter(streamed.dataset("train", 10, shuffle=True)))
    np.testing.assert_array_equal(tf.random.uniform([3]), expected)


@pytest.mark.parametrize("name", SETS)
def test_whole_image_sets(name, data_dir):
    shape, high, sizes = SETS[name]
    if name == "digits":
        source = load(name, data_dir=data_dir)
    else:
        source = load(name, data_dir=DATA_DIR, download=False)
    assert (source.event_shape, source.bounds) == (shape, (0, high))
    assert (source.num_classes, source.sizes) == (10, sizes)
    x, y = next(iter(source.dataset("test", 256, labels=True)))
    stored, labels = source.arrays("test", 256)
    np.testing.assert_array_equal(np.floor(x), stored)
    np.testing.assert_array_equal(y, labels)
    assert stored.max() == high - 1
    assert set(labels) == set(range(10))
    assert source.arrays("validation")[0].shape == (sizes["validation"], *shape)


def test_not_downloaded(tmp_path):
    with pytest.raises(DatasetUnavailableError) as error:
        load("mnist", data_dir=tmp_path, download=False)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "tfds.load('mnist')" in message
    assert "data_dir=" in message


def test_no_connection(tmp_path, monkeypatch):
    import requests

    def fail(*args, **kwargs):
        raise requests.exceptions.ConnectionError("offline")

    monkeypatch.setattr(requests, "head", fail)
    with pytest.raises(
        DatasetUnavailableError, match=r"no connection to storage\.googleapis\.com"
    ):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnst", "no data set 'mnst'. Did you mean mnist"),
        ("Moons", r"Did you mean moons\?"),
        ("Digits", r"no data set 'Digits'\. Did you mean digits\?"),
        ("digits:9.9.9", "'digits:9.9.9' cannot be loaded"),
        ("../mnist", "no data set '../mnist'.*digits, mnist, fashion_mnist"),
        ("huggingface:mnist", "Known are the toys moons, circles"),
        ("mnist:9.9.9", "'mnist:9.9.9' cannot be loaded"),
        ("iris", "iris is no image set: it has no feature 'image'"),
        ("stanford_dogs", "images of variable size"),
    ],
)
def test_wrong_names(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        load(name, data_dir=tmp_path)


def test_celeb_a_is_known_to_be_218_by_178(tmp_path):
    builder = tfds_sets._builder("celeb_a", tmp_path)
    _, shape, classes = tfds_sets._features(builder, "celeb_a")
    assert (shape, classes) == ((218, 178, 3), None)


def test_what_to_know_of_versions():
    old, new = map(
        tfds_sets.about_set, ("downsampled_imagenet/64x64", "imagenet_resized/64x64")
    )
    assert "van den Oord" in old and "Chrabaszcz" in new
    assert "do not compare" in tfds_sets.about_set("celeb_a:2.1.0")
    assert tfds_sets.about_set("cifar10") is None


@pytest.mark.slow
def test_downsampled_imagenet(tmp_path, monkeypatch):
    """Its validation images are the test split, and its configuration says the size."""
    import tensorflow_datasets as tfds

    class Fake(tfds.core.GeneratorBasedBuilder):
        name = "downsampled_imagenet"
        pkg_dir_path = tmp_path
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="4x4")]

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {s: self._images(n, v) for s, n, v in KINDS}

        def _images(self, count, value):
            for i in range(count):
                yield i, {"image": np.full((4, 4, 3), value, np.uint8)}

        def _generate_examples(self):
            raise NotImplementedError

    KINDS = ("train", 20, 1), ("validation", 5, 2)
    monkeypatch.setattr(
        tfds, "builder", lambda name, data_dir: Fake(data_dir=data_dir, config="4x4")
    )
    found = load("downsampled_imagenet/4x4", data_dir=tmp_path)
    assert found.event_shape == (4, 4, 3) and found.num_classes is None
    assert found.sizes == {"train": 18, "validation": 2, "test": 5}
    values = {split: set(np.unique(found.arrays(split)[0])) for split in found.sizes}
    assert values == {"train": {1}, "validation": {1}, "test": {2}}
    batch = next(iter(found.dataset("train", 3)))
    assert batch.shape == (3, 4, 4, 3)
