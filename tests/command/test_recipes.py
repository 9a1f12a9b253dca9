"""Published configurations."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfp_flows import datasets, flows
from tfp_flows.command import recipes, tables
from tfp_flows.command.recipes import RECIPES, Recipe
from tfp_flows.command.settings import Settings

IDS = [f"{r.data} {r.flow} {r.name}" for r in RECIPES]


def source_like(recipe):
    """Data of the shape of a recipe's."""
    tables = datasets.tabular.TABLES
    if recipe.data in tables:
        return datasets.load(np.zeros((20, tables[recipe.data].features)))
    shape = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}.get(recipe.data)
    side = recipe.data.rpartition("x")[2]
    shape = shape or (int(side), int(side), 3)
    return datasets.load(np.zeros((20, *shape), np.uint8))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            r, id=i, marks=pytest.mark.slow if r.flow == "residual_flow" else ()
        )
        for r, i in zip(RECIPES, IDS, strict=True)
    ],
)
def test_recipes_are_settings_that_there_are(recipe):
    settings = Settings.suited(
        recipe.data, recipe.flow, recipe=recipe.name, source=source_like(recipe)
    )
    settings.check_types()
    for name, value in recipe.settings.items():
        assert getattr(settings, name) == value
    options = flows.READY[recipe.flow].__signature__.parameters
    assert recipe.flow_options.keys() <= options.keys()
    assert recipe.source and recipe.metric in recipes.UNITS
    json.dumps(dataclasses.asdict(recipe))


def test_names_are_unique():
    assert len(set(IDS)) == len(IDS)
    # The better number of layers is the recipe.
    for data, flow in {(r.data, r.flow) for r in RECIPES}:
        same = [r for r in RECIPES if (r.data, r.flow) == (data, flow)]
        if same[0].metric == "log_likelihood":
            assert max(same, key=lambda r: r.published).name == "paper"


def test_bsds300_by_splines():
    """Durkan et al. 2019: 400,000 steps, the best of those after every 250."""
    recipe = recipes.find("bsds300", "neural_spline_flow")
    assert recipe.result == "157.54 +/- 0.28 nats"
    assert recipe.settings["epochs"] * recipe.settings["epoch_steps"] == 400_000
    assert recipe.flow_options["layers"] == 20


def test_unknown_recipes(fails):
    line = fails("train", "bsds300", "--flow", "glow", "--recipe", "paper")
    assert "there is no recipe 'paper' of glow on 'bsds300'" in line
    assert "bsds300 --flow maf --recipe paper;" in line and "cifar10" not in line
    line = fails("train", "moons", "--flow", "nice", "--recipe", "mine")
    assert "cifar10 --flow glow --recipe paper" in line


@pytest.fixture
def small(monkeypatch, data):
    """A recipe that can be followed in a second."""
    recipe = Recipe(
        data,
        "real_nvp",
        -2.5,
        0.1,
        "Nobody 2026",
        {"epochs": 2, "batch_size": 32, "decay": "step", "warmup": 0.5},
        {"layers": 1, "width": 4},
        "nothing is",
    )
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    monkeypatch.setattr(tables, "baselines", lambda *arguments: {})


@pytest.fixture
def followed(small, data, tmp_path, says):
    """The command of a run that follows it, with two changes, and what it printed."""
    moons = ("train", data, "--flow", "real_nvp", "-o", tmp_path, "--verbose", 0)
    return moons, says(*moons, "--recipe", "paper", "--epochs", 1, "--width", 8)


def test_a_run_follows_a_recipe(followed, tmp_path):
    _, out = followed
    assert "recipe paper: Nobody 2026: -2.50 +/- 0.10 nats" in out
    assert "not as there: nothing is" in out
    assert "changed here: epochs=1, width=8" in out
    report = json.loads((tmp_path / "report.json").read_text())
    difference = report["results"]["log_likelihood"] + 2.5
    assert report["recipe"]["difference"] == pytest.approx(difference)
    assert f"published: -2.50 +/- 0.10 (two errors) nats; here {difference:+.2f}" in out
    settings = report["settings"]
    assert (settings["batch_size"], settings["decay"]) == (32, "step")
    assert settings["flow_options"]["width"] == 8


@pytest.mark.slow
def test_a_recipe_is_remembered(followed, says, fails):
    moons, _ = followed
    out = says(*moons, "--resume", "--epochs", 2)
    assert "recipe paper: Nobody 2026" in out and "changed here: width=8" in out
    assert "2 epochs in" in out
    assert "there is no recipe 'other'" in fails(
        *moons, "--resume", "--recipe", "other"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--warmup", "1", "--decay", "epoch"), "needs decay 'step' or 'none'"),
        (("--warmup", "2", "--epochs", "2"), "warmup must be below epochs=2, got 2.0"),
        (("--warmup", "-1"), "invalid number from 0 value: '-1'"),
        (("--patience", "2", "--validation", "0"), "patience=2 needs validation data"),
        (("--average", "1"), "invalid fraction from 0 to below 1 value: '1'"),
        (("--decay", "slow"), "invalid choice: 'slow'"),
    ],
)
def test_mistakes(fails, data, tmp_path, options, message):
    line = fails("train", data, "--flow", "real_nvp", "-o", tmp_path / "x", *options)
    assert message in line
