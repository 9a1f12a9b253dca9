"""Training runs that can be interrupted and resumed, written to a directory."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from tfp_flows import datasets, flows
from tfp_flows._version import __version__
from tfp_flows.command import files, recipes, tables
from tfp_flows.command.evaluate import check_rows, evaluate, log_probs, sample
from tfp_flows.command.pictures import draw_pictures
from tfp_flows.command.progress import (
    ADVICE,
    GoOn,
    KeepBest,
    RunState,
    SaveLast,
    best_model,
    find_best,
    interrupts,
    is_over,
    save_finite,
)
from tfp_flows.command.settings import Settings
from tfp_flows.distributions import FittedMixture
from tfp_flows.training import (
    ConstantDataWarning,
    FlowMatching,
    FlowModel,
    FusedAdam,
    TrainingDiverged,
    WholeNumbersWarning,
    initialize,
)
from tfp_flows.training.averages import ShowAverages
from tfp_flows.training.data_checks import surface_of
from tfp_flows.training.fused_adam import suited_warmup
from tfp_flows.training.initialize import needs_initialization

__all__ = [
    "Prepared",
    "beside_recipe",
    "carry_out",
    "prepare",
    "train",
    "versions",
]

# What depends on data is set from so many numbers of a table, at least a batch.
_INITIAL_NUMBERS = 2**19


class Prepared(NamedTuple):
    """A run that can begin.

    Attributes:
      settings: what it is made of.
      directory: where it will write.
      source: its data.
      model: built, or loaded where it stopped.
      resume: whether it continues a run that is in the directory.
      overwrite: whether it replaces it.
      resumed: the file that the model was loaded from, `None` if it was built.
    """

    settings: Settings
    directory: Path
    source: datasets.DataSource
    model: FlowModel
    resume: bool
    overwrite: bool
    resumed: Path | None

    @property
    def steps(self) -> int:
        """Number of training steps in an epoch."""
        return _epoch_steps(self.settings, self.source)

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return int(sum(np.prod(v.shape) for v in self.model.trainable_variables))


def train(
    settings: Settings,
    directory: str | os.PathLike,
    *,
    resume: bool = False,
    resume_best: bool = False,
    overwrite: bool = False,
    command: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    save_every: float = 60.0,
    verbose: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains a ready flow and writes all there is to know about it to a directory.

    * `model.keras`: the model of the epoch with the best validation likelihood (the
      last epoch if there are no validation data)
    * `last.keras`: the state that `resume` continues from, optimizer included
    * `history.csv`, `loss.png`: what Keras reported for each epoch, and the seconds
      since the beginning, without those between an interrupt and a resumption
    * `samples.png` for images, `density.png` for data in the plane, `samples.npy` for
      vectors, `samples.csv` for tables with categories or declared integers
    * `settings.json`, `report.json`: how to repeat the run, and its results

    An interrupt (Ctrl-C, SIGTERM) waits for the batch at hand, saves `last.keras` and
    raises `Interrupted`. A run that was interrupted and resumed takes the same steps as
    one that was not, up to rounding, and to the same bits after
    `tf.config.threading.set_inter_op_parallelism_threads(1)`: TensorFlow adds gradients
    in an order that depends on which thread is first.

    Args:
      settings: what to train, on what, and how; see `Settings.suited`.
      directory: where to write.
      resume: whether to continue a run that is there. Its settings must be the same,
        but for `epochs`: then the learning rate follows the new number. So must be the
        data, wherever they lie now.
      resume_best: whether to continue it from its best epoch, `model.keras`.
      overwrite: whether to replace a run that is there. It stays until the new one has
        trained an epoch.
      command: for the report.
      callbacks: of Keras, which are called before those of the run.
      save_every: seconds between two savings of the state that `resume` continues
        from, at ends of epochs.
      verbose: as for `keras.Model.fit`.
      say: is given lines about what happens.

    Returns:
      The content of `report.json`.

    Raises:
      BlockingIOError: if another process trains in the directory.
      FileExistsError: if there is a run in the directory and neither `resume` nor
        `overwrite` is true.
      FileNotFoundError: if there is none to resume.
      FloatingPointError: if the loss becomes NaN or infinite.
      Interrupted: on Ctrl-C.
      ValueError: if data, flow or settings are wrong.
    """
    prepared = prepare(
        settings,
        directory,
        resume=resume,
        resume_best=resume_best,
        overwrite=overwrite,
    )
    return carry_out(
        prepared,
        command=command,
        callbacks=callbacks,
        save_every=save_every,
        verbose=verbose,
        say=say,
    )


def prepare(
    settings: Settings,
    directory: str | os.PathLike,
    *,
    resume: bool = False,
    resume_best: bool = False,
    overwrite: bool = False,
    source: datasets.DataSource | None = None,
) -> Prepared:
    """Loads data and builds or loads the model of `train`; writes nothing.

    Args:
      settings: see `train`.
      directory: likewise.
      resume: likewise.
      resume_best: likewise.
      overwrite: likewise.
      source: the data, if they are loaded already.

    Raises:
      FileExistsError, FileNotFoundError, ValueError: see `train`.
    """
    directory, resume = Path(directory), resume or resume_best
    settings.check_types()
    if settings.recipe is not None:
        recipes.find(settings.data, settings.flow, settings.recipe)
    files.check_directory(directory, resume, overwrite)
    if resume:
        before = files.read_settings(directory)
        _check_same_run(settings, before, directory)
    keras.utils.set_random_seed(settings.training_seed)
    source = settings.load_data() if source is None else source
    if resume:
        _check_same_data(source, before, directory)
    for split in ("train", "test"):
        source.steps(split, settings.batch_size)
    if settings.patience is not None and not source.sizes["validation"]:
        raise ValueError(
            f"patience={settings.patience} needs validation data to look at: give a "
            "validation fraction above 0."
        )
    resumed = None
    if resume:
        resumed = directory / (files.MODEL if resume_best else files.LAST)
        # A run that was interrupted before anything was saved starts anew.
        resumed = resumed if resume_best or _is_there(resumed) else None
        if resumed and not resume_best and source.sizes["validation"]:
            _check_best(directory / files.MODEL)
    model = _load(resumed) if resumed else _build(settings, source)
    for split in source.sizes:
        if source.sizes[split]:
            check_rows(model, source, split)
    return Prepared(settings, directory, source, model, resume, overwrite, resumed)


def carry_out(
    run: Prepared,
    *,
    command: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    save_every: float = 60.0,
    verbose: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains what `prepare` prepared; see `train`."""
    settings, source, directory = run.settings, run.source, run.directory
    with files.locked(directory):
        # Another process may have been here since.
        files.check_directory(directory, run.resume, run.overwrite)
        odd = tables.odd_columns(source)
        for line in (*_about_columns(odd), *_about_resuming(run)):
            say(line)
        start = time.perf_counter()
        with warnings.catch_warnings():
            if tables.is_table(source):
                # Said above, of all rows. Training would look at its first batch.
                for category in (ConstantDataWarning, WholeNumbersWarning):
                    warnings.simplefilter("ignore", category)
            _fit(run, callbacks, save_every, verbose, say)
            seconds = time.perf_counter() - start
            model, gain = _unless_by_chance(run, best_model(run, say), say)
        steps = run.steps
        history = files.History(directory / files.HISTORY).columns()
        x = sample(
            model,
            100 if len(source.event_shape) == 3 else 10_000,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        report: dict[str, Any] = {
            "command": command,
            "settings": dataclasses.asdict(settings),
            "versions": versions(),
            "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
            "data": {
                "name": source.name,
                "event_shape": list(source.event_shape),
                "bounds": list(source.bounds) if source.bounds else None,
                "num_classes": source.num_classes,
                "sizes": source.sizes,
                "categories": {k: list(v) for k, v in source.categories.items()},
                "integers": list(source.integers),
            },
            "parameters": run.parameters,
            "training": {
                "epochs": int(run.model.optimizer.iterations) // steps,
                "best_epoch": int(model.optimizer.iterations) // steps,
                "seconds": round(seconds, 1),
                "resumed": run.resumed is not None,
                **gain,
            },
            "results": evaluate(model, source, "test", settings),
            "samples": {"drawn": len(x), "finite": int(finite.sum())},
        }
        if settings.recipe is not None:
            report["recipe"] = beside_recipe(settings, report["results"])
        if tables.is_table(source):
            report["data"]["columns"] = odd
            # Densities per unit of a surface are beyond comparison.
            if surface_of(model.flow) is None:
                report["baselines"] = tables.baselines(source, settings.seed)
        files.write_json(directory / files.REPORT, report)
        for line in draw_pictures(model.flow, source, x[finite], history, directory):
            say(line)
    return report


def versions() -> dict[str, str]:
    """Finds the versions of Python and of the libraries that results depend on."""
    libraries = ("tensorflow", "tensorflow-probability", "keras", "numpy")
    return {
        "python": platform.python_version(),
        "tfp_flows": __version__,
        **{name: metadata.version(name) for name in libraries},
    }


def beside_recipe(settings: Settings, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe of a run publishes, and how far its results are from that."""
    recipe = recipes.find(settings.data, settings.flow, settings.recipe or "")
    return {
        "name": recipe.name,
        "source": recipe.source,
        "metric": recipe.metric,
        "published": recipe.published,
        "error": recipe.error,
        "difference": results[recipe.metric] - recipe.published,
    }


# Before.


def _check_same_run(settings: Settings, before: Settings, directory: Path) -> None:
    different = settings.differences(before)
    if different:
        raise ValueError(
            f"the run in {directory} has other settings: {', '.join(different)}."
        )


def _check_same_data(
    source: datasets.DataSource, before: Settings, directory: Path
) -> None:
    """Compares what the data are with what they were."""
    if before.fingerprint is None:
        return
    now = source.fingerprint()
    different = [
        f"{name} was {was} and is {now.get(name)}"
        for name, was in before.fingerprint.items()
        if name != "digest" and was != now.get(name)
    ]
    if not different and before.fingerprint.get("digest") != now["digest"]:
        different = ["their values have changed"]
    if different:
        raise ValueError(
            f"{source.name} are not the data of the run in {directory}: "
            f"{', '.join(different)}. Start another run with them."
        )


def _load(path: Path) -> FlowModel:
    try:
        return files.load_model(path)
    except ValueError as error:
        best = path.with_name(files.MODEL)
        if path.name == files.MODEL or not best.exists():
            raise
        raise ValueError(
            f"{error} Give --resume-best to continue from {best}, the best epoch."
        ) from error


def _is_there(last: Path) -> bool:
    """Whether there is a state to resume.

    Raises:
      ValueError: if only the best epoch is there, which must not be lost.
    """
    best = last.with_name(files.MODEL)
    if last.exists() or not best.exists():
        return last.exists()
    raise ValueError(
        f"there is no {last}. Give --resume-best to continue from {best}, the best "
        "epoch."
    )


def _check_best(path: Path) -> None:
    """Checks the model of the best epoch so far, if it is there."""
    if not path.exists():
        return
    try:
        files.check_model(path)
    except ValueError as error:
        raise ValueError(
            f"{error} Delete it to continue without it: the best of the epochs to come "
            "is kept."
        ) from error


def _about_resuming(run: Prepared) -> Iterator[str]:
    """What to say of a run that goes on otherwise than one expects."""
    if not run.resume:
        return
    if run.resumed is None:
        yield f"nothing was saved of the run in {run.directory}: it starts anew"
        return
    done = int(run.model.optimizer.iterations) // run.steps
    if done >= run.settings.epochs:
        yield (
            f"nothing is left to train, {done} epochs are done: give more --epochs to "
            "go on"
        )
        return
    history = files.History(run.directory / files.HISTORY)
    history.keep(done)
    if is_over(history, run.settings.patience):
        yield (
            f"nothing is left to train, the last {run.settings.patience} of {done} "
            "epochs were no better: give more --patience to go on"
        )


def _build(settings: Settings, source: datasets.DataSource) -> FlowModel:
    build = flows.READY.get(settings.flow)
    if build is None:
        raise ValueError(
            f"flow must be one of {', '.join(flows.READY)}, got {settings.flow!r}."
        )
    model = _model(
        settings,
        build(source.event_shape, seed=settings.training_seed, **settings.flow_options),
    )
    averages = settings.average is not None
    model.compile(
        FusedAdam(
            settings.learning_rate,
            warmup_steps=_warmup_steps(settings, source),
            global_clipnorm=settings.clip_norm,
            weight_decay=settings.weight_decay,
            use_ema=averages,
            ema_momentum=settings.average if averages else 0.99,
        ),
        jit_compile="auto" if settings.jit is None else settings.jit,
    )
    return model


def _model(settings: Settings, flow: Any) -> FlowModel:
    if settings.objective == "likelihood":
        return FlowModel(flow)
    try:
        return FlowMatching(flow, settings.pairing or "independent")
    except (TypeError, ValueError) as error:
        raise ValueError(f"objective='flow_matching': {error}") from error


def _epoch_steps(settings: Settings, source: datasets.DataSource) -> int:
    return settings.epoch_steps or source.steps("train", settings.batch_size)


def _warmup_steps(settings: Settings, source: datasets.DataSource) -> int:
    """What suits, but at most a tenth of all steps; none beside another warm-up."""
    if settings.recipe is not None or settings.warmup:
        return 0
    every = settings.epochs * _epoch_steps(settings, source)
    return min(suited_warmup(source.event_shape), every // 10)


# Training.


def _fit(
    run: Prepared,
    callbacks: Sequence[keras.callbacks.Callback],
    save_every: float,
    verbose: int,
    say: Callable[[str], None],
) -> None:
    """Runs the epochs that are left; the optimizer's count says which they are."""
    settings, source, model = run.settings, run.source, run.model
    steps = run.steps
    a_pass = source.steps("train", settings.batch_size)
    batches: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "labels": settings.conditional,
    }
    validation = None
    if source.sizes["validation"]:
        validation = source.dataset("validation", seed=settings.seed, **batches)
    epoch, done = divmod(int(model.optimizer.iterations), steps)
    state = RunState(run, epoch)
    if run.resumed is not None and validation is not None:
        find_best(state, validation, say)
    _initialize(model, source, settings)
    averages = ShowAverages()
    averages.set_model(model)
    callbacks = [averages, *callbacks, _rate(run), KeepBest(state)]
    if done and run.resumed is not None:
        progress = files.read_progress(run.resumed)
        state.go_on(progress)
        callbacks.append(GoOn(progress))
    with interrupts() as interrupted:
        callbacks.append(SaveLast(state, steps, save_every, interrupted, averages))
        while epoch < settings.epochs and not state.is_over():
            # What an interrupted epoch has left is an epoch of its own.
            until = epoch + 1 if done else settings.epochs
            first, skipped = divmod(epoch * steps + done, a_pass)
            data = source.dataset(
                "train",
                shuffle=True,
                seed=settings.training_seed,
                epochs=-(-until * steps // a_pass),
                initial_epoch=first,
                **batches,
            )
            _fit_or_stop(
                model,
                data.skip(skipped),
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
    with averages.hidden():
        save_finite(model, run.directory / files.LAST)
    averages.show()


def _rate(run: Prepared) -> keras.callbacks.Callback:
    """What sets the learning rate: by epoch a callback, by step a schedule."""
    settings, rate = run.settings, run.settings.learning_rate
    schedules = keras.optimizers.schedules
    rising, total = round(settings.warmup * run.steps), settings.epochs * run.steps
    if settings.decay == "epoch":
        return keras.callbacks.LearningRateScheduler(
            lambda i, _: rate * 0.5 * (1 + math.cos(math.pi * i / settings.epochs))
        )
    if settings.decay == "step":
        schedule = schedules.CosineDecay(
            0.0 if rising else rate,
            total - rising,
            warmup_target=rate if rising else None,
            warmup_steps=rising,
        )
    elif rising:
        schedule = schedules.PolynomialDecay(0.0, rising, rate)
    else:
        return keras.callbacks.Callback()
    # Also that of a model that was loaded: there may be another number of epochs now.
    run.model.optimizer.learning_rate = schedule
    return keras.callbacks.Callback()


def _fit_or_stop(model: FlowModel, data: Any, **options: Any) -> None:
    try:
        model.fit(data, **options)
    except TrainingDiverged as error:
        raise FloatingPointError(f"{error.what}: {ADVICE}.") from error


def _initialize(
    model: FlowModel, source: datasets.DataSource, settings: Settings
) -> None:
    """Sets what depends on data from many rows of a table.

    A rare value would be missing from a first batch. Of images, `fit` takes a batch.
    """
    if not tables.is_table(source) or not needs_initialization(model.flow):
        return
    rows = max(settings.batch_size, _INITIAL_NUMBERS // source.event_shape[0])
    batch = next(
        iter(
            source.dataset(
                "train",
                min(rows, source.sizes["train"]),
                labels=settings.conditional,
                shuffle=True,
                seed=settings.training_seed,
            )
        )
    )
    x, context = batch if isinstance(batch, tuple) else (batch, None)
    initialize(model.flow, x, context)


# After.


def _unless_by_chance(
    run: Prepared, model: FlowModel, say: Callable[[str], None]
) -> tuple[FlowModel, dict[str, Any]]:
    """What a run ends with, and by how much it surpasses what it began with.

    A flow that began as a fitted mixture is a density of the data before it is trained.
    Of few held-out rows some epoch always looks better; the mixture stays unless the
    gain, row by row, is two standard errors.
    """
    settings, source = run.settings, run.source
    is_fitted = isinstance(getattr(model.flow, "distribution", None), FittedMixture)
    held_out = source.sizes["validation"]
    if not is_fitted or not tables.is_table(source) or held_out < 2:
        return model, {}
    # As `prepare` made it: seeds are the same.
    start = _build(settings, source)
    _initialize(start, source, settings)
    start.optimizer.build(start.trainable_variables)
    before, after = (
        log_probs(m, source, "validation", settings)[0] for m in (start, model)
    )
    if not np.isfinite(before).all():
        return model, {}
    gain, error = float(np.mean(after - before)), tables.standard_error(after - before)
    found = {"gain": {"mean": gain, "standard_error": error}}
    if gain > 2 * error:
        return model, found
    files.save_model(start, run.directory / files.MODEL)
    say(
        f"on {held_out} held-out rows training has gained {gain:.3f} nats, give or "
        f"take {error:.3f}: {files.MODEL} is the mixture that it began with"
    )
    return start, found


def _about_columns(odd: Mapping[str, list[str]]) -> Iterator[str]:
    """What to say of columns that a density hardly suits."""
    advice = {
        "constant": "constant: a density there has no bound, leave it out",
        "binary": "of two values: a density there has no bound, make it a label, or "
        "declare it, --categorical",
        "integer": "of whole numbers: a density there has no bound, add noise from "
        "[0, 1), or declare it, --integer",
    }
    for kind, names in odd.items():
        shown = ", ".join(repr(name) for name in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"column {shown}{more}: {advice[kind]}"
    if odd:
        yield "--tidy leaves out what is constant and adds noise to the others"
