"""Tables of categories, integers and numbers, from the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tests.command.support import call
from tfp_flows import datasets
from tfp_flows.command import files, tables
from tfp_flows.command.settings import Settings

TINY = ["--flow", "maf", "--layers", 2, "--width", 8, "--depth", 1, "--verbose", 0]
DECLARED = ["--categorical", "colour,city", "--integer", "age"]


def write(path, n=200, seed=0, city=("Oslo", "Rome")):
    draw = np.random.default_rng(seed)
    colours = draw.choice(["red", "green", "blue"], n)
    cities = np.where(colours == "red", *city)
    ages = draw.poisson(30, n)
    heights = draw.normal(1.7, 0.1, n).round(4)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["colour", "age", "city", "height"])
        writer.writerows(zip(colours, ages, cities, heights, strict=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, its directory and its table."""
    folder = tmp_path_factory.mktemp("people")
    write(folder / "people.csv")
    out = folder / "run"
    arguments = ["train", folder / "people.csv", "-o", out, *TINY, "--epochs", 2]
    assert call(*arguments, *DECLARED) == 0
    return out


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def check_rows(found, count):
    header, *cells = found
    assert header == ["colour", "age", "city", "height"]
    assert len(cells) == count
    assert {row[0] for row in cells} <= {"red", "green", "blue"}
    assert {row[2] for row in cells} <= {"Oslo", "Rome"}
    assert all(row[1].lstrip("-").isdigit() for row in cells)
    assert not all(float(row[3]).is_integer() for row in cells)


def test_what_a_run_knows_and_says(run):
    settings = files.read_settings(run)
    categories = {"colour": ["blue", "green", "red"], "city": ["Oslo", "Rome"]}
    assert settings.categorical == categories
    assert settings.integer == ["age"]
    assert settings.columns == ["colour", "age", "city", "height"]
    kinds = [categories["colour"], "integer", categories["city"], "real"]
    assert settings.flow_options["dequantize"] == {"name": "mixed", "columns": kinds}
    report = json.loads((run / "report.json").read_text())
    assert report["results"]["exactness"] == "bound"
    assert report["data"]["categories"] == categories
    assert report["data"]["integers"] == ["age"]
    assert report["data"]["columns"] == {}
    assert report["baselines"]["gaussian"]["log_likelihood"] < 0
    check_rows(rows(run / "samples.csv"), report["samples"]["finite"])
    assert not (run / "samples.npy").exists()


def test_evaluate_and_sample(run, says, tmp_path):
    report = json.loads((run / "report.json").read_text())
    bound = report["results"]["log_likelihood"]
    out = says("evaluate", run)
    assert f"log-likelihood at least {bound:.4f} +/-" in out
    assert "nats per row: a bound" in out
    output = tmp_path / "drawn.csv"
    says("sample", run, "-n", 20, "-o", output)
    check_rows(rows(output), 20)
    codes = tmp_path / "codes.npy"
    says("sample", run, "-n", 20, "-o", codes)
    assert set(np.unique(np.load(codes)[:, 0])) <= {0, 1, 2}


def test_a_model_on_its_own_knows_its_categories(run, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "alone.keras"
    alone.write_bytes((run / "model.keras").read_bytes())
    assert "samples.csv" in says("sample", alone, "-n", 5)
    header, *cells = rows(tmp_path / "samples.csv")
    assert header == ["0", "1", "2", "3"]
    assert {row[0] for row in cells} <= {"red", "green", "blue"}


@pytest.mark.slow
def test_other_rows_and_other_categories(run, says, fails, tmp_path):
    other = tmp_path / "other.csv"
    write(other, seed=1)
    assert "at least" in says("evaluate", run, "--data", other)
    write(other, city=("Oslo", "Lima"))
    line = fails("evaluate", run, "--data", other)
    assert "'city' holds the categories 'Lima'" in line
    assert "'Oslo', 'Rome'" in line


@pytest.mark.slow
def test_resume(run, says, fails, tmp_path):
    again = ["train", run.parent / "people.csv", "-o", run, *TINY, "--resume"]
    assert "nothing is left to train" in says(*again)
    assert "nothing is left to train" in says(*again, *DECLARED, "--epochs", 2)
    assert "categorical" in fails(*again, "--categorical", "colour")


def test_words_that_are_not_declared(fails, tmp_path):
    path = tmp_path / "people.csv"
    write(path)
    line = fails("train", path, *TINY)
    assert "column 'colour'" in line
    assert "--categorical colour" in line
    variational = ["--dequantize", "variational", "--categorical"]
    assert "dequantize must be mixed" in fails("train", path, *TINY, *variational)
    line = fails("train", path, *TINY, "--categorical", "color,city")
    assert "no column 'color'" in line


@pytest.mark.slow
def test_all_columns_of_words(says, tmp_path):
    path = tmp_path / "people.csv"
    write(path)
    out = says(
        *("train", path, "-o", tmp_path / "run", *TINY, "--epochs", 1),
        "--categorical",
    )
    assert "column 'age': of whole numbers" in out
    assert "--integer" in out
    assert "times frequencies of the categories" in out
    kinds = files.read_settings(tmp_path / "run").categorical
    assert list(kinds) == ["colour", "city"]


def test_options_of_the_noise(tmp_path):
    path = tmp_path / "people.csv"
    write(path)
    options = {"dequantize": {"name": "mixed", "binary": False, "samples": 2}}
    settings = Settings.suited(
        str(path), "maf", flow_options=options, categorical=True, integer=["age"]
    )
    found = settings.flow_options["dequantize"]
    assert found["binary"] is False and len(found["columns"]) == 4
    settings.check_types()


def test_baselines_of_independent_columns():
    """A Gaussian and frequencies, where that is the density."""
    draw = np.random.default_rng(0)
    n = 4000
    words = draw.choice(["a", "b"], n, p=[0.3, 0.7])
    counts = np.floor(draw.normal(0, 10, n))
    numbers = draw.normal(2, 3, n)
    x = np.stack([words.astype(object), counts, numbers], 1)
    source = datasets.load(x, categorical=["0"], integer=["1"])
    found = tables.baselines(source)["gaussian"]
    entropy = -np.sum(np.log([0.3, 0.7]) * [0.3, 0.7])
    entropy += np.log([10, 3]).sum() + 1 + np.log(2 * np.pi)
    error = 4 * found["standard_error"]
    assert error < 0.3
    assert found["log_likelihood"] == pytest.approx(-entropy, abs=error)
    only = datasets.load(x[:, :1], categorical=["0"])
    assert set(tables.baselines(only)) == {"gaussian"}
