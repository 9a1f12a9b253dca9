"""What a run is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfp_flows import datasets, flows
from tfp_flows.command import settings as module
from tfp_flows.command import tables
from tfp_flows.command.flow_options import ready_flows
from tfp_flows.command.settings import Settings

DRAW = np.random.default_rng(0)
PIXELS = {"dtype": np.uint8, "low": 0, "high": 256}
SMALL = DRAW.integers(size=(40, 8, 8, 1), **PIXELS)
LARGE = DRAW.integers(size=(40, 28, 28, 1), **PIXELS)
TABLE = DRAW.standard_normal((40, 3))
MANY = DRAW.standard_normal((10_000, 3))


def suited(data, flow, **given):
    return Settings.suited("x", flow, source=datasets.load(data), **given)


def test_shape_and_dtype_decide_and_names_do_not(tmp_path):
    x = TABLE.astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "digits.npz", x=x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", fmt="%.9g")
    found = [
        Settings.suited(str(tmp_path / name), "maf")
        for name in ("x.npy", "digits.npz", "x.csv")
    ]
    for other in found:
        assert dataclasses.replace(other, data="") == dataclasses.replace(
            found[0], data=""
        )
    assert found[0].epochs == module._OF_FEW_ROWS["epochs"]


@pytest.mark.parametrize(
    ("data", "flow", "run", "options"),
    [
        (SMALL, "glow", {"epochs": 60, "batch_size": 64}, {"width": 64}),
        (LARGE, "glow", {"epochs": 20, "clip_norm": 100.0}, {"steps": 8}),
        (LARGE, "nice", {"batch_size": 200, "clip_norm": None}, {}),
        (LARGE, "maf", {"epochs": 20, "learning_rate": 1e-3}, {}),
        (SMALL[..., 0].reshape(40, 64), "maf", {"learning_rate": 2e-4}, {}),
        (TABLE, "nice", {"epochs": 200, "patience": 20}, {"width": 256}),
        (MANY, "maf", {"epochs": 60, "learning_rate": 2e-3, "patience": None}, {}),
    ],
)
def test_what_suits(data, flow, run, options):
    settings = suited(data, flow)
    assert {name: getattr(settings, name) for name in run} == run
    assert options.items() <= settings.flow_options.items()


def test_bounds_and_margins_are_those_of_the_data():
    margin = module._MARGIN
    for data, flow, expected in (
        (SMALL, "glow", 0.05),
        (LARGE, "real_nvp", 0.05),
        (LARGE, "tarflow", None),
        (TABLE, "maf", None),
        (SMALL.astype(np.float32), "glow", None),
    ):
        settings = suited(data, flow)
        assert settings.flow_options.get(margin) == expected
        bounds = [0.0, 256.0] if data.dtype == np.uint8 else None
        assert settings.flow_options.get("bounds") == bounds
    assert (
        suited(SMALL, "glow", flow_options={margin: None}).flow_options[margin] is None
    )
    for end in (0, 255):
        for share, expected in ((0.05, 0.05), (0.3, 1e-6)):
            x = np.where(DRAW.uniform(size=LARGE.shape) < share, end, 100)
            x = x.astype(np.uint8)
            assert suited(x, "glow").flow_options[margin] == expected
            assert suited(x, "tarflow").flow_options[margin] is None
    with pytest.raises(ValueError, match=f"{margin} is for data with bounds"):
        suited(TABLE, "maf", flow_options={margin: 0.1})


def test_a_table_starts_as_the_mixture_that_suits():
    slanted = TABLE @ [[1.0, 0.9, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 5.0]]
    options = suited(slanted, "maf").flow_options
    assert options["base"]["name"] == "fitted_mixture" and options["normalize"] is True
    assert options["base"]["components"] == 1
    two = np.concatenate([slanted[:20] - 30, slanted[20:] + 30])
    assert suited(two, "maf").flow_options["base"]["components"] >= 2
    far = np.copy(MANY)
    far[7, 1] = 1e4
    assert suited(far, "maf").flow_options["normalize"] == "heavy_tails"
    # What is given stays, and what is no start from a mixture stays plain.
    given = {"base": "student_t", "normalize": "robust"}
    assert given.items() <= suited(far, "maf", flow_options=given).flow_options.items()
    given = {"normalize": False}
    options = suited(far, "maf", flow_options=given).flow_options
    assert options["normalize"] is False and options["base"]["components"] >= 1
    for data, flow, more in (
        (TABLE, "maf", {"flow_options": {"bounds": [-9, 9]}}),
        (TABLE, "ffjord", {"objective": "flow_matching"}),
        (TABLE, "torus", {}),
        (SMALL, "glow", {}),
        (TABLE[:3], "maf", {}),
    ):
        assert (
            not {"base", "normalize"} & suited(data, flow, **more).flow_options.keys()
        )


def test_a_mistake_is_told_before_a_mixture_is_sought(monkeypatch):
    """Which takes seconds."""
    monkeypatch.setattr(tables, "suited_start", None)
    with pytest.raises(ValueError, match="order must be one of"):
        suited(TABLE, "real_nvp", flow_options={"order": "x"})
    with pytest.raises(ValueError, match="warmup must be below"):
        suited(TABLE, "real_nvp", epochs=2, warmup=2.0)
    with pytest.raises(ValueError, match="glow needs the event_shape of images"):
        suited(TABLE, "glow")
    with pytest.raises(ValueError, match="needs labels"):
        suited(TABLE, "real_nvp", conditional=True)


def test_what_is_given_goes_before():
    given = {"epochs": 3, "batch_size": 7, "seed": 5, "clip_norm": 1.0}
    settings = suited(SMALL, "glow", flow_options={"steps": 2}, **given)
    assert {name: getattr(settings, name) for name in given} == given
    assert settings.flow_options["steps"] == 2 and settings.flow_options["width"] == 64


def test_labels():
    labelled = {"x": TABLE, "labels": np.arange(40) % 4}
    assert suited(labelled, "maf", conditional=True).flow_options["num_classes"] == 4
    assert "num_classes" not in suited(labelled, "maf").flow_options
    with pytest.raises(ValueError, match="needs labels, and array has none"):
        suited(TABLE, "maf", conditional=True)


@pytest.mark.parametrize("recipes", ["_VECTORS", "_SMALL_IMAGES", "_IMAGES"])
def test_recipes_name_flows_options_and_fields_that_there_are(recipes):
    fields = {field.name for field in dataclasses.fields(Settings)}
    for flow, (run, options) in getattr(module, recipes).items():
        assert flow in flows.READY
        assert run.keys() <= fields
        assert options.keys() <= ready_flows()[flow].options.keys()
    assert module._MARGIN in ready_flows()["glow"].options


def test_differences():
    one = suited(TABLE, "maf")
    free = dataclasses.replace(
        one, epochs=1, temperature=0.5, data="elsewhere", data_dir="there"
    )
    assert free.differences(one) == []
    other = dataclasses.replace(one, seed=3, jit=True)
    assert other.differences(one) == ["seed=0 (now 3)", "jit=None (now True)"]
    # Nobody knows what the data were: their name has to do.
    unknown = dataclasses.replace(one, fingerprint=None)
    assert free.differences(unknown) == ["data='x' (now 'elsewhere')"]
