"""Arrays in files that are larger than memory."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.datasets import files, load, splits


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """1,000 numbered rows in a file that counts as large, in small blocks."""
    monkeypatch.setattr(files, "_MEMORY_LIMIT", 0)
    # 7 rows in a block, 3 batches of 32 in a window.
    monkeypatch.setattr(splits, "_BLOCK", 7 * 16)
    monkeypatch.setattr(splits, "_WINDOW", 3 * 32 * 16 + 15)
    x = np.arange(1000.0)[:, None] + [0.0, 0.25]
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


def rows(dataset):
    return np.concatenate([np.asarray(batch) for batch in dataset])


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_it_is_the_data_set_that_fits_into_memory(mapped, held_out):
    options = {"validation": held_out, "test": held_out, "seed": 3}
    source = load(mapped, **options)
    expected = load(np.load(mapped), **options)
    assert source.sizes == expected.sizes
    for split in ("train", "validation", "test") if held_out else ("train",):
        np.testing.assert_array_equal(
            rows(source.dataset(split, 32)), rows(expected.dataset(split, 32))
        )
        np.testing.assert_array_equal(
            source.arrays(split, limit=5)[0], expected.arrays(split, limit=5)[0]
        )
        assert source.arrays(split)[0].dtype == np.float32


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_shuffled_epochs_hold_every_row_once(mapped, held_out):
    source = load(mapped, validation=held_out, test=0)
    stored = source.arrays("train")[0]
    dataset = source.dataset("train", 32, shuffle=True, seed=1, epochs=2)
    size = len(stored)
    steps = source.steps("train", 32)
    batches = list(dataset)
    assert [len(b) for b in batches[:steps]] == [32] * (size // 32) + [size % 32]
    first, second = rows(batches[:steps]), rows(batches[steps:])
    for epoch in (first, second):
        np.testing.assert_array_equal(epoch[np.argsort(epoch[:, 0])], stored)
    assert (first != second).any()
    # A row's place says next to nothing of where it was, in the pass or in a window.
    places = [first[:, 0], first[:96, 0]]
    for place in places:
        assert abs(np.corrcoef(place, np.arange(len(place)))[0, 1]) < 0.4
        assert np.ptp(place) > 500
    # Blocks are taken apart.
    assert (np.diff(first[:, 0]) == 1).mean() < 0.1
    # Reproducible, from the start and from a later epoch.
    tf.random.set_seed(5)
    again = source.dataset("train", 32, shuffle=True, seed=1, epochs=2, initial_epoch=1)
    np.testing.assert_array_equal(rows(again), second)
    other = rows(source.dataset("train", 32, shuffle=True, seed=2))
    assert (other != first).any()


def test_windows_are_mixed_each_in_its_own_way(mapped, monkeypatch):
    monkeypatch.setattr(splits, "_BLOCK", 2**18)
    source = load(mapped, validation=0, test=0)
    x = rows(source.dataset("train", 32, shuffle=True))[:, 0]
    first, second = x[:96], x[96:192] - 96
    assert sorted(first) == sorted(second) == list(range(96))
    assert (first != second).any()


def test_labels_and_images_of_a_memory_map(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (90, 3, 5))
    x[:] = np.arange(90)[:, None, None]
    source = load({"x": x, "labels": np.arange(90) % 4}, validation=0, test=0.1)
    assert (source.event_shape, source.bounds) == ((3, 5, 1), (0, 256))
    seen = []
    for images, labels in source.dataset("train", 8, labels=True, shuffle=True):
        assert images.dtype == tf.float32
        value = np.floor(images[:, 0, 0, 0])
        np.testing.assert_array_equal(value % 4, labels)
        seen.extend(value)
    assert len(set(seen)) == len(seen) == 81


def test_values_are_checked_as_they_are_read(mapped):
    x = np.load(mapped, mmap_mode="r+")
    x[500, 1] = np.nan
    x.flush()
    dataset = load(mapped, validation=0, test=0).dataset("train", 32)
    with pytest.raises(tf.errors.OpError, match=r"x\.npy has values that are NaN"):
        rows(dataset)


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MEMORY_LIMIT", 2**20)
    size = 200 * 2**20
    # Sparse: it takes no room on disk.
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (size // 1024, 256))
    source = load(tmp_path / "x.npy")
    tracemalloc.start()
    try:
        count = sum(len(x) for x in source.dataset("train", 1000, shuffle=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == source.sizes["train"] == round(0.8 * size // 1024)
    assert peak < size / 3
