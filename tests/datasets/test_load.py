"""What `load` takes for what, and toys."""

import copy
import pickle

import numpy as np
import pytest

from tfp_flows.datasets import TOYS, load


@pytest.mark.parametrize("name", TOYS)
def test_toys(name):
    source = load(name, seed=3)
    assert source.name == name
    assert (source.event_shape, source.bounds, source.num_classes) == ((2,), None, None)
    assert source.sizes == {"train": 10_000, "validation": 2_000, "test": 10_000}
    np.testing.assert_array_equal(
        source.arrays("train")[0], TOYS[name].sample(22_000, 3)[:10_000]
    )
    assert load(name, n=(5, 0, 2)).sizes == {"train": 5, "validation": 0, "test": 2}


@pytest.mark.parametrize("n", [(5, 5), (0, 1, 1), (4, -1, 2)])
def test_toys_wrong_n(n):
    with pytest.raises(ValueError, match=r"n(\[1\])? must be .*"):
        load("moons", n=n)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": (1.5, 2, 3)}, TypeError, r"n\[0\] must be an integer, got 1\.5"),
        ({"n": 5}, TypeError, "n must be a sequence of integers, got 5"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": "a"}, TypeError, "seed must be an integer, got 'a'"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ],
)
def test_wrong_numbers(options, error, message):
    with pytest.raises(error, match=message):
        load("moons", **options)
    if "seed" in options:
        with pytest.raises(error, match=message):
            load(np.zeros([9, 2]), **options)


def test_n_is_for_toys_only():
    with pytest.raises(ValueError, match="n is for toys only"):
        load(np.zeros([4, 2]), n=(1, 1, 1))


def test_a_file_of_unknown_ending_is_no_name_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").write_text("1,2")
    with pytest.raises(ValueError, match=r"mnist cannot be read: files must be \.npy"):
        load("mnist")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        pytest.param("toy", pickle.dumps, id="toy-pickle"),
        pytest.param("labelled", copy.deepcopy, id="labelled-copy"),
        pytest.param("map", pickle.dumps, id="map-pickle"),
        pytest.param("toy", copy.deepcopy, id="toy-copy", marks=pytest.mark.slow),
        pytest.param(
            "labelled", pickle.dumps, id="labelled-pickle", marks=pytest.mark.slow
        ),
        pytest.param("map", copy.deepcopy, id="map-copy", marks=pytest.mark.slow),
    ],
)
def test_sources_can_be_pickled_and_copied(make, kind, tmp_path):
    x = np.arange(60.0).reshape(30, 2)
    data = {"toy": "moons", "labelled": {"x": x, "labels": np.arange(30) % 2}}
    if kind == "map":
        np.save(tmp_path / "x.npy", x)
        data["map"] = np.load(tmp_path / "x.npy", "r")
    source = load(data[kind], n=(30, 3, 3) if kind == "toy" else None)
    # Tensors that were made for batches are no part of the copy.
    before = [b.numpy() for b in source.dataset("train", 8, shuffle=True)]
    other = make(source)
    other = pickle.loads(other) if isinstance(other, bytes) else other
    assert other == source and other.fingerprint() == source.fingerprint()
    for a, b in zip(before, other.dataset("train", 8, shuffle=True), strict=True):
        np.testing.assert_array_equal(a, b)
