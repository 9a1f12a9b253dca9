"""Runs from Python: what is kept, interrupts, resuming, divergence."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import threading
import warnings
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfp_flows
from tests.command.support import assert_same_up_to_rounding
from tests.support import fast_and_slow
from tfp_flows import datasets, plots
from tfp_flows.command import files, progress, tables
from tfp_flows.command import train as training
from tfp_flows.command.evaluate import evaluate, sample
from tfp_flows.command.settings import Settings
from tfp_flows.core.data_warnings import DataWarning

# Four batches in an epoch, the last one smaller.
STEPS, EPOCHS = 4, 3
END = STEPS * EPOCHS


class Vanished(BaseException):
    """Stands for the end of the process: nothing in the package catches it."""


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The directory of a run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train(settings, directory, pictures=True)
    return directory


@pytest.fixture(scope="module")
def short(settings, tmp_path_factory):
    """The directory of a run of one epoch."""
    directory = tmp_path_factory.mktemp("short") / "run"
    train(dataclasses.replace(settings, epochs=1), directory)
    return directory


@pytest.fixture(scope="module")
def model(whole):
    return files.load_model(whole)


class Acting(keras.callbacks.Callback):
    """Calls a function with the model when a batch has been trained on."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def on_train_batch_end(self, batch, logs=None):
        self.action(self.model)


def train(settings, directory, action=None, *, pictures=False, **options):
    """Trains; what takes time beside it is left out if it does not matter."""
    if action is not None:
        options["callbacks"] = [Acting(action)]
    with contextlib.ExitStack() as stack:
        if not pictures:
            for name in ("history", "density"):
                stack.enter_context(mock.patch.object(plots, name, draw_nothing))
            stack.enter_context(mock.patch.object(tables, "baselines", nothing))
        return training.train(settings, directory, command="here", verbose=0, **options)


def draw_nothing(*arguments, path, **options):
    path.write_bytes(b"")


def nothing(*arguments):
    return {}


def iterations(model):
    return int(model.optimizer.iterations)


def history(directory):
    with (directory / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(directory, name):
    return [row[name] for row in history(directory)]


def variables(path):
    model = keras.models.load_model(path)
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same_end(one, other):
    """Equal weights, optimizers, and all that whole epochs give."""
    for name in ("last.keras", "model.keras"):
        a, b = variables(one / name), variables(other / name)
        assert len(a) > 10
        assert_same_up_to_rounding(a, b)
    for name in ("epoch", "learning_rate"):
        assert column(one, name) == column(other, name)
    nll = [[float(v) for v in column(d, "val_nll")] for d in (one, other)]
    assert nll[0] == pytest.approx(nll[1], rel=1e-4)
    results = [json.loads((d / "report.json").read_text()) for d in (one, other)]
    a, b = (keras.tree.flatten_with_path(r["results"]) for r in results)
    for (path, x), (same, y) in zip(a, b, strict=True):
        assert path == same
        assert x == (pytest.approx(y, rel=1e-4) if isinstance(y, float) else y)
    assert results[0]["training"]["best_epoch"] == results[1]["training"]["best_epoch"]


# What a run keeps.


def test_a_whole_run(whole, settings):
    assert {p.name for p in whole.iterdir()} == {
        "settings.json",
        "history.csv",
        "last.keras",
        "model.keras",
        "loss.png",
        "density.png",
        "samples.npy",
        "report.json",
    }
    assert column(whole, "epoch") == ["0", "1", "2"]
    assert files.read_settings(whole) == settings
    # A cosine from the given rate down to 0, one step of it for each epoch.
    rates = [float(r) for r in column(whole, "learning_rate")]
    np.testing.assert_allclose(rates, [0.01, 0.0075, 0.0025], rtol=1e-5)
    last = keras.models.load_model(whole / "last.keras")
    assert iterations(last) == END


def test_the_model_is_that_of_the_best_epoch(settings, tmp_path):
    shifts = {1: 0.5, STEPS + 1: -0.5, 2 * STEPS + 1: 0.5}

    def spoil(model):
        for v in model.trainable_variables:
            v.assign(v + shifts.get(iterations(model), 0.0))

    # Impatient: the third epoch, a worse one, is the last.
    settings = dataclasses.replace(settings, epochs=9, patience=1)
    report = train(settings, tmp_path / "run", spoil)
    assert report["training"]["epochs"] == 3
    nll = [float(v) for v in column(tmp_path / "run", "val_nll")]
    assert nll[1] < min(nll[0], nll[2])
    assert report["training"]["best_epoch"] == 2
    best = files.load_model(tmp_path / "run")
    assert iterations(best) == 2 * STEPS
    source = settings.load_data()
    likelihood = lambda m, split: evaluate(m, source, split, settings)
    assert likelihood(best, "validation")["log_likelihood"] == pytest.approx(
        -nll[1], rel=1e-5
    )
    last = keras.models.load_model(tmp_path / "run" / "last.keras")
    assert likelihood(last, "validation")["log_likelihood"] == pytest.approx(
        -nll[2], rel=1e-5
    )
    assert report["results"] == likelihood(best, "test")
    samples = np.load(tmp_path / "run" / "samples.npy")
    np.testing.assert_array_equal(samples, sample(best, 10_000, seed=settings.seed))


def test_without_validation_the_last_epoch_is_kept(settings, tmp_path):
    settings = dataclasses.replace(settings, validation=0.0, epochs=2)
    report = train(settings, tmp_path, pictures=True)
    assert report["data"]["sizes"] == {"train": 58, "validation": 0, "test": 6}
    assert report["training"]["best_epoch"] == 2
    assert "val_nll" not in history(tmp_path)[0]
    model, last = (
        keras.models.load_model(tmp_path / n) for n in ("model.keras", "last.keras")
    )
    assert iterations(model) == iterations(last) == 2 * STEPS
    for a, b in zip(model.variables, last.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_samples_that_overflowed_are_counted_and_left_out(
    settings, short, monkeypatch, tmp_path
):
    drawn = sample

    def overflow(*arguments, **keywords):
        x = drawn(*arguments, **keywords)
        x[[1, 5], 0] = np.nan, np.inf
        return x

    monkeypatch.setattr(training, "sample", overflow)
    # Nothing is left to train: what is drawn alone is new.
    shutil.copytree(short, tmp_path / "run")
    one = dataclasses.replace(settings, epochs=1)
    report = train(one, tmp_path / "run", pictures=True, resume=True)
    assert report["samples"] == {"drawn": 10_000, "finite": 9_998}
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    x = np.load(tmp_path / "run" / "samples.npy")
    assert x.shape == (9_998, 2) and np.isfinite(x).all()


def test_the_seed_decides_the_weights(settings, tmp_path):
    seeds = [dataclasses.replace(settings, seed=seed) for seed in (1, 1, 2)]
    models = [training.prepare(s, tmp_path / "run").model for s in seeds]
    weights = [
        np.concatenate([np.ravel(v) for v in model.trainable_variables])
        for model in models
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    # Nothing is written before the run.
    assert list(tmp_path.iterdir()) == []


# Interrupts.


@pytest.mark.parametrize(
    "points",
    [
        pytest.param((5,), id="within an epoch"),
        pytest.param((5, 6), id="twice in an epoch", marks=pytest.mark.slow),
        pytest.param(
            (2 * STEPS, END), id="at the ends of epochs", marks=pytest.mark.slow
        ),
    ],
)
def test_an_interrupted_run_reaches_the_same(settings, whole, tmp_path, points):
    left = list(points)

    def interrupt(model):
        if left and iterations(model) == left[0]:
            left.pop(0)
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    for i, at in enumerate(points):
        with pytest.raises(progress.Interrupted, match=r"interrupted.*last.keras"):
            train(settings, tmp_path, interrupt, resume=i > 0)
        assert signal.getsignal(signal.SIGINT) is handler
        last = files.load_model(tmp_path / "last.keras")
        assert iterations(last) == at
        assert len(history(tmp_path)) == at // STEPS
        assert not (tmp_path / "report.json").exists()
        run = training.prepare(settings, tmp_path, resume=True)
        assert iterations(run.model) == at
    report = train(settings, tmp_path, resume=True)
    assert report["training"]["resumed"] is True
    assert_same_end(whole, tmp_path)


@pytest.fixture(scope="module")
def rich(settings):
    """All that a recipe may ask for at once; epochs that end within a pass."""
    options = {"layers": 1, "width": 8, "depth": 1, "bins": 2}
    return dataclasses.replace(
        settings,
        flow="neural_spline_flow",
        flow_options={**options, "dropout": 0.5, "linear": "lu"},
        epoch_steps=3,
        warmup=0.5,
        decay="step",
        weight_decay=0.1,
        average=0.5,
        patience=5,
    )


@pytest.fixture(scope="module")
def rich_whole(rich, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rich") / "run"
    raw = []
    train(rich, directory, lambda model: raw.append(flat(model)))
    return directory, raw


def flat(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def test_averages_and_rates_of_a_run(rich, rich_whole):
    directory, raw = rich_whole
    assert column(directory, "epoch") == ["0", "1", "2"]
    average, averages = raw[0], []
    for weights in raw:
        average = 0.5 * average + 0.5 * weights
        averages.append(average)
    nll = [float(v) for v in column(directory, "val_nll")]
    best = files.load_model(directory)
    assert iterations(best) == 3 * (1 + int(np.argmin(nll)))
    np.testing.assert_allclose(flat(best), averages[iterations(best) - 1], rtol=1e-5)
    # What is resumed is the weights themselves.
    last = files.load_model(directory / "last.keras")
    np.testing.assert_allclose(flat(last), raw[-1], rtol=1e-6)
    found = evaluate(best, rich.load_data(), "validation", rich)["log_likelihood"]
    assert found == pytest.approx(-min(nll), rel=1e-5)
    # Two steps up to 0.01, and a cosine in seven steps down to 0.
    rates = [float(r) for r in column(directory, "learning_rate")]
    cosine = [0.005 * (1 + math.cos(math.pi * k / 7)) for k in (1, 4, 7)]
    np.testing.assert_allclose(rates, cosine, atol=1e-8)


@pytest.mark.slow
def test_a_rich_run_is_resumed_to_the_same(rich, rich_whole, tmp_path):
    # At the end of an epoch, where averages are shown, and within the next one.
    left = [3, 4]

    def interrupt(model):
        if left and iterations(model) == left[0]:
            left.pop(0)
            signal.raise_signal(signal.SIGINT)

    for i in range(2):
        with pytest.raises(progress.Interrupted):
            train(rich, tmp_path, interrupt, resume=i > 0)
    train(rich, tmp_path, resume=True)
    assert_same_end(rich_whole[0], tmp_path)
    seconds = [float(s) for s in column(tmp_path, "seconds")]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_a_run_without_validation_ends_with_the_averages(rich, tmp_path):
    raw = []
    settings = dataclasses.replace(rich, validation=0.0, epochs=1, patience=None)
    train(settings, tmp_path, lambda model: raw.append(flat(model)))
    average = 0.25 * raw[0] + 0.25 * raw[1] + 0.5 * raw[2]
    np.testing.assert_allclose(flat(files.load_model(tmp_path)), average, rtol=1e-5)


@pytest.mark.slow
def test_patience(settings, tmp_path):
    """Epochs after the second one are worse: training ends after two of them."""

    def spoil(model):
        if iterations(model) > 2 * STEPS:
            for v in model.trainable_variables:
                v.assign_add(tf.ones_like(v))

    patient = dataclasses.replace(settings, epochs=9, patience=2)
    report = train(patient, tmp_path, spoil)
    assert report["training"]["epochs"] == 4
    assert report["training"]["best_epoch"] == 2


@pytest.mark.slow
def test_an_end_by_patience_is_remembered(settings, tmp_path):
    impatient = {"epochs": 9, "learning_rate": 1e-9, "decay": "none", "patience": 1}
    patient = dataclasses.replace(settings, **impatient)
    report = train(patient, tmp_path)
    epochs = report["training"]["epochs"]
    said = []
    again = train(patient, tmp_path, resume=True, say=said.append)
    assert again["training"]["epochs"] == epochs
    assert again["results"] == report["results"]
    assert any("give more --patience" in line for line in said)
    more = dataclasses.replace(patient, patience=3)
    assert train(more, tmp_path, resume=True)["training"]["epochs"] > epochs


class Stopping(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        if iterations(self.model) == 2 * STEPS:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
def test_an_interrupt_during_validation(settings, whole, tmp_path):
    with pytest.raises(progress.Interrupted):
        train(settings, tmp_path, callbacks=[Stopping()])
    assert column(tmp_path, "epoch") == ["0", "1"]
    train(settings, tmp_path, resume=True)
    assert_same_end(whole, tmp_path)


@pytest.mark.slow
def test_the_row_of_an_interrupted_epoch_is_that_of_all_its_batches(
    settings, whole, tmp_path
):
    def interrupt(model):
        if iterations(model) == STEPS + 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(progress.Interrupted):
        train(settings, tmp_path, interrupt)
    train(settings, tmp_path, resume=True)
    for name in ("loss", "nll", "bits_per_dim"):
        assert column(tmp_path, name) == column(whole, name)


@pytest.mark.slow
@pytest.mark.parametrize("write", [2, 5, 7])
def test_a_process_that_vanished_while_writing(
    settings, whole, monkeypatch, tmp_path, write
):
    """Of settings, two rows and two models each epoch, and the state at its end."""
    replace, written = os.replace, []

    def vanish(source, target):
        written.append(Path(target).name)
        if len(written) == write:
            raise Vanished
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", vanish)
        with pytest.raises(Vanished):
            train(settings, tmp_path, save_every=0.0)
    assert len(written) == write
    train(settings, tmp_path, resume=True)
    assert_same_end(whole, tmp_path)


class Vanishing(keras.callbacks.Callback):
    """The process ends when the second epoch is over."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Vanished


@pytest.mark.parametrize("saved", fast_and_slow([True, False], True))
def test_a_run_whose_process_vanished(settings, whole, tmp_path, saved):
    with pytest.raises(Vanished):
        train(
            settings,
            tmp_path,
            callbacks=[Vanishing()],
            save_every=0.0 if saved else math.inf,
        )
    assert column(tmp_path, "epoch") == ["0", "1"]
    assert (tmp_path / "last.keras").exists() is saved
    if not saved:
        # To start anew would lose the best epoch.
        best = (tmp_path / "model.keras").read_bytes()
        with pytest.raises(ValueError, match=r"no .*last\.keras.*--resume-best"):
            training.prepare(settings, tmp_path, resume=True)
        assert (tmp_path / "model.keras").read_bytes() == best
    report = train(settings, tmp_path, resume=saved, resume_best=not saved)
    assert report["training"]["resumed"] is True
    assert_same_end(whole, tmp_path)


@pytest.mark.slow
def test_a_run_that_saved_nothing_starts_anew(settings, whole, tmp_path):
    shutil.copy(whole / "settings.json", tmp_path)
    lines = []
    report = train(settings, tmp_path, resume=True, say=lines.append)
    assert any("starts anew" in line for line in lines)
    assert report["training"]["resumed"] is False
    assert_same_end(whole, tmp_path)


def shift(by):
    """Spoils a model, by and by."""

    def move(model):
        for v in model.trainable_variables:
            v.assign(v + by)

    return move


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty", marks=pytest.mark.slow),
        pytest.param(
            "epoch,loss,val_nll\n0,2.0,nan\n", id="no number", marks=pytest.mark.slow
        ),
        pytest.param(
            "epoch,loss\n0,2.0\n", id="no such column", marks=pytest.mark.slow
        ),
    ],
)
def test_without_its_history_a_run_keeps_the_better_model(
    settings, short, tmp_path, text
):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    best = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "history.csv").unlink()
    if text is not None:
        (tmp_path / "history.csv").write_text(text)
    longer, lines = dataclasses.replace(settings, epochs=2), []
    report = train(longer, tmp_path, shift(0.5), resume=True, say=lines.append)
    lacks = any("history.csv lacks the rows of epoch 0" in line for line in lines)
    assert lacks is not bool(text)
    assert (tmp_path / "model.keras").read_bytes() == best
    assert report["training"]["epochs"] == 2
    assert report["training"]["best_epoch"] == 1


@pytest.mark.slow
def test_a_better_epoch_is_kept_without_the_history(settings, short, tmp_path):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    worse = files.load_model(tmp_path)
    shift(0.5)(worse)
    files.save_model(worse, tmp_path / "model.keras")
    (tmp_path / "history.csv").unlink()
    longer = dataclasses.replace(settings, epochs=2)
    report = train(longer, tmp_path, resume=True)
    assert report["training"]["best_epoch"] == 2


def test_a_damaged_or_missing_best_epoch(settings, short, tmp_path):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.keras"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.keras is damaged.*Delete it"):
        training.prepare(settings, tmp_path, resume=True)
    path.unlink()
    one = dataclasses.replace(settings, epochs=1)
    lines = []
    train(one, tmp_path, resume=True, say=lines.append)
    text = " ".join(lines)
    assert "model.keras is missing" in text and "nothing is left to train" in text
    assert "The model of the last epoch takes its place" in text
    # Not byte by byte: archives hold the second in which they were written.
    best, last = (
        keras.saving.load_model(tmp_path / name).get_weights()
        for name in ("model.keras", "last.keras")
    )
    np.testing.assert_equal(best, last)


@pytest.fixture
def python_handles_sigint():
    """What Python starts with, but not where its parent ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_acts_as_ever(python_handles_sigint):
    with pytest.raises(KeyboardInterrupt), progress.interrupts() as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        signal.raise_signal(signal.SIGINT)


def test_handlers_are_restored():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(n) for n in numbers]
    with pytest.raises(Vanished), progress.interrupts():
        during = [signal.getsignal(n) for n in numbers]
        assert before[0] not in during and before[1] not in during
        raise Vanished
    assert [signal.getsignal(n) for n in numbers] == before


def test_handlers_are_left_alone_in_another_thread():
    seen = []

    def enter():
        with progress.interrupts() as interrupted:
            seen.append((signal.getsignal(signal.SIGINT), interrupted.is_set()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGINT), False)]


# Resuming.


@pytest.mark.slow
def test_a_finished_run_goes_on(settings, short, whole, tmp_path):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    longer = dataclasses.replace(settings, epochs=3, temperature=0.5)
    report = train(longer, tmp_path, resume=True)
    assert report["training"]["epochs"] == 3
    assert report["settings"]["temperature"] == 0.5
    assert column(tmp_path, "epoch") == ["0", "1", "2"]
    assert column(tmp_path, "learning_rate") == column(whole, "learning_rate")
    # The first rate is the same whatever the number of epochs: so is the result.
    for name in ("last.keras", "model.keras"):
        assert_same_up_to_rounding(variables(whole / name), variables(tmp_path / name))
    # There is nothing left to do for the same number or for fewer.
    before = (tmp_path / "history.csv").read_text()
    again = train(longer, tmp_path, resume=True)
    assert again["results"] == report["results"]
    assert again["training"]["best_epoch"] == report["training"]["best_epoch"]
    assert (tmp_path / "history.csv").read_text() == before


@pytest.mark.slow
def test_a_later_epoch_is_kept_only_if_it_is_better(settings, short, tmp_path):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    best = (tmp_path / "model.keras").read_bytes()

    def spoil(model):
        for v in model.trainable_variables:
            v.assign(v + 0.5)

    longer = dataclasses.replace(settings, epochs=2)
    report = train(longer, tmp_path, spoil, resume=True)
    nll = [float(v) for v in column(tmp_path, "val_nll")]
    assert nll[0] < nll[1]
    assert report["training"]["best_epoch"] == 1
    assert (tmp_path / "model.keras").read_bytes() == best


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.02}, r"learning_rate=0.01 \(now 0.02\)"),
        ({"batch_size": 8}, r"batch_size=16 \(now 8\)"),
        ({"flow_options": {"layers": 4}}, "flow_options"),
        ({"seed": 0, "jit": True}, r"seed=1 \(now 0\), jit=None \(now True\)"),
    ],
)
def test_resuming_with_other_settings(settings, whole, changes, message):
    with pytest.raises(ValueError, match=message):
        training.prepare(dataclasses.replace(settings, **changes), whole, resume=True)


def test_the_directory(settings, whole, tmp_path):
    with pytest.raises(FileExistsError, match="not empty"):
        training.prepare(settings, whole)
    with pytest.raises(ValueError, match="exclude each other"):
        training.prepare(settings, whole, resume=True, overwrite=True)
    with pytest.raises(FileNotFoundError, match="no run in"):
        training.prepare(settings, tmp_path / "nothing", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        training.prepare(settings, tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"data": "moons"}', '{"x": 1}'])
def test_damaged_settings(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        files.read_settings(tmp_path)


# Divergence.


def ruin(model):
    for v in model.trainable_variables:
        v.assign(np.full(v.shape, np.nan))


def test_divergence_keeps_what_was_good(settings, short, tmp_path):
    shutil.copytree(short, tmp_path, dirs_exist_ok=True)
    good = {n: (tmp_path / n).read_bytes() for n in ("model.keras", "last.keras")}

    def explode(model):
        if iterations(model) == STEPS + 2:
            ruin(model)

    with pytest.raises(
        FloatingPointError,
        match=r"the loss became nan .*learning rate",
    ):
        train(settings, tmp_path, explode, resume=True)
    assert good == {n: (tmp_path / n).read_bytes() for n in good}
    assert column(tmp_path, "epoch") == ["0"]


def test_divergence_stops_within_an_epoch(settings, tmp_path):
    def explode(model):
        ruin(model)

    # 26 batches in an epoch.
    run = training.prepare(dataclasses.replace(settings, batch_size=2), tmp_path)
    with pytest.raises(FloatingPointError):
        training.carry_out(run, callbacks=[Acting(explode)], verbose=0)
    assert 1 <= iterations(run.model) < 26


@pytest.mark.slow
def test_an_interrupt_does_not_save_what_has_diverged(settings, tmp_path):
    def explode(model):
        if iterations(model) == 2:
            ruin(model)
        if iterations(model) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(FloatingPointError):
        train(settings, tmp_path, explode)
    assert not (tmp_path / "last.keras").exists()


@pytest.mark.slow
def test_a_last_step_that_diverges_is_noticed(settings, tmp_path):
    # The loss of every batch was finite: only the validation tells.
    def explode(model):
        if iterations(model) == STEPS:
            ruin(model)

    with pytest.raises(FloatingPointError):
        train(dataclasses.replace(settings, epochs=1), tmp_path, explode)
    assert not (tmp_path / "model.keras").exists()


def test_weights_that_the_loss_does_not_show_are_not_saved(settings, tmp_path):
    def hide(model):
        # A rectified layer can make 0 of NaN.
        v = model.trainable_variables[0]
        v.assign(np.full(v.shape, np.nan))

    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        train(settings, tmp_path, hide)
    assert not {"model.keras", "last.keras"} & {p.name for p in tmp_path.iterdir()}


# Pictures of awkward data.


@pytest.mark.slow
def test_rare_values_are_met_before_the_first_step(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((300, 3))
    # Two rows in 300: hardly one of them is in a first batch of 16.
    x[:, 1] = np.arange(300) % 150 == 7
    np.save(tmp_path / "x.npy", x)
    settings = Settings.suited(
        str(tmp_path / "x.npy"),
        "real_nvp",
        flow_options={"layers": 2, "width": 8, "depth": 1},
        epochs=1,
        batch_size=16,
        validation=0.0,
    )
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(settings, tmp_path / "run", say=lines.append)
    assert any("of two values" in line for line in lines)
    # In the first batch the column is constant, and of whole numbers: no second word.
    assert not [w for w in caught if issubclass(w.category, DataWarning)]
    # A deviation of 0 in the first batch would make it 1e9 and more.
    assert float(column(tmp_path / "run", "loss")[0]) < 100


@pytest.mark.parametrize("gains", [False, True])
def test_a_fitted_start_stays_unless_training_gains(tmp_path, gains):
    """Of few rows some epoch always looks better; of many, better is better."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 3))
    if gains:
        angle = draw.uniform(0, np.pi, 1500)
        x = np.stack([np.cos(angle), np.sin(angle)], 1)
        x += 0.02 * draw.standard_normal(x.shape)
    np.save(tmp_path / "x.npy", x)
    base = {"name": "fitted_mixture", "components": 1}
    settings = Settings.suited(
        str(tmp_path / "x.npy"),
        "neural_spline_flow",
        flow_options={"base": base, "layers": 2, "width": 16},
        epochs=8 if gains else 2,
        learning_rate=5e-3,
    )
    lines = []
    report = train(settings, tmp_path / "run", say=lines.append)
    gain = report["training"]["gain"]
    assert (gain["mean"] > 2 * gain["standard_error"]) is gains
    assert (report["training"]["best_epoch"] > 0) is gains
    said = [line for line in lines if "the mixture that it began with" in line]
    assert bool(said) is not gains
    kept = files.load_model(tmp_path / "run" / files.MODEL)
    source = settings.load_data()
    rows = source.arrays("train")[0]
    # One Gaussian, before training.
    gaussian = stats.multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True))
    difference = kept.flow.log_prob(rows) - gaussian.logpdf(rows)
    assert (np.abs(difference).max() < 1e-3) is not gains
    if not gains:
        # More epochs go on from where training stopped.
        settings = dataclasses.replace(settings, epochs=3)
        again = train(settings, tmp_path / "run", resume=True)
        assert again["training"]["epochs"] == 3


def test_images_that_no_picture_shows_are_written_as_numbers(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (40, 2, 2, 5), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    settings = Settings.suited(
        str(tmp_path / "x.npy"),
        "nice",
        flow_options={"layers": 2, "width": 4, "depth": 1},
        epochs=1,
    )
    lines = []
    train(settings, tmp_path / "run", say=lines.append)
    assert any(line.startswith("samples.png cannot be drawn") for line in lines)
    assert np.load(tmp_path / "run" / "samples.npy").shape == (100, 2, 2, 5)


@pytest.mark.slow
def test_few_points_in_the_test_split(settings, tmp_path):
    x = datasets.TOYS["moons"].sample(12, 0)
    np.savez(tmp_path / "few.npz", train=x[:10], validation=x[10:11], test=x[11:])
    settings = dataclasses.replace(
        settings, data=str(tmp_path / "few.npz"), epochs=1, batch_size=10
    )
    report = train(settings, tmp_path / "run", pictures=True)
    assert report["results"]["examples"] == 1
    assert report["results"]["standard_error"] == 0
    assert (tmp_path / "run" / "density.png").stat().st_size > 1000


def test_versions():
    found = training.versions()
    assert found["keras"] == keras.__version__
    assert found["tfp_flows"] == tfp_flows.__version__
    assert found["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("flow", "options"),
    [
        (
            "flow_plus_plus",
            {
                "dequantize": {"name": "variational", "layers": 1, "depth": 1},
                "layers": 1,
                "components": 1,
                "depth": 1,
                "heads": 0,
            },
        ),
        ("residual_flow", {"layers": 1, "log_det": "roulette"}),
    ],
)
@pytest.mark.slow
def test_estimated_densities_are_averaged(tmp_path, monkeypatch, flow, options):
    """Their report says how far off the estimate is, and repeats itself."""
    options = {"width": 4, **options}
    monkeypatch.setattr(training, "draw_pictures", lambda *arguments: ())
    settings = Settings.suited(
        "digits", flow, flow_options=options, epochs=1, batch_size=512
    )
    results = training.train(settings, tmp_path / "run", verbose=0)["results"]
    model = files.load_model(tmp_path / "run")
    again = evaluate(model, settings.load_data(), "test", settings)
    assert again == results
    if flow == "residual_flow":
        assert 0 < results["estimator_standard_error"] < results["standard_error"]
        assert "log_likelihood_unit" in results
    else:
        # Probabilities of integers: none is above 1, nor is there another unit.
        assert results["log_likelihood"] < 0
        assert "log_likelihood_unit" not in results
    assert results["bits_per_dim"] < 8


def test_images_warm_up_in_at_most_a_tenth_of_the_steps():
    class Source:
        def steps(self, split, batch_size):
            return 20

    def steps(shape, **given):
        source = Source()
        source.event_shape = shape
        return training._warmup_steps(Settings("digits", "glow", **given), source)

    assert steps((8, 8, 1), epochs=100) == 100
    assert steps((8, 8, 1), epochs=10) == 20
    assert steps((8, 8, 1), epochs=10, epoch_steps=5) == 5
    assert steps((8,), epochs=100) == steps((8, 8, 1), warmup=1.0) == 0
    assert steps((8, 8, 1), recipe="paper") == 0
