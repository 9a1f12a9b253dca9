import numpy as np
import pytest

from tfp_flows.datasets import TOYS, load


@pytest.fixture
def file(tmp_path):
    """Writes text or arrays to a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        if name.endswith(".npz"):
            np.savez(path, **content)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    return write


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
    with pytest.raises(ValueError, match="n must be the numbers of points for train"):
        load("moons", n=n)


def test_n_is_for_toys_only():
    with pytest.raises(ValueError, match="n is for toys only"):
        load(np.zeros([4, 2]), n=(1, 1, 1))


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


def test_numpy_files(file):
    x = np.random.default_rng(0).normal(size=[20, 3]).astype(np.float32)
    source = load(file("a.npy", x), validation=0, test=0)
    assert source.name == "a.npy"
    np.testing.assert_array_equal(source.arrays("train")[0], x)
    source = load(str(file("a.npz", {"x": x, "labels": np.arange(20) % 3})))
    assert source.num_classes == 3
    assert source.sizes == {"train": 16, "validation": 2, "test": 2}
    source = load(file("b.npz", {"train": x, "validation": x[:3], "test": x[:5]}))
    assert source.sizes == {"train": 20, "validation": 3, "test": 5}


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4.5\n",
        "a,b\n1,2\n3,4.5",
        '\ufeff"a","b"\r\n1,2\r\n\r\n3,4.5\r\n',
        "\na,b\n 1 , 2\n3e0,45e-1\n",
    ],
)
def test_csv_files(file, text):
    source = load(file("t.csv", text), validation=0, test=0)
    np.testing.assert_array_equal(source.arrays("train")[0], [[1, 2], [3, 4.5]])
    assert source.bounds is None


def test_csv_of_one_column(file):
    assert load(file("t.csv", "1\n2\n3\n")).event_shape == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", r"t\.csv, row 3, column 'b': 'x' is no number"),
        ("1,2\n3,\n", "row 2, column '1': '' is no number"),
        ("1,b\n3,4\n", "row 1, column '1': 'b' is no number"),
        ("a,b\n1,2\n3,4,5\n", "row 3: 3 cells, but the table has 2 columns"),
        ("a,b\n1,2\n3\n", "row 3: 1 cells"),
        ("a,b\n1,nan\n3,inf\n4,5\n", r"column 'b': 2 \(of 3 rows\)"),
        ("1,nan\n3,4\n", "column '1': 1"),
        ("a,b\n", r"t\.csv is empty"),
        ("", r"t\.csv is empty"),
    ],
)
def test_wrong_csv(file, text, message):
    with pytest.raises(ValueError, match=message):
        load(file("t.csv", text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no array", "not a readable .npy file"),
        ("a.npz", {"x": np.array([{}])}, "not a readable .npz file of numbers"),
        ("a.npy", np.array([[object()]]), "not a readable .npy file of numbers"),
        ("a.csv", b"1,2\n\xff,3\n", "not a CSV text in UTF-8"),
        ("a.txt", "1,2", "one of the formats .npy, .npz, .csv, got '.txt'"),
    ],
)
def test_wrong_files(file, name, content, message):
    with pytest.raises(ValueError, match=message):
        load(file(name, content))


def test_truncated_npz(file):
    path = file("a.npz", {"x": np.zeros([100, 3])})
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="not a readable"):
        load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.csv"):
        load(tmp_path / "nowhere.csv")
