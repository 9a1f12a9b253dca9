"""The command line, as a user meets it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import keras
import matplotlib.image
import numpy as np
import pytest

import tfp_flows
from tests.command.support import assert_same_up_to_rounding, call
from tfp_flows import datasets, plots
from tfp_flows.command import cli, files, progress, tables
from tfp_flows.command import train as training
from tfp_flows.command.evaluate import sample
from tfp_flows.command.flow_options import ready_flows
from tfp_flows.command.settings import Settings

ROOT = Path(__file__).parents[2]
TINY = {"glow": ["--levels", 1, "--steps", 1, "--width", 4]}
TINY["real_nvp"] = ["--layers", 1, "--width", 4, "--depth", 1]
TINY["nice"] = ["--layers", 2, "--width", 4, "--depth", 1]


def train(data, flow, output, *arguments):
    tiny = ["--verbose", 0, "--epochs", 1]
    return ["train", data, "--flow", flow, "-o", output, *tiny, *TINY[flow], *arguments]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the digits are prepared."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A file of 64 labelled points in the plane."""
    path = tmp_path_factory.mktemp("points") / "points.npz"
    np.savez(path, x=datasets.TOYS["moons"].sample(64, 0), labels=np.arange(64) % 2)
    return path


class Run:
    """A command that ran, what it printed, and its directory."""

    def __init__(self, directory, arguments):
        self.arguments = [str(a) for a in arguments]
        self.directory = directory
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as self.warnings,
        ):
            warnings.simplefilter("always")
            assert call(*self.arguments) == 0
        self.out, self.err = out.getvalue(), err.getvalue()
        self.report = json.loads((directory / "report.json").read_text())

    @property
    def settings(self):
        return files.read_settings(self.directory)

    @property
    def history(self):
        with (self.directory / "history.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def files(self):
        return {p.name: p.read_bytes() for p in self.directory.iterdir()}


@pytest.fixture(scope="module")
def digits(tmp_path_factory, data_dir):
    """A class-conditional Glow on digits."""
    output = tmp_path_factory.mktemp("digits") / "a b"
    options = ["--conditional", "--data-dir", data_dir, "--epochs", 2, "--seed", 3]
    options += ["--logit-margin", 0.1]
    return Run(output, train("digits", "glow", output, *options))


@pytest.fixture(scope="module")
def moons(tmp_path_factory, points):
    """An unconditional RealNVP on points."""
    output = tmp_path_factory.mktemp("moons") / "run"
    return Run(output, train(points, "real_nvp", output, "--batch-size", 16))


# What train is asked to do.


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `train` would run: settings, directory and how, where nothing was run."""
    monkeypatch.chdir(tmp_path)

    class Asked(Exception):
        pass

    def note(settings, directory, *, source, **options):
        raise Asked(settings, directory, options)

    def check(*arguments):
        monkeypatch.setattr(training, "prepare", note)
        with pytest.raises(Asked) as asked:
            call("train", *arguments)
        return asked.value.args

    return check


def test_defaults_suit_the_data(asked, data_dir, tmp_path):
    settings, directory, options = asked(
        "digits", "--flow", "glow", "--data-dir", data_dir
    )
    assert directory == Path("runs/digits-glow")
    assert options == {"resume": False, "resume_best": False, "overwrite": False}
    expected = Settings.suited("digits", "glow", data_dir=str(data_dir))
    assert settings == expected
    np.savetxt(tmp_path / "a table.csv", np.arange(20.0).reshape(10, 2), delimiter=",")
    settings, directory, _ = asked(tmp_path / "a table.csv", "--flow", "real_nvp")
    assert directory == Path("runs/a table-real_nvp")
    assert settings == Settings.suited(str(tmp_path / "a table.csv"), "real_nvp")
    settings, directory, _ = asked(
        "digits:1.0.0",
        "--flow",
        "glow",
        "--data-dir",
        data_dir,
        "--logit-margin",
        "none",
    )
    assert directory == Path("runs/digits-1.0.0-glow")
    assert settings.flow_options == {**expected.flow_options, "logit_margin": None}


def test_what_is_given_goes_before(asked, data_dir):
    arguments = [
        "--steps",
        3,
        "--epochs",
        5,
        "--conditional",
        "--jit",
        "--logit-margin",
        0.1,
    ]
    arguments += ["--batch-size", 10, "--learning-rate", 0.1, "--clip-norm", 2]
    arguments += ["--validation", 0.2, "--temperature", 0.5, "--seed", 9]
    arguments += ["--data-dir", data_dir]
    settings, directory, options = asked(
        "digits", "--flow", "glow", "-o", "x", "--overwrite", *arguments
    )
    assert directory == Path("x")
    assert options == {"resume": False, "resume_best": False, "overwrite": True}
    fingerprint = settings.fingerprint
    assert fingerprint["sizes"] == {"train": 1200, "validation": 300, "test": 297}
    assert settings == Settings(
        data="digits",
        flow="glow",
        flow_options={
            "steps": 3,
            "width": 64,
            "logit_margin": 0.1,
            "bounds": [0.0, 17.0],
            "num_classes": 10,
        },
        conditional=True,
        epochs=5,
        batch_size=10,
        learning_rate=0.1,
        clip_norm=2.0,
        validation=0.2,
        temperature=0.5,
        seed=9,
        jit=True,
        data_dir=str(data_dir),
        fingerprint=fingerprint,
    )


# What train leaves behind.


def test_train_on_images_writes_everything(digits):
    assert set(digits.files) == {
        "settings.json",
        "history.csv",
        "last.keras",
        "model.keras",
        "loss.png",
        "samples.png",
        "report.json",
    }
    # Ten by ten images of 8x8 pixels, each pixel a square, 2 pixels between images.
    picture = matplotlib.image.imread(digits.directory / "samples.png")
    assert picture.shape[:2] == (658, 658)
    model = files.load_model(digits.directory)
    images = sample(model, 100, seed=3)[..., 0] / 17
    middles = 4 + 8 * np.arange(8)
    for i, image in enumerate(images):
        y, x = (66 * k + middles for k in divmod(i, 10))
        shown = picture[np.ix_(y, x)][..., 0]
        np.testing.assert_allclose(shown, image.clip(0, 1), atol=0.01)
    assert matplotlib.image.imread(digits.directory / "loss.png").ndim == 3


def test_train_on_points_writes_everything(moons):
    assert set(moons.files) == {
        "settings.json",
        "history.csv",
        "last.keras",
        "model.keras",
        "loss.png",
        "density.png",
        "samples.npy",
        "report.json",
    }
    samples = np.load(moons.directory / "samples.npy", allow_pickle=False)
    assert samples.shape == (10_000, 2) and np.isfinite(samples).all()
    assert samples.std() > 0.1
    for name in ("density.png", "loss.png"):
        picture = matplotlib.image.imread(moons.directory / name)
        assert min(picture.shape[:2]) > 200 and picture[..., :3].std() > 0.01


def test_train_prints_nothing_but_its_own(digits, moons):
    for run in (digits, moons):
        assert run.err == ""
        assert [str(w.message) for w in run.warnings if w.category is UserWarning] == []
        first, settings, *_ = run.out.splitlines()
        (written,) = (x for x in run.out.splitlines() if " epochs in " in x)
        assert f"{run.report['parameters']:,} parameters" in first
        assert settings.startswith("settings: ")
        assert f"epochs={run.settings.epochs}, " in settings and "width=4" in settings
        assert all(name in written for name in run.files)
        assert str(run.directory) in written


def test_report(digits, data_dir):
    report = digits.report
    assert report["command"].startswith("tfp-flows train digits --flow glow -o ")
    assert shlex.split(report["command"]) == ["tfp-flows", *digits.arguments]
    assert report["versions"] == training.versions()
    assert report["settings"] == {
        "data": "digits",
        "flow": "glow",
        "flow_options": {
            "steps": 1,
            "width": 4,
            "levels": 1,
            "logit_margin": 0.1,
            "bounds": [0.0, 17.0],
            "num_classes": 10,
        },
        "conditional": True,
        "objective": "likelihood",
        "pairing": None,
        "recipe": None,
        "member": 0,
        "epochs": 2,
        "epoch_steps": None,
        "batch_size": 64,
        "learning_rate": 0.001,
        "warmup": 0.0,
        "decay": "epoch",
        "clip_norm": None,
        "weight_decay": None,
        "average": None,
        "patience": None,
        "validation": 0.1,
        "tidy": False,
        "categorical": False,
        "integer": False,
        "columns": None,
        "temperature": 1.0,
        "seed": 3,
        "jit": None,
        "data_dir": str(data_dir),
        "fingerprint": datasets.load("digits", data_dir=data_dir).fingerprint(),
    }
    assert json.loads(digits.files["settings.json"]) == report["settings"]
    assert report["data"] == {
        "name": "digits",
        "event_shape": [8, 8, 1],
        "bounds": [0.0, 17.0],
        "num_classes": 10,
        "sizes": {"train": 1350, "validation": 150, "test": 297},
        "categories": {},
        "integers": [],
    }
    assert report["training"]["epochs"] == 2
    assert report["training"]["resumed"] is False
    assert report["training"]["seconds"] > 0
    assert report["machine"]["cpus"] == os.cpu_count()
    assert [row["epoch"] for row in digits.history] == ["0", "1"]
    nll = [float(row["val_nll"]) for row in digits.history]
    assert report["training"]["best_epoch"] == 1 + nll.index(min(nll))


def test_units(digits, moons):
    for run, size in ((digits, 64), (moons, 2)):
        results = run.report["results"]
        bits = -results["log_likelihood"] / (size * math.log(2))
        assert results["bits_per_dim"] == pytest.approx(bits, rel=1e-9)
    # Seventeen levels: the pixels scaled to [0, 1] are denser by 17 in each dimension.
    results = digits.report["results"]
    assert results["log_likelihood_unit"] == pytest.approx(
        results["log_likelihood"] + 64 * math.log(17), rel=1e-9
    )
    assert "log_likelihood_unit" not in moons.report["results"]


NUMBERS = re.compile(
    r"^(\w+) \(([\d,]+) examples\): log-likelihood (\S+) \+/- (\S+) nats"
    r"(?: per example)?, (\S+) bits per dimension"
)


def printed(text):
    """The results that a text shows."""
    (found,) = (m for m in map(NUMBERS.match, text.splitlines()) if m)
    split, examples, *numbers = found.groups()
    return split, int(examples.replace(",", "")), *map(float, numbers)


def rounded(results):
    names = ("log_likelihood", "standard_error", "bits_per_dim")
    return (
        results["split"],
        results["examples"],
        *(round(results[name], 4) for name in names),
    )


def test_what_is_printed_is_what_is_reported(digits, moons):
    for run in (digits, moons):
        assert printed(run.out) == rounded(run.report["results"])
    assert "(pixels 0..16 as stored)" in digits.out
    unit = digits.report["results"]["log_likelihood_unit"]
    assert f"with pixels scaled to [0, 1]: {unit:.2f} nats" in digits.out
    assert "pixels" not in moons.out and "KL" not in moons.out


def test_the_model_file_has_the_reported_likelihood(digits, moons):
    for run in (digits, moons):
        model = keras.models.load_model(run.directory / "model.keras")
        source = run.settings.load_data()
        (batch,) = source.dataset(
            "test", 1000, labels=run is digits, seed=run.settings.seed
        )
        x, label = batch if run is digits else (batch, None)
        context = {} if label is None else {"context": label}
        log_q = model.flow.log_prob(x, **context).numpy()
        assert log_q.mean() == pytest.approx(
            run.report["results"]["log_likelihood"], rel=1e-5
        )


def test_a_toy_is_compared_with_the_truth(moons, says, tmp_path):
    output = tmp_path / "run"
    text = says(*train("circles", "nice", output, "--batch-size", 1000, "--epochs", 2))
    results = json.loads((output / "report.json").read_text())["results"]
    assert printed(text) == rounded(results)
    kl = re.search(r"KL divergence from the exact density: (\S+) \+/- (\S+) nats", text)
    assert float(kl[1]) == round(results["kl"], 4)
    assert float(kl[2]) == round(results["kl_standard_error"], 4)
    exact = datasets.TOYS["circles"].log_prob(
        datasets.load("circles").arrays("test")[0]
    )
    assert results["kl"] == pytest.approx(
        exact.mean() - results["log_likelihood"], rel=1e-6
    )
    assert results["kl"] > 0


def test_conditional_points(points, says, tmp_path):
    output = tmp_path / "run"
    text = says(*train(points, "real_nvp", output, "--conditional", "--validation", 0))
    assert not (output / "density.png").exists()
    assert np.load(output / "samples.npy").shape == (10_000, 2)
    assert printed(says("evaluate", output)) == printed(text)
    says("sample", output, "--label", 1, "-o", tmp_path / "x.npy")


# Tables.


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((300, 3))
    x[:, 1] = x[:, 0] + 0.3 * x[:, 1]
    x[:, 2] = draw.random(300) < 0.1
    path = tmp_path / "table.csv"
    np.savetxt(path, x, delimiter=";", header="a;b;is red", comments="")
    return path


def test_a_table_stands_beside_simpler_densities(table, tmp_path, capsys):
    output = tmp_path / "run"
    code = call(*train(table, "real_nvp", output, "--epochs", 2))
    text = capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert report["data"]["columns"] == {"binary": ["is red"]}
    assert "column 'is red': of two values" in text
    gaussian, mixture = (report["baselines"][n] for n in ("gaussian", "mixture"))
    assert f"a Gaussian has {gaussian['log_likelihood']:.4f}" in text
    assert f"a mixture of {mixture['components']} Gaussians" in text
    verdict = tables.shortfall(report["results"], gaussian, 3)
    assert code == (1 if verdict == "far below" else 0)


@pytest.mark.slow
def test_a_flow_far_below_a_gaussian_is_no_success(table, tmp_path, fails, monkeypatch):
    gaussian = {"log_likelihood": 50.0, "standard_error": 0.1, "components": 1}
    monkeypatch.setattr(tables, "baselines", lambda *data: {"gaussian": gaussian})
    output = tmp_path / "run"
    line = fails(*train(table, "real_nvp", output), code=1)
    assert "far below a Gaussian" in line and "--learning-rate" in line
    assert (output / "model.keras").exists()
    report = json.loads((output / "report.json").read_text())
    assert report["baselines"] == {"gaussian": gaussian}


def report_of(log_likelihood, **data):
    """What is compared of a run of one feature."""
    return {
        "results": {"log_likelihood": log_likelihood, "standard_error": 0.1},
        "data": {"event_shape": [1], "bounds": None, "columns": {}, **data},
        "baselines": {"gaussian": {"log_likelihood": 1.0, "standard_error": 0.1}},
    }


def test_above_a_gaussian_means_nothing_beside_a_constant_column(capsys):
    cli._compare(report_of(9.0, columns={"constant": ["a", "b"]}))
    assert "says nothing: a, b is constant" in capsys.readouterr().out
    cli._compare(report_of(9.0))
    assert "says nothing" not in capsys.readouterr().out
    with pytest.raises(cli.Failed, match=r"leave out what is constant \(a\)"):
        cli._compare(report_of(-9.0, columns={"constant": ["a"]}))


@pytest.mark.parametrize(
    ("log_likelihood", "fails"),
    [(-22.1, False), (-22.3, True), (-math.inf, True), (math.nan, True)],
)
def test_images_worse_than_noise_are_no_success(log_likelihood, fails):
    # Four pixels of 256 values: -4 log(256) = -22.18 nats.
    report = report_of(log_likelihood, event_shape=[2, 2, 1], bounds=[0.0, 256.0])
    expected = (
        pytest.raises(cli.Failed, match="worse than uniform noise")
        if fails
        else contextlib.nullcontext()
    )
    with expected:
        cli._compare_with_uniform(report)


# Evaluating.


def test_evaluate_repeats_the_report(digits, moons, says):
    for run in (digits, moons):
        assert printed(says("evaluate", run.directory)) == rounded(
            run.report["results"]
        )


def test_evaluate_a_file_and_a_split(moons, says):
    text = says("evaluate", moons.directory / "last.keras", "--split", "validation")
    split, examples, likelihood, *_ = printed(text)
    assert (split, examples) == ("validation", 6)
    nll = float(moons.history[-1]["val_nll"])
    assert likelihood == pytest.approx(-nll, abs=1e-3)


def test_evaluate_on_other_data(moons, says, fails, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, 3 + datasets.TOYS["moons"].sample(100, 1))
    text = says("evaluate", moons.directory, "--data", other)
    split, examples, likelihood, *_ = printed(text)
    assert (split, examples) == ("test", 10)
    assert likelihood < moons.report["results"]["log_likelihood"] - 1
    text = says("evaluate", moons.directory, "--data", "moons")
    kl = re.search(r"KL divergence from the exact density: (\S+) \+/- (\S+) nats", text)
    assert float(kl[1]) > 5 * float(kl[2]) > 0
    np.save(other, np.zeros((100, 3)))
    line = fails("evaluate", moons.directory, "--data", other)
    assert "[3]" in line and "[2]" in line


def test_evaluate_a_model_outside_a_run(moons, says, fails, points, tmp_path):
    alone = tmp_path / "alone.keras"
    shutil.copy(moons.directory / "model.keras", alone)
    assert "--data" in fails("evaluate", alone)
    assert printed(says("evaluate", alone, "--data", points)) == rounded(
        moons.report["results"]
    )


def test_a_picture_that_cannot_be_drawn_is_a_line(points, says, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no such colour\nand more")

    monkeypatch.setattr(plots, "density", fail)
    output = tmp_path / "run"
    text = says(*train(points, "real_nvp", output))
    assert "density.png cannot be drawn: no such colour\n" in text
    assert (output / "report.json").exists() and (output / "samples.npy").exists()
    assert not (output / "density.png").exists()


def test_evaluate_needs_the_labels(digits, fails, tmp_path):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 17, (40, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "unlabelled.npy", images)
    line = fails("evaluate", digits.directory, "--data", tmp_path / "unlabelled.npy")
    assert "label" in line
    np.savez(tmp_path / "more.npz", x=images, labels=np.arange(40) % 12)
    line = fails("evaluate", digits.directory, "--data", tmp_path / "more.npz")
    assert "12 classes" in line and "10" in line


# Sampling.


def test_sample_images(digits, says, fails, tmp_path):
    path = tmp_path / "samples.png"
    text = says("sample", digits.directory, "-n", 12, "-o", path)
    assert text == f"12 samples of shape [8, 8, 1] in {path}\n"
    before = path.read_bytes()
    # Three rows of four images of 8x8 pixels, each pixel a square of 19.
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (3 * 152 + 4, 4 * 152 + 6)
    says("sample", digits.directory, "-n", 12, "-o", tmp_path / "samples.npy")
    first = np.load(tmp_path / "samples.npy", allow_pickle=False)[0, ..., 0]
    shown = picture[9:152:19, 9:152:19, 0]
    np.testing.assert_allclose(shown, (first / 17).clip(0, 1), atol=0.01)
    line = fails("sample", digits.directory, "-n", 4, "-o", path)
    assert "--overwrite" in line and path.read_bytes() == before
    says("sample", digits.directory, "-n", 4, "-o", path, "--overwrite")
    assert path.read_bytes() != before


def test_sample_in_the_current_directory(digits, moons, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    says("sample", digits.directory)
    says("sample", moons.directory)
    assert {p.name for p in tmp_path.iterdir()} == {"samples.png", "samples.npy"}
    assert np.load("samples.npy", allow_pickle=False).shape == (64, 2)


def test_sample_seeds_and_labels(digits, says, tmp_path):
    def draw(*arguments):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        says("sample", digits.directory, "-n", 20, "-o", path, *arguments)
        return np.load(path, allow_pickle=False)

    x = draw()
    assert x.shape == (20, 8, 8, 1)
    np.testing.assert_array_equal(draw("--seed", 0), x)
    assert (draw("--seed", 1) != x).mean() > 0.9
    sevens = draw("--label", 7)
    np.testing.assert_array_equal(sevens[[7, 17]], x[[7, 17]])
    others = np.arange(20) % 10 != 7
    assert (sevens[others] != x[others]).any((1, 2, 3)).all()


def test_sample_temperature(digits, moons, says, tmp_path):
    def spread(model, temperature, *arguments):
        path = tmp_path / "x.npy"
        options = ["-o", path, "--overwrite", "--temperature", temperature]
        says("sample", model.directory, *options, *arguments)
        return np.load(path, allow_pickle=False).std(0)

    for arguments in ([moons], [digits, "--label", 3]):
        model, *label = arguments
        cold, warm = (spread(model, t, *label) for t in (1e-3, 1.0))
        assert (warm > 0.3).all()
        assert (cold < 0.01 * warm).all() and (cold > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.jpg"], r"\.png, \.npy or \.csv, got x\.jpg"),
        (["-o", "x.png"], r"over vectors.*\.npy"),
        (["-o", "absent/x.npy"], "no directory absent"),
        (["--label", "1"], "no classes"),
        (["--label", "-1"], "--label"),
        (["-n", "0"], "-n"),
        (["--temperature", "0"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--seed", "1.5"], "--seed"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_sample_mistakes(moons, fails, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, fails("sample", moons.directory, *arguments))
    assert list(tmp_path.iterdir()) == []


def test_sample_mistakes_with_labels_and_paths(digits, moons, fails, tmp_path):
    line = fails("sample", digits.directory, "--label", 10, "-o", tmp_path / "x.png")
    assert "from 0 to 9, got 10" in line
    (tmp_path / "folder.npy").mkdir()
    line = fails(
        "sample", moons.directory, "-o", tmp_path / "folder.npy", "--overwrite"
    )
    assert "folder.npy" in line


# Describing.


def test_info(says, digits):
    text = says("info")
    for name, version in training.versions().items():
        assert re.search(rf"^{name} +{re.escape(version)}$", text, re.M)
    for name in (*ready_flows(), *datasets.TOYS, "digits"):
        assert name in text
    for path in (digits.directory, digits.directory / "model.keras"):
        text = says("info", path)
        assert re.search(r"^num_classes +10$", text, re.M)
        assert re.search(r"^event_shape +\[8, 8, 1\]$", text, re.M)
        assert "ActNorm" in text and f"{digits.report['parameters']:,}" in text


# Directories.


def test_a_run_is_not_overwritten(moons, fails, points):
    before = moons.files
    line = fails(*moons.arguments)
    assert "not empty" in line and "overwrite" in line
    assert moons.files == before


def test_overwrite_deletes_the_files_of_a_run_only(moons, says, points, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    (output / "notes.txt").write_text("mine")
    (output / "samples.png").write_text("of an older run")
    arguments = train(points, "real_nvp", output, "--seed", 5, "--overwrite")
    says(*arguments)
    assert (output / "notes.txt").read_text() == "mine"
    assert {p.name for p in output.iterdir()} == {*moons.files, "notes.txt"}
    assert files.read_settings(output).seed == 5
    assert (output / "history.csv").read_text().count("\n") == 2


@pytest.mark.slow
def test_overwrite_waits_for_the_first_epoch(moons, points, tmp_path, fails):
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    command = train(points, "real_nvp", output, "--overwrite", "--batch-size", 8)
    line = fails(*command, "--learning-rate", "1e30", code=1)
    assert re.search("NaN or infinite|diverged", line)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    settings = Settings.suited(str(points), "real_nvp", batch_size=8)
    with pytest.raises(progress.Interrupted, match="is as it was"):
        training.train(
            settings, output, overwrite=True, callbacks=[Interrupting()], verbose=0
        )
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


class Interrupting(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)


def test_a_mistake_with_overwrite_deletes_nothing(moons, fails):
    before = moons.files
    line = fails(*moons.arguments, "--overwrite", "--base", "cauchy")
    assert "base must be one of" in line
    assert moons.files == before


def test_resume_with_more_epochs(moons, says, tmp_path, points):
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    # Everything but the number of epochs comes from the run.
    arguments = ["train", points, "--flow", "real_nvp", "-o", output, "--verbose", 0]
    text = says(*arguments, "--resume", "--epochs", 2)
    assert re.search("^2 epochs in ", text, re.M)
    report = json.loads((output / "report.json").read_text())
    assert report["settings"] == {**moons.report["settings"], "epochs": 2}
    assert report["training"]["resumed"] is True
    rows = (output / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "0.5"], r"learning_rate=0.0002 \(now 0.5\)"),
        (["--layers", "4"], "flow_options.*'layers': 1.*'layers': 4"),
        (["--conditional"], "conditional=False"),
        (["--overwrite"], "exclude each other"),
    ],
)
def test_resume_mistakes(moons, fails, points, arguments, message):
    before = moons.files
    command = ["train", points, "--flow", "real_nvp", "-o", moons.directory]
    assert re.search(message, fails(*command, "--resume", *arguments))
    assert moons.files == before


def test_resume_another_flow_or_nothing(moons, fails, points, tmp_path):
    command = ["train", points, "--resume", "-o"]
    line = fails(*command, moons.directory, "--flow", "nice")
    assert "flow='real_nvp' (now 'nice')" in line
    line = fails(*command, tmp_path / "nothing", "--flow", "nice")
    assert "there is no run in" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_resume_looks_at_the_data_and_not_at_their_name(
    moons, says, fails, points, tmp_path, monkeypatch
):
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    (tmp_path / "elsewhere").mkdir()
    with np.load(points) as arrays:
        x, labels = arrays["x"], arrays["labels"]
    np.savez(tmp_path / "elsewhere" / "same.npz", x=x, labels=labels)
    np.savez(tmp_path / "moved.npz", x=x + 100, labels=labels)
    np.savez(tmp_path / "fewer.npz", x=x[:30], labels=labels[:30])
    np.savez(tmp_path / "wider.npz", x=np.repeat(x, 2, 1), labels=labels)
    command = ["--flow", "real_nvp", "-o", output, "--resume", "--verbose", 0]
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for name, message in {
        "moved": "their values have changed",
        "fewer": r"sizes was .*'train': 52.* and is .*'train': 24",
        "wider": r"event_shape was \[2\] and is \[4\]",
    }.items():
        line = fails("train", tmp_path / f"{name}.npz", *command)
        assert re.search(f"are not the data of the run.*{message}", line)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    monkeypatch.chdir(tmp_path)
    says("train", "./elsewhere/same.npz", *command, "--epochs", 2)


@pytest.fixture
def damaged(moons, tmp_path, points):
    """A run whose state is damaged, and the command that would go on with it."""
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    data = bytearray((output / "last.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (output / "last.keras").write_bytes(data)
    command = ["train", points, "--flow", "real_nvp", "-o", output, "--verbose", 0]
    return output, [*command, "--epochs", 2]


def test_a_damaged_state(damaged, fails):
    line = fails(*damaged[1], "--resume")
    assert "last.keras is damaged" in line and "--resume-best" in line


@pytest.mark.slow
def test_a_damaged_state_and_the_best_epoch(damaged, says, points, tmp_path):
    output, command = damaged
    says(*command, "--resume-best")
    best, whole = (d / "model.keras" for d in (output, tmp_path / "whole"))
    says(*train(points, "real_nvp", whole.parent, "--epochs", 2, "--batch-size", 16))
    assert_same_up_to_rounding(
        files.load_model(best).variables, files.load_model(whole).variables
    )


# Interrupts.


@pytest.mark.slow
def test_ctrl_c_and_resume(points, tmp_path, says):
    options = ["--batch-size", 8, "--epochs", 10, "--verbose", 2]
    arguments = [str(a) for a in train(points, "real_nvp", tmp_path / "run", *options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(
        [sys.executable, "-m", "tfp_flows", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for text in process.stdout:
            if "Epoch 2/10" in text:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = (x for x in err.splitlines() if x.startswith("tfp-flows"))
    assert "interrupted" in line and "--resume" in line
    assert "Traceback" not in out + err
    last = keras.models.load_model(tmp_path / "run" / "last.keras")
    done = int(last.optimizer.iterations)
    # Seven steps in each epoch.
    assert 7 <= done < 10 * 7
    assert not (tmp_path / "run" / "report.json").exists()

    says(*arguments, "--verbose", 0, "--resume")
    says(*train(points, "real_nvp", tmp_path / "whole", *options, "--verbose", 0))
    resumed, whole = (
        keras.models.load_model(tmp_path / name / "last.keras")
        for name in ("run", "whole")
    )
    a, b = ([*m.variables, *m.optimizer.variables] for m in (resumed, whole))
    assert len(a) > 15
    assert_same_up_to_rounding(a, b)
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(10))


def test_divergence(points, tmp_path, fails):
    output = tmp_path / "run"
    arguments = ["--learning-rate", "1e30", "--batch-size", 8, "--epochs", 3]
    line = fails(*train(points, "real_nvp", output, *arguments), code=1)
    assert re.search("NaN or infinite|diverged", line) and "learning rate" in line
    assert not (output / "report.json").exists()
    assert not (output / "model.keras").exists()


def test_interrupts_outside_training(moons, fails, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "load_model", interrupt)
    assert fails("info", moons.directory, code=130) == "tfp-flows: interrupted"


def test_a_full_disk(points, tmp_path, fails, monkeypatch):
    def save(model, path, **options):
        Path(path).write_bytes(b"PK")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(tfp_flows.FlowModel, "save", save)
    line = fails(*train(points, "real_nvp", tmp_path / "run"))
    assert "No space left on device" in line and "model.keras" in line
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {"settings.json", "history.csv"}


@pytest.mark.slow
def test_a_disk_that_is_full_while_resuming(moons, tmp_path, points, fails, says):
    output = tmp_path / "run"
    shutil.copytree(moons.directory, output)
    before = (output / "settings.json").read_bytes()
    arguments = ["train", points, "--flow", "real_nvp", "-o", output, "--verbose", 0]
    arguments += ["--resume", "--epochs", 2]
    full = mock.patch.object(
        Path, "write_text", side_effect=OSError(28, "No space left on device")
    )
    with full:
        assert "No space left on device" in fails(*arguments)
    assert (output / "settings.json").read_bytes() == before
    says(*arguments)


def test_two_processes_in_one_directory(moons, fails, says, points, tmp_path):
    output = tmp_path / "run"
    arguments = train(points, "real_nvp", output)
    with files.locked(output):
        line = fails(*arguments)
    assert f"in use: process {os.getpid()}" in line
    assert list(output.iterdir()) == []


def test_a_reader_that_has_left(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert call("info") == 1
    assert sys.stderr.closed


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moon", "--flow", "nice"], "no data set 'moon'.*Did you mean moons"),
        (["fashion-mnist", "--flow", "nice"], "Did you mean fashion_mnist"),
        (["x.tar", "--flow", "nice"], r"no data set 'x\.tar'"),
        (["x.mat", "--flow", "nice"], r"no file x\.mat"),
        (["Digits", "--flow", "glow"], r"Did you mean digits"),
        (["absent.npz", "--flow", "nice"], r"no file absent\.npz"),
        (["moons", "--flow", "glow"], "glow needs the event_shape of images.*real_nvp"),
        (["moons", "--flow", "nice", "--conditional"], "needs labels.*moons has none"),
        (["moons", "--flow", "real_nvp", "--levels", "2"], "levels"),
        (
            ["moons", "--flow", "real_nvp", "--logit-margin", "0.1"],
            "logit_margin .* moons has none",
        ),
        (["moons", "--flow", "real_nvp", "--scale", "cube"], "scale.*'cube'"),
        (["moons", "--flow", "real_nvp", "--base", "cauchy"], "base.*'cauchy'"),
        (["moons", "--flow", "real_nvp", "--order", "x"], "order.*'x'"),
        (["moons", "--flow", "nice", "--order", "x"], "order.*'x'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_names(fails, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # If it is no mistake after all, the run is short.
    line = fails("train", "--epochs", 1, "--verbose", 0, *arguments)
    assert re.search(message, line)
    assert list(tmp_path.iterdir()) == []


def vectors(n=64, size=2, **changes):
    x = np.random.default_rng(0).standard_normal((n, size))
    for row, column, value in changes.get("at", ()):
        x[row, column] = value
    return x


IMAGES = np.zeros((64, 6, 7, 1), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "flow", "message"),
    [
        (
            {"x": vectors(at=[(1, 1, np.nan), (2, 1, np.inf)])},
            "nice",
            r"feature 1: 2 \(of 64 rows\)",
        ),
        ({"x": vectors()[:, 0]}, "nice", r"got shape \[64\]"),
        ({"x": np.zeros((64, 2, 2))}, "nice", r"got shape \[64, 2, 2\]"),
        ({"x": vectors(size=1)}, "real_nvp", "two or more features"),
        ({"x": vectors().astype(int)}, "nice", "dtype int64"),
        ({"x": vectors().astype(object)}, "nice", "not a readable .npz"),
        ({"x": IMAGES}, "glow", "width divisible by 2; got 7"),
        ({"x": vectors()[:1]}, "nice", r"have 1 example\(s\) in all, and each"),
        ({"x": vectors()[:2]}, "nice", r"have 2 example\(s\) in all, and each"),
        ({"x": vectors(), "labels": np.zeros(3, int)}, "nice", r"labels .*\[64\]"),
        ({"y": vectors()}, "nice", "'y'"),
        ({"labels": np.zeros(3, int)}, "nice", "no training data"),
    ],
)
def test_wrong_data(fails, arrays, flow, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    output = tmp_path / "run"
    assert re.search(message, fails(*train(tmp_path / "x.npz", flow, output)))
    assert not output.exists()


@pytest.mark.filterwarnings("always:.*labels are left out")
def test_labels_that_are_ids_matter_to_a_conditional_flow_only(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=vectors(), labels=1 + 10**6 * np.arange(64))
    arguments = train(tmp_path / "x.npz", "real_nvp", tmp_path / "run")
    assert call(*arguments, "--conditional") == 2
    err = capsys.readouterr().err
    assert "labels are left out" in err and "needs labels" in err
    settings = Settings.suited(str(tmp_path / "x.npz"), "real_nvp")
    assert settings.load_data().num_classes is None


@pytest.mark.filterwarnings("always:affine")
def test_a_warning_is_said_once(capsys):
    with cli._warnings_as_lines():
        for _ in range(2):
            warnings.warn("affine", stacklevel=1)
    assert capsys.readouterr().err == "tfp-flows: warning: affine\n"


def test_options_that_do_not_fit_the_data(fails, points, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    for data, flow, arguments, message in (
        (tmp_path / "images.npy", "glow", [], "got 6x7"),
        (points, "real_nvp", ["--validation", 0.95], "leaves none to train on"),
        (points, "real_nvp", ["--conditional", "--context-mode", "x"], "context_mode"),
    ):
        output = tmp_path / "run"
        line = fails("train", data, "--flow", flow, "-o", output, *arguments)
        assert message in line
        assert not output.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,nan\n", "column 'b': 1"),
        ("a,b\n1,2\n3,x\n", "row 3, column 'b': 'x'"),
        ("1,2\n3\n", "row 2: 1 cells"),
        ("a,b\n1,2,3\n4,5,6\n", "row 2: 3 cells"),
        ("", "x.csv"),
    ],
)
def test_wrong_tables(fails, text, message, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    line = fails(*train(tmp_path / "x.csv", "nice", tmp_path / "run"))
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_batch_of_labels_needs_two_classes(fails, tmp_path):
    np.savez(tmp_path / "x.npz", x=vectors(), labels=np.zeros(64, int))
    arguments = train(tmp_path / "x.npz", "real_nvp", tmp_path / "run", "--conditional")
    assert "num_classes must be at least 2" in fails(*arguments)


def test_a_missing_download(fails, tmp_path, monkeypatch):
    import requests

    def no_network(*arguments, **keywords):
        raise requests.exceptions.ConnectionError("no network")

    monkeypatch.setattr(requests, "head", no_network)
    options = ["--data-dir", tmp_path / "tfds"]
    line = fails(*train("mnist", "nice", tmp_path / "run", *options))
    assert "mnist is not prepared in" in line and "tfds.load('mnist')" in line
    assert not (tmp_path / "run").exists()


def test_a_directory_that_cannot_be_written(fails, points, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = fails(*train(points, "real_nvp", tmp_path / "file"))
    assert "is a file" in line
    line = fails(*train(points, "real_nvp", tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def bad_models(tmp_path_factory, moons):
    """Paths that hold no model of a flow, with what is said of them."""
    folder = tmp_path_factory.mktemp("bad")
    whole = (moons.directory / "model.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "text.keras").write_text("hello")
    (folder / "model.txt").write_text("hello")
    (folder / "empty.keras").write_bytes(b"")
    (folder / "directory").mkdir()
    foreign = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    foreign.save(folder / "foreign.keras")
    return folder


@pytest.mark.parametrize("command", ["evaluate", "sample", "info"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut.keras", "damaged"),
        ("text.keras", "damaged"),
        ("empty.keras", "damaged"),
        ("model.txt", "no model file"),
        ("foreign.keras", "holds a Sequential"),
        ("directory", "there is no model"),
        ("absent", "there is no model"),
        ("absent.keras", "there is no model"),
    ],
)
def test_no_model(bad_models, fails, command, name, message):
    line = fails(command, bad_models / name)
    assert message in line and name in line


@pytest.mark.slow
def test_module_and_version():
    run = subprocess.run(
        [sys.executable, "-m", "tfp_flows", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"tfp-flows {tfp_flows.__version__}\n"
