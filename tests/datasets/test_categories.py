"""Columns of categories and of integers in tables."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from tfp_flows.datasets import load

TEXT = """colour, age, city, height
red, 31,"Rome, Italy", 1.75
blue, 28, Oslo, 1.6
red, 45, Oslo, 1.81
green, 31,"Rome, Italy", 1.7
"""
WHOLE = {"validation": 0, "test": 0}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("categorical", [["city", "colour"], True])
def test_a_file_of_words_and_numbers(table, categorical):
    source = load(table, categorical=categorical, integer=["age"], **WHOLE)
    assert source.columns == ("colour", "age", "city", "height")
    assert dict(source.categories) == {
        "colour": ("blue", "green", "red"),
        "city": ("Oslo", "Rome, Italy"),
    }
    assert source.integers == ("age",)
    expected = [[2, 31, 1, 1.75], [0, 28, 0, 1.6], [2, 45, 0, 1.81], [1, 31, 1, 1.7]]
    np.testing.assert_allclose(source.arrays("train")[0], expected, rtol=1e-6)
    kinds = [["blue", "green", "red"], "integer", ["Oslo", "Rome, Italy"], "real"]
    assert source.kinds == kinds
    assert load(table, categorical=True, **WHOLE).kinds[1] == "real"


def test_other_separators_and_compression(tmp_path):
    path = tmp_path / "t.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("a\tb\nx\t1\ny\t2\nx\t3\n")
    assert load(path, categorical=["a"], **WHOLE).categories["a"] == ("x", "y")
    blanks = tmp_path / "t.txt"
    blanks.write_text("x  1\ny  2\nx  3\n")
    source = load(blanks, categorical=["0"], **WHOLE)
    np.testing.assert_array_equal(source.arrays("train")[0], [[0, 1], [1, 2], [0, 3]])


def test_declared_columns_may_hold_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("rooms,size\n10,1.5\n9,2\n10,3\n2,1\n")
    source = load(path, categorical=["rooms"], integer=True, **WHOLE)
    # In the order of the numbers, not of the letters.
    assert source.categories["rooms"] == ("2", "9", "10")
    assert source.integers == ()
    assert load(path, integer=True, **WHOLE).integers == ("rooms",)


def test_frames_and_arrays():
    x = np.array([["a", 1.5, 1], ["b", 2.5, 0], ["a", 0.5, 1]], object)
    source = load({"train": x, "test": x[:1]}, categorical=[0, "2"], validation=0)
    assert source.columns == ("0", "1", "2")
    assert source.categories == {"0": ("a", "b"), "2": ("0", "1")}
    np.testing.assert_array_equal(source.arrays("test")[0], [[0, 1.5, 1]])
    numbers = np.array([[1.0, 0.5], [0.0, 0.25], [1.0, 2.0]])
    assert load(numbers, categorical=["0"], **WHOLE).categories == {"0": ("0", "1")}

    class Frame:
        columns = ("letter", "number", "flag")

        def __array__(self, *_, **__):
            return x

    source = load(Frame(), categorical=["letter"], integer=["flag"], **WHOLE)
    assert source.kinds == [["a", "b"], "real", "integer"]


def test_listed_categories_set_the_codes(table):
    colours = ["red", "green", "blue", "white"]
    source = load(
        table, categorical={"colour": colours, "city": ["Rome, Italy", "Oslo"]}, **WHOLE
    )
    assert source.categories["colour"] == tuple(colours)
    np.testing.assert_array_equal(source.arrays("train")[0][:, 0], [0, 2, 0, 1])
    with pytest.raises(ValueError, match=r"'colour' holds the categories 'blue'"):
        load(table, categorical={"colour": ["red", "green"], "city": ["Oslo", "x"]})


def test_categories_that_training_lacks():
    train = np.array([["a", 1.0], ["b", 2.0]], object)
    test = np.array([["a", 1.0], ["c", 2.0]], object)
    words = "x?.*test: column '0' holds the categories 'c', which are not among"
    with pytest.raises(ValueError, match=words):
        load({"train": train, "test": test}, categorical=["0"], validation=0)
    # Rows that are held out of one table.
    x = np.array([[w, i] for i, w in enumerate("abababababababababac")], object)
    words = "column '0' has the categories 'c' in the (test|validation) rows but not"
    seeds = [_error(x, seed) for seed in range(20)]
    assert any(seeds) and not all(seeds)
    with pytest.raises(ValueError, match=words):
        load(
            x, categorical=["0"], test=0.4, seed=seeds.index(next(filter(None, seeds)))
        )
    listed = {"0": ["a", "b", "c"]}
    for seed in range(3):
        assert load(x, categorical=listed, test=0.4, seed=seed).categories


def _error(x, seed):
    try:
        load(x, categorical=["0"], test=0.4, seed=seed)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore:.*(left out|given noise)")
def test_tidy_leaves_declared_columns_alone(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{'ab'[i % 2]},{i % 3},{i % 5},7,{i / 7}" for i in range(40)]
    path.write_text("word,declared,count,constant,real\n" + "\n".join(rows))
    source = load(path, categorical=["word"], integer=["declared"], tidy=True, **WHOLE)
    assert source.columns == ("word", "declared", "count", "real")
    x = source.arrays("train")[0]
    assert set(np.unique(x[:, 1])) == {0, 1, 2}
    assert (x[:, 2] != np.round(x[:, 2])).any()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            TEXT,
            {},
            r"row 2, column 'colour': 'red' is no number; .*--categorical colour",
        ),
        (TEXT, {"categorical": ["colour"]}, r"column 'city'.*--categorical city"),
        (
            TEXT,
            {"categorical": ["color"]},
            "no column 'color'; its columns are 'colour'",
        ),
        (TEXT, {"integer": ["height"], "categorical": True}, "'height' is .* 1.75"),
        (TEXT, {"integer": ["weight"], "categorical": True}, "no column 'weight'"),
        (TEXT, {"integer": ["city"], "categorical": True}, "categorical and integer"),
        (
            "a,b\nx,1\n,2\n",
            {"categorical": ["a"]},
            "row 3, column 'a': the cell is empty",
        ),
        ("a,b\nx,1\nx,2\n", {"categorical": ["a"]}, "two or more different"),
        ("a,b\nx,1\n3,2\n", {"categorical": True}, r"words and numbers \('3'\)"),
        ("a,a\nx,1\ny,2\n", {"categorical": ["a"]}, "two columns 'a'"),
        ("a,b\nx,1\ny,z\n", {"categorical": ["a"]}, "row 3, column 'b': 'z' is no"),
    ],
)
def test_errors_of_files(tmp_path, text, options, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path, **options)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("moons", {"categorical": True}, "categorical=True is for tables of yours"),
        ("mnist", {"integer": ["a"]}, "integer=.* is for tables of yours"),
        (np.zeros((9, 4, 4)), {"integer": True}, r"for tables \[N, D\] in memory"),
        (
            np.array([["a", None]] * 3, object),
            {"categorical": True},
            "two or more|empty",
        ),
        (
            np.array([["a", "1"], ["b", "x"]]),
            {"categorical": ["0"]},
            "'x', which is no",
        ),
        (np.array([["1", ""], ["2", "x"]]), {"categorical": ["1"]}, "row 0: the cell"),
    ],
)
def test_errors_of_arrays(data, options, message):
    with pytest.raises(ValueError, match=message):
        load(data, **options)


@pytest.mark.parametrize("value", ["colour", 3, None])
def test_names_are_a_list(table, value):
    for name in ("categorical", "integer"):
        with pytest.raises(TypeError, match=f"{name} must be a list of names"):
            load(table, **{name: value})
