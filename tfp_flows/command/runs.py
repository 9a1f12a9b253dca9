"""A training run and its directory: settings, model, history, pictures and report."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows import datasets, flows, plots
from tfp_flows._version import __version__
from tfp_flows.distributions import (
    VariationalDequantization,
    log_prob_and_standard_error,
)
from tfp_flows.training import FlowModel, FusedAdam

__all__ = [
    "Settings",
    "Training",
    "evaluate",
    "load_model",
    "read_settings",
    "sample",
    "versions",
]

MODEL = "model.keras"
LAST = "last.keras"
HISTORY = "history.csv"
REPORT = "report.json"
SETTINGS = "settings.json"

# Everything that a run writes.
_FILES = (SETTINGS, HISTORY, LAST, MODEL, "loss.png", "samples.png", "samples.npy")
_FILES += ("density.png", REPORT)

# Random numbers for each example, where a density is an estimate.
_DRAWS = 16

# Seconds between two savings of the state that `resume` continues from.
_SAVE_EVERY = 60.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines the result of a run.

    Attributes:
      data: what `tfp_flows.datasets.load` takes, as text.
      flow: name of a ready flow.
      flow_options: its keyword arguments, those that follow from the data left out.
      conditional: whether labels are the context.
      epochs: passes over the training data.
      batch_size: examples in a batch.
      learning_rate: Adam's at the start; it falls to 0 along a cosine, epoch by epoch.
      clip_norm: bound on the norm of the gradient, or `None`.
      validation: fraction of the training data held out to choose the best epoch by,
        where the data bring no validation split.
      temperature: of the samples that are drawn at the end.
      seed: of weights, noise and order.
      jit: whether XLA compiles the training step.
      data_dir: where TensorFlow Datasets keeps its data, or `None` for its default.
    """

    data: str
    flow: str
    flow_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    conditional: bool = False
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    clip_norm: float | None = None
    validation: float = 0.1
    temperature: float = 1.0
    seed: int = 0
    jit: bool = False
    data_dir: str | None = None

    def load_data(self) -> datasets.DataSource:
        """The data of the run, in the same splits every time."""
        return datasets.load(
            self.data,
            data_dir=self.data_dir,
            validation=self.validation,
            seed=self.seed,
        )


class Interrupted(Exception):
    """Training was interrupted; what it had reached is saved."""


class Training:
    """Trains a ready flow and writes all there is to know about it to a directory.

    * `model.keras`: the model of the epoch with the best validation likelihood (the
      last epoch if there are no validation data)
    * `last.keras`: the state that `resume` continues from, optimizer included
    * `history.csv`, `loss.png`: what Keras reported for each epoch
    * `samples.png` for images, `density.png` for data in the plane, `samples.npy` for
      vectors
    * `settings.json`, `report.json`: how to repeat the run, and its results

    Building it loads the data, builds or loads the model and writes nothing.

    Args:
      settings: what to train, on what, and how.
      directory: where to write.
      resume: whether to continue a run that is there. Its settings must be the same,
        but for `epochs`: then the learning rate follows the new number.
      overwrite: whether to delete a run that is there.

    Raises:
      FileExistsError: if there is a run in the directory and neither `resume` nor
        `overwrite` is true.
      FileNotFoundError: if there is none to resume.
      ValueError: if data, flow or settings are wrong.
    """

    def __init__(
        self,
        settings: Settings,
        directory: str | os.PathLike,
        *,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.settings, self.directory = settings, Path(directory)
        self._overwrite = overwrite
        _check_directory(self.directory, settings, resume, overwrite)
        keras.utils.set_random_seed(settings.seed)
        self.source = settings.load_data()
        for split in ("train", "test"):
            self.source.steps(split, settings.batch_size)
        self._resumed = resume and (self.directory / LAST).exists()
        self.model = (
            load_model(self.directory / LAST)
            if self._resumed
            else _build(settings, self.source)
        )

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return int(sum(np.prod(v.shape) for v in self.model.trainable_variables))

    def run(self, command: str = "", verbose: int = 1) -> dict[str, Any]:
        """Trains, and writes the directory.

        An interrupt (Ctrl-C, SIGTERM) waits for the batch at hand, saves `last.keras`
        and raises `Interrupted`. A run that was interrupted and resumed takes the same
        steps as one that was not.

        Args:
          command: for the report.
          verbose: as for `keras.Model.fit`.

        Returns:
          The content of `report.json`.

        Raises:
          FloatingPointError: if the loss becomes NaN or infinite.
          Interrupted: on Ctrl-C.
        """
        settings, source, directory = self.settings, self.source, self.directory
        if self._overwrite:
            _delete_run(directory)
        directory.mkdir(parents=True, exist_ok=True)
        _write_json(directory / SETTINGS, dataclasses.asdict(settings))

        start = time.perf_counter()
        _fit(self.model, settings, source, directory, verbose)
        seconds = time.perf_counter() - start
        if source.sizes["validation"]:
            self.model = load_model(directory / MODEL)
        else:
            shutil.copyfile(directory / LAST, directory / MODEL)

        history = _read_history(directory / HISTORY)
        is_image = len(source.event_shape) == 3
        x = sample(
            self.model,
            100 if is_image else 10_000,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        report = {
            "command": command,
            "settings": dataclasses.asdict(settings),
            "versions": versions(),
            "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
            "data": {
                "name": source.name,
                "event_shape": list(source.event_shape),
                "bounds": source.bounds,
                "num_classes": source.num_classes,
                "sizes": source.sizes,
            },
            "parameters": self.parameters,
            "training": {
                "epochs": len(history["epoch"]),
                "best_epoch": _best_epoch(history),
                "seconds": round(seconds, 1),
                "resumed": self._resumed,
            },
            "results": evaluate(self.model, source, "test", settings),
            "samples": {"drawn": len(x), "finite": int(finite.sum())},
        }
        _write_json(directory / REPORT, report)
        plots.history(history, path=directory / "loss.png")
        _draw(self.model.flow, source, x[finite], directory)
        return report


def evaluate(
    model: FlowModel,
    source: datasets.DataSource,
    split: str = "test",
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Likelihood of a split under a model.

    Args:
      model: model of a flow over the events of `source`.
      source: data; their labels are the context of a model that takes one.
      split: "train", "validation" or "test".
      settings: for the size of batches and the seed of the dequantisation.

    Returns:
      `log_likelihood` (mean, nats per example, of the data as stored), its
      `standard_error`, `bits_per_dim`; for bounded data also `log_likelihood_unit`,
      with values scaled to [0, 1]; for a toy also the exact `kl` from the data's
      density to the model's, in nats, and its `kl_standard_error`. Where the model's
      density is an estimate, it is averaged over 16 draws, and what their randomness
      adds to the error of the mean is the `estimator_standard_error`. A
      `VariationalDequantization` gives the log-probability of integers, as its bound
      with 16 samples, and has no `log_likelihood_unit`.

    Raises:
      ValueError: if data do not fit the model.
    """
    batch_size = settings.batch_size if settings else 128
    if tuple(model.flow.event_shape) != source.event_shape:
        raise ValueError(
            f"{source.name} has examples of shape {list(source.event_shape)}, but the "
            f"model is over {list(model.flow.event_shape)}."
        )
    classes = _num_classes(model)
    if classes and (source.num_classes or 0) > classes:
        raise ValueError(
            f"{source.name} has labels of {source.num_classes} classes, but the model "
            f"knows {classes}."
        )
    batches = source.dataset(
        split,
        batch_size,
        labels=classes is not None,
        seed=settings.seed if settings else 0,
    )
    log_q, errors = _log_probs(model, batches)
    size = math.prod(source.event_shape)
    results = {
        "split": split,
        "examples": len(log_q),
        "log_likelihood": float(log_q.mean()),
        "standard_error": _standard_error(log_q),
        "bits_per_dim": float(-log_q.mean() / (size * math.log(2.0))),
    }
    if errors is not None:
        results["estimator_standard_error"] = float(
            np.sqrt(np.square(errors).sum()) / len(errors)
        )
    if source.bounds and not isinstance(model.flow, VariationalDequantization):
        unit = size * math.log(source.bounds[1] - source.bounds[0])
        results["log_likelihood_unit"] = results["log_likelihood"] + unit
    toy = datasets.TOYS.get(source.name)
    if toy is not None and toy.log_prob is not None:
        difference = toy.log_prob(source.arrays(split)[0]) - log_q
        results["kl"] = float(difference.mean())
        results["kl_standard_error"] = _standard_error(difference)
    return results


def _log_probs(model: FlowModel, batches) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-densities, with their standard errors if they are estimates."""
    flow = model.flow
    if "seed" not in getattr(flow, "keywords", ()):
        return np.asarray(model.predict(batches, verbose=0), np.float64), None

    @tf.function(reduce_retracing=True, autograph=False)
    def estimate(x, context, seed):
        x = tf.cast(x, flow.dtype)
        if isinstance(flow, VariationalDequantization):
            keywords = {} if context is None else {"context": context}
            log_q = flow.log_prob(x, seed=seed, samples=_DRAWS, **keywords)
            return log_q, None
        return log_prob_and_standard_error(flow, x, context, _DRAWS, seed)

    found = [
        estimate(
            *(batch if isinstance(batch, tuple) else (batch, None)),
            tf.constant([0, i], tf.int32),
        )
        for i, batch in enumerate(batches)
    ]
    log_q, errors = zip(*found, strict=True)
    errors = None if errors[0] is None else np.concatenate(errors).astype(np.float64)
    return np.concatenate(log_q).astype(np.float64), errors


def sample(
    model: FlowModel,
    n: int,
    *,
    temperature: float = 1.0,
    label: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draws from a model; of a class-conditional one all classes in turn, or one.

    Returns:
      Data `[n, *event_shape]`.

    Raises:
      ValueError: if a label is given to a model without classes or is not one of them,
        or if the model takes a context that is no label.
    """
    keywords = {}
    classes = _num_classes(model)
    if classes is not None:
        if label is not None and not 0 <= label < classes:
            raise ValueError(f"label must be from 0 to {classes - 1}, got {label}.")
        labels = np.arange(n) % classes if label is None else np.full(n, label)
        keywords["context"] = labels.astype(np.int32)
    elif label is not None:
        raise ValueError(f"label {label} was given, but the model has no classes.")
    shape = () if keywords else (n,)
    return model.flow.sample(
        shape, seed=seed, temperature=temperature, **keywords
    ).numpy()


def _num_classes(model: FlowModel) -> int | None:
    """Number of labels of a class-conditional model, `None` of an unconditional one.

    Raises:
      ValueError: if the model takes a context that is no label.
    """
    flow = model.flow
    if flow.context_shape is None:
        return None
    classes = (flow.config or {}).get("num_classes")
    if classes is None:
        raise ValueError(
            f"the model takes contexts of shape {list(flow.context_shape)}, not "
            "labels: use it in Python, where flow.sample and flow.log_prob take "
            "context=..."
        )
    return classes


def load_model(path: str | os.PathLike) -> FlowModel:
    """Loads a model from its file or from the directory of its run.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged or holds something else.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL
    if not path.is_file():
        raise FileNotFoundError(f"there is no model {path}.")
    try:
        model = keras.models.load_model(path)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged or no model file: {reason}") from error
    if not isinstance(model, FlowModel):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, not a tfp_flows.FlowModel."
        )
    return model


def read_settings(directory: str | os.PathLike) -> Settings:
    """The settings of a run.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if its settings cannot be read.
    """
    path = Path(directory) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"there is no run in {directory} (no {SETTINGS}).")
    try:
        return Settings(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    libraries = ("tensorflow", "tensorflow-probability", "keras", "numpy")
    return {
        "python": platform.python_version(),
        "tfp_flows": __version__,
        **{name: metadata.version(name) for name in libraries},
    }


# Training.


def _build(settings: Settings, source: datasets.DataSource) -> FlowModel:
    options = dict(settings.flow_options)
    if settings.conditional:
        if source.num_classes is None:
            raise ValueError(
                f"a conditional flow needs labels, and {source.name} has none."
            )
        options["num_classes"] = source.num_classes
    if source.bounds:
        options["bounds"] = source.bounds
    elif options.get("alpha") is not None:
        raise ValueError(
            f"alpha is for data with bounds, such as 8-bit images; {source.name} has "
            "none."
        )
    elif len(source.event_shape) == 1:
        options.setdefault("normalize", True)
    build = getattr(flows, settings.flow)
    model = FlowModel(build(source.event_shape, seed=settings.seed, **options))
    model.compile(
        FusedAdam(settings.learning_rate, global_clipnorm=settings.clip_norm),
        jit_compile=settings.jit,
    )
    return model


def _fit(model, settings, source, directory, verbose):
    """Runs the epochs that are left; the optimizer's count says which they are."""
    steps = source.steps("train", settings.batch_size)
    batches = {"batch_size": settings.batch_size, "labels": settings.conditional}
    validation = None
    if source.sizes["validation"]:
        validation = source.dataset("validation", seed=settings.seed, **batches)
    epoch, done = divmod(int(model.optimizer.iterations), steps)
    _drop_rows(directory / HISTORY, epoch)
    callbacks = [
        keras.callbacks.LearningRateScheduler(
            lambda i, _: (
                settings.learning_rate
                * 0.5
                * (1 + math.cos(math.pi * i / settings.epochs))
            )
        ),
        _Diverged(),
        keras.callbacks.CSVLogger(directory / HISTORY, append=True),
    ]
    if validation is not None:
        callbacks.append(_SaveBest(directory))
    with _interrupts() as interrupted:
        callbacks.append(_SaveLast(directory / LAST, steps, interrupted))
        while epoch < settings.epochs:
            # What an interrupted epoch has left is an epoch of its own.
            until = epoch + 1 if done else settings.epochs
            data = source.dataset(
                "train",
                shuffle=True,
                seed=settings.seed,
                epochs=until,
                initial_epoch=epoch,
                **batches,
            )
            model.fit(
                data.skip(done),
                initial_epoch=epoch,
                epochs=until,
                steps_per_epoch=steps - done,
                validation_data=validation,
                callbacks=callbacks,
                # The dataset does it; otherwise Keras warns that it cannot.
                shuffle=False,
                verbose=verbose,
            )
            epoch, done = until, 0
    _save(model, directory / LAST)


class _Diverged(keras.callbacks.Callback):
    """Stops where a loss is no number, before a later callback saves the weights."""

    def on_train_batch_end(self, batch, logs=None):
        # Keras shows the mean over the epoch so far: it stays NaN once it is.
        if batch % 20 == 0:
            _check_loss(logs)

    def on_epoch_end(self, epoch, logs=None):
        _check_loss(logs)


def _check_loss(logs: Mapping[str, float]) -> None:
    # An outlier can make a validation loss infinite. NaN is what a last step that
    # diverged leaves: the loss of its batch was that before the step.
    if not math.isfinite(logs["loss"]) or math.isnan(logs.get("val_loss", 0.0)):
        raise FloatingPointError(
            "the loss has become NaN or infinite: train with a lower learning rate or "
            "with a bound on the gradient's norm."
        )


class _SaveBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest validation nll."""

    def __init__(self, directory: Path):
        super().__init__()
        self.directory = directory
        self.best = None

    def on_train_begin(self, logs=None):
        history = _read_history(self.directory / HISTORY)
        if self.best is None and history["epoch"]:
            self.best = min(history["val_nll"])

    def on_epoch_end(self, epoch, logs=None):
        if self.best is None or logs["val_nll"] < self.best:
            self.best = logs["val_nll"]
            _save(self.model, self.directory / MODEL)


class _SaveLast(keras.callbacks.Callback):
    """Saves the state from time to time, and when there was an interrupt."""

    def __init__(self, path: Path, steps: int, interrupted: threading.Event):
        super().__init__()
        self.path, self.steps, self.interrupted = path, steps, interrupted
        self.saved = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        # The last batch of an epoch is followed by its validation and row of history.
        if self.interrupted.is_set() and self.model.optimizer.iterations % self.steps:
            _check_loss(logs)
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self.interrupted.is_set():
            self._stop()
        if time.monotonic() - self.saved > _SAVE_EVERY:
            _save(self.model, self.path)
            self.saved = time.monotonic()

    def _stop(self):
        _save(self.model, self.path)
        raise Interrupted(f"interrupted; {self.path} holds what was reached")


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one acts as ever."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        event.set()
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, note)
    try:
        yield event
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


# Files.


def _check_directory(directory, settings, resume, overwrite):
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other.")
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"{directory} is a file, not a directory.")
    if resume:
        found = read_settings(directory)
        ours, theirs = dataclasses.asdict(settings), dataclasses.asdict(found)
        different = [
            f"{k}={theirs[k]!r} (now {ours[k]!r})"
            for k in ours
            # Where the data lie may change, and how long to train.
            if k not in ("epochs", "data_dir", "temperature") and ours[k] != theirs[k]
        ]
        if different:
            raise ValueError(
                f"the run in {directory} has other settings: {', '.join(different)}."
            )
    elif not overwrite and directory.exists() and any(directory.iterdir()):
        raise FileExistsError(
            f"{directory} is not empty: choose another directory, or continue "
            "(--resume) or replace (--overwrite) the run."
        )


def _delete_run(directory: Path) -> None:
    """Deletes the files that a run writes, and no others."""
    for name in (*_FILES, _partial(LAST), _partial(MODEL)):
        (directory / name).unlink(missing_ok=True)


def _save(model: FlowModel, path: Path) -> None:
    """Saves a model such that the file is whole at any time."""
    partial = path.with_name(_partial(path.name))
    model.save(partial)
    os.replace(partial, path)


def _partial(name: str) -> str:
    return f".partial-{name}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _read_history(path: Path) -> dict[str, list[float]]:
    """Columns of a history file; only an empty `epoch` if there is none."""
    if not path.exists():
        return {"epoch": []}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Keras fills columns of a validation that there was not with NA.
    names = [k for k in rows[0] if rows[0][k] != "NA"] if rows else ["epoch"]
    return {k: [float(row[k]) for row in rows] for k in names}


def _drop_rows(path: Path, epoch: int) -> None:
    """Drops the rows of epochs that will be run again."""
    if not path.exists():
        return
    header, *rows = path.read_text().splitlines(keepends=True) or [""]
    column = header.strip().split(",").index("epoch") if header else 0
    kept = [row for row in rows if int(row.split(",")[column]) < epoch]
    path.write_text("".join([header, *kept]) if kept else "")


def _best_epoch(history: Mapping[str, Sequence[float]]) -> int:
    """Number of the epoch, counted from 1, whose model was kept."""
    if "val_nll" not in history:
        return len(history["epoch"])
    return 1 + int(history["epoch"][int(np.argmin(history["val_nll"]))])


def _draw(flow, source, samples, directory):
    """The pictures, or the numbers, of what a flow has learnt."""
    if len(source.event_shape) == 3:
        if len(samples):
            path = directory / "samples.png"
            plots.images(samples, columns=10, bounds=source.bounds, path=path)
        return
    if source.event_shape == (2,) and flow.context_shape is None:
        toy = datasets.TOYS.get(source.name)
        points = source.arrays("test", limit=5000)[0]
        plots.density(
            flow.log_prob,
            bounds=_square(points),
            truth=toy and toy.log_prob,
            points=None if toy else points,
            path=directory / "density.png",
        )
    np.save(directory / "samples.npy", samples)


def _square(points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """A range for each axis that holds the points with a margin."""
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, 0.15 * (high - low), 1.0)
    return tuple(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _standard_error(values: np.ndarray) -> float:
    return (
        float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    )
