"""Constant columns and whole numbers of tables."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from tests.command.support import call
from tfp_flows.command import tables
from tfp_flows.datasets import load

DRAW = np.random.default_rng(0)
N = 400
X = np.stack(
    [
        DRAW.standard_normal(N),
        np.full(N, 7.0),
        DRAW.integers(0, 9, N),
        DRAW.integers(-3, 9, N) * 5.0 + 2,
        np.where(DRAW.random(N) < 0.3, -0.5, 2.0),
        DRAW.integers(0, 4, N) / 2,
    ],
    1,
)
NAMES = ["real", "constant", "count", "fives", "binary", "halves"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    np.savetxt(path, X, "%.17g", ",", header=",".join(NAMES), comments="")
    return path


def test_each_kind_of_column(table):
    with pytest.warns(UserWarning) as caught:
        source = load(table, tidy=True, validation=0, test=0)
    assert [str(w.message) for w in caught] == [
        "t.csv: column 'constant': constant, and left out.",
        "t.csv: column 'count', 'fives', 'binary': of whole numbers or two values, and "
        "given noise from 0 to a step.",
    ]
    assert source.columns == ("real", "count", "fives", "binary", "halves")
    assert source.event_shape == (5,) and source.bounds is None
    noise = source.arrays("train")[0] - np.delete(X, 1, 1)
    # Neither whole numbers nor two values: what is not known to be discrete stays.
    np.testing.assert_allclose(noise[:, [0, 4]], 0, atol=1e-6)
    for column, step in ((1, 1.0), (2, 5.0), (3, 2.5)):
        z = noise[:, column] / step
        assert z.min() >= 0 and z.max() <= 1 + 1e-6
        assert z.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * N))
        assert z.std() == pytest.approx(1 / math.sqrt(12), rel=0.1)
    assert tables.odd_columns(source) == {}


@pytest.mark.filterwarnings("ignore:.*(left out|given noise)")
def test_the_seed_decides_and_splits_differ(table):
    options = {"tidy": True, "validation": 0.2, "test": 0.2}
    first, again, other = (load(table, seed=s, **options) for s in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    arrays = {"train": X, "test": X}
    source = load(arrays, tidy=True)
    assert source.columns == ("0", "2", "3", "4", "5")
    whole = load(arrays, tidy=True, validation=0)
    assert (whole.arrays("train")[0] != whole.arrays("test")[0])[:, 1].all()


@pytest.mark.filterwarnings("ignore:.*(left out|given noise)")
def test_columns_are_those_of_the_training_rows():
    x = DRAW.standard_normal((50, 2))
    held_out = x + 1
    x[:, 1] = 4.0
    source = load({"test": held_out, "train": x}, tidy=True)
    np.testing.assert_allclose(source.arrays("test")[0], held_out[:, :1], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*(left out|given noise)")
def test_integers_need_no_conversion():
    x = DRAW.integers(0, 1000, (50, 3))
    with pytest.raises(ValueError, match="has dtype int64"):
        load(x)
    source = load(x, tidy=True, validation=0, test=0)
    np.testing.assert_array_equal(np.floor(source.arrays("train")[0]), x)


def test_a_table_without_such_columns_is_as_it_was():
    x = DRAW.standard_normal((50, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = load(x, tidy=True, validation=0, test=0)
    np.testing.assert_array_equal(source.arrays("train")[0], x)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("moons", "tidy=True is for tables of yours, got data 'moons'"),
        ("power", "tidy=True is for tables of yours, got data 'power'"),
        ("mnist", "tidy=True is for tables of yours, got data 'mnist'"),
        (np.zeros((9, 4, 4), np.uint8), r"tidy is for tables \[N, D\] of numbers"),
        (np.array([["a", "b"]]), r"tidy is for tables .* ndarray <U1 \[1, 2\]"),
        (np.ones((9, 2)), "array: all columns are constant"),
        (np.ones((0, 2)), r"array is empty: its shape is \[0, 2\]"),
        ([[1.0, math.nan], [2.0, 1.5], [0.5, 2.5]], "NaN, infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(left out|given noise)")
def test_what_is_no_such_table(data, message):
    with pytest.raises(ValueError, match=message):
        load(data, tidy=True)
    with pytest.raises(ValueError, match="tidy must be one of"):
        load(data, tidy=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:.*(left out|given noise)")
def test_the_command_line_tidies_a_table(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ("train", table, "--flow", "maf", "--layers", 2, "--epochs", 2)
    assert call(*run, "--tidy", "--verbose", 0) == 0
    out, error = capsys.readouterr()
    assert "shape [5]" in out and "tidy=True" in out and "--tidy" not in out
    assert "'constant': constant, and left out" in error
    assert call("evaluate", "runs/t-maf") == 0
    call(*run, "--verbose", 0, "--overwrite")
    assert "--tidy leaves out what is constant" in capsys.readouterr().out
