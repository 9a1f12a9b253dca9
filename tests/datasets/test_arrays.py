"""Arrays of the user's own."""

import warnings

import numpy as np
import pytest

from tfp_flows.datasets import load


def test_array_is_split_without_losing_a_row():
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    source = load(x, validation=0.2, test=0.1)
    assert source.sizes == {"train": 70, "validation": 20, "test": 10}
    parts = [source.arrays(split)[0] for split in source.sizes]
    rows = np.concatenate(parts)
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], x)
    again, other = load(x, validation=0.2), load(x, validation=0.2, seed=1)
    np.testing.assert_array_equal(parts[0], again.arrays("train")[0])
    assert (other.arrays("test")[0] != parts[2]).any()
    whole = load(x, validation=0, test=0)
    np.testing.assert_array_equal(whole.arrays("train")[0], x)


@pytest.mark.parametrize(
    ("x", "shape", "bounds"),
    [
        (np.zeros([9, 1]), (1,), None),
        (np.zeros([9, 6], np.uint8), (6,), (0, 256)),
        (np.zeros([9, 4, 4], np.uint8), (4, 4, 1), (0, 256)),
        (np.zeros([9, 4, 4, 3], np.uint8), (4, 4, 3), (0, 256)),
        (np.zeros([9, 4, 4, 3], np.float64), (4, 4, 3), None),
        ([[0.0, 1.0], [2.0, 3.0]], (2,), None),
    ],
)
def test_array_kinds(x, shape, bounds):
    source = load(x)
    assert (source.event_shape, source.bounds) == (shape, bounds)
    dtype = np.uint8 if bounds else np.float32
    assert source.arrays("train")[0].dtype == dtype


def test_mapping_of_arrays_keeps_its_splits_and_labels():
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 5
    keras = {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4]}
    for arrays in (
        keras,
        {"train": x, "train_labels": y, "test": x[:4], "test_labels": y[:4]},
    ):
        source = load(arrays)
        assert source.sizes == {"train": 18, "validation": 2, "test": 4}
        assert source.num_classes == 5
        np.testing.assert_array_equal(source.arrays("test")[0], x[:4])
        train, labels = source.arrays("train")
        np.testing.assert_array_equal(train[:, 0] / 2 % 5, labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(5), r"got shape \[5\] \(one feature is x\[:, None\]\)"),
        (np.zeros([5, 4, 4]), r"got shape \[5, 4, 4\]"),
        (np.zeros([0, 4]), r"array is empty: its shape is \[0, 4\]"),
        (np.zeros([5, 2], np.int64), "dtype int64. Allowed are uint8"),
        (np.zeros([5, 2], bool), "dtype bool. Allowed are uint8"),
        (np.array([["a", "b"]]), "dtype <U1. Allowed are uint8"),
        (
            np.array([[1, np.nan], [2, np.inf], [0, 0]]),
            r"NaN, infinite or beyond float32 in feature 1: 2 \(of 3 rows\)",
        ),
        (np.array([[1e300, 0]]), "beyond float32 in feature 0: 1"),
        (np.full([2, 2, 2, 1], np.nan), r"feature \[0, 0, 0\]: 2"),
        (np.full([2, 9], np.nan), "and 4 other features"),
        ({"x": np.zeros([5, 2]), "lables": np.zeros(5, int)}, "an array 'lables'"),
        ({"x": np.zeros([5, 2]), "train": np.zeros([5, 2])}, "the train x twice"),
        ({"test": np.zeros([5, 2])}, "no training data: name the array x or train"),
        (
            {"train": np.zeros([5, 2]), "test": np.zeros([5, 3])},
            r"train float32 \[5, 2\], test float32 \[5, 3\]",
        ),
        (
            {"x": np.zeros([5, 2]), "test": np.zeros([5, 2]), "labels": [0] * 5},
            "give labels for all splits or for none",
        ),
        ({"x": np.zeros([5, 2]), "labels": [0, 1]}, r"integers \[5\], .* int64 \[2\]"),
        ({"x": np.zeros([2, 2]), "labels": [0.0, 1.0]}, "got float64"),
        ({"x": np.zeros([2, 2]), "labels": [0, -1]}, "the lowest is -1"),
    ],
)
def test_wrong_arrays(data, message):
    with pytest.raises(ValueError, match=message):
        load(data)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_wrong_fractions(split, fraction):
    with pytest.raises(ValueError, match=f"{split} must be a fraction"):
        load(np.zeros([10, 2]), **{split: fraction})


def test_fractions_that_leave_nothing():
    with pytest.raises(ValueError, match="leaves none to train on"):
        load(np.zeros([10, 2]), validation=0.5, test=0.5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[1, 300]]), r"from 1 to 300, so x\.astype\('float32'\), with noise"),
        (np.array([[1, -3]]), r"from -3 to 1, so x\.astype\('float32'\)"),
        (np.array([[1, 255]]), r"convert with x\.astype\('uint8'\) or"),
        (np.array([[True, False]]), r"dtype bool.*x\.astype\('uint8'\) or"),
        (
            np.array([[1, "red"], [2, "blue"]], object),
            "feature 1 holds what is no numb",
        ),
        (np.array([[1, 2.5]], object), r"convert with x\.astype\('float32'\)"),
        (np.array([[1j, 2]]), "for continuous data.$"),
        (np.ma.masked_array(np.zeros((4, 2)), [[0, 1]] * 4), "is a masked array"),
    ],
)
def test_advice_for_dtypes(x, message):
    with pytest.raises(ValueError, match=message):
        load(x)


class Frame:
    """What `load` knows of a data frame."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def test_columns_of_a_data_frame_are_named():
    values = np.arange(40.0).reshape(20, 2)
    source = load(Frame(values, ["height", 3]))
    assert source.columns == ("height", "3")
    values[4, 0] = np.nan
    with pytest.raises(ValueError, match="column 'height': 1"):
        load(Frame(values, ["height", 3]))
    text = np.array([[1, "red"], [2, "blue"]], object)
    with pytest.raises(ValueError, match="column 'colour' holds what is no number"):
        load(Frame(text, ["a", "colour"]))
    assert load(np.zeros((9, 2))).columns is None


def test_values_that_float32_makes_equal():
    draw = np.random.default_rng(0)
    x = np.stack(
        [
            5_300_000 + 0.5 * draw.standard_normal(1000),
            1.7e9 + 100 * draw.random(1000),
            draw.standard_normal(1000),
            1e12 * draw.random(1000),
            1e-30 * draw.standard_normal(1000),
            # Already few values: none is lost.
            2.0**24 + 2.0 * draw.integers(0, 4, 1000),
        ],
        1,
    )
    with pytest.warns(UserWarning, match="too few digits") as caught:
        load(x)
    (text,) = (str(w.message) for w in caught)
    assert "feature 0 (" in text and "feature 1 (" in text and "Subtract" in text
    assert not any(f"feature {i} (" in text for i in (2, 3, 4, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(x[:, 2:])
        # What was float32 before has nothing to lose.
        load(x.astype(np.float32))
        load(x - x.mean(0))


def test_labels_that_are_ids():
    ids = np.random.default_rng(0).choice(2_000_000_000, 200)
    labels = np.tile(ids, 5)
    with pytest.warns(UserWarning, match=r"200 different ones.*return_inverse"):
        source = load({"x": np.zeros((1000, 2)), "labels": labels})
    assert source.num_classes is None and source.arrays("train")[1] is None
    numbered = np.unique(labels, return_inverse=True)[1]
    assert load({"x": np.zeros((1000, 2)), "labels": numbered}).num_classes == 200
    # Many classes, of which a few do not occur.
    some = np.arange(2000)[np.arange(2000) % 3 > 0]
    assert load({"x": np.zeros((len(some), 2)), "labels": some}).num_classes == 2000


@pytest.mark.parametrize(("size", "sizes"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, None)])
def test_few_rows(size, sizes):
    source = load(np.zeros((size, 2)))
    assert tuple(source.sizes.values()) == (sizes or (1, 1, 1))
    if sizes:
        with pytest.raises(ValueError, match=rf"have {size} example\(s\) in all"):
            source.dataset("test", 8)
    assert load(np.zeros((size, 2)), validation=0, test=0).sizes["train"] == size


def test_fingerprints():
    x = np.random.default_rng(0).standard_normal((50, 3))
    labels = np.arange(50) % 2
    one = load({"x": x, "labels": labels}).fingerprint()
    assert one == load({"x": x.copy(), "labels": labels}).fingerprint()
    assert one["event_shape"] == [3] and one["dtype"] == "float32"
    assert one["sizes"] == {"train": 40, "validation": 5, "test": 5}
    moved, swapped = x.copy(), labels.copy()
    moved[17, 1] += 1e-3
    swapped[[1, 2]] = swapped[[2, 1]]
    for other in (
        {"x": moved, "labels": labels},
        {"x": x, "labels": swapped},
        {"x": x[:, ::-1], "labels": labels},
    ):
        other = load(other).fingerprint()
        assert other["digest"] != one["digest"]
        assert {**other, "digest": 0} == {**one, "digest": 0}
