"""How far a run has come: what it has written, and how it stops and goes on."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfp_flows.command import files
from tfp_flows.training import FlowModel
from tfp_flows.training.averages import ShowAverages

if TYPE_CHECKING:
    from tfp_flows.command.train import Prepared

__all__ = [
    "ADVICE",
    "GoOn",
    "Interrupted",
    "KeepBest",
    "RunState",
    "SaveLast",
    "best_model",
    "find_best",
    "interrupts",
    "is_over",
    "save_finite",
]

ADVICE = "train with a lower learning rate or with a bound on the gradient's norm"


class Interrupted(Exception):
    """Training was interrupted; the message says what is kept."""


class RunState:
    """What a run has written.

    A run that replaces another writes nothing until its first epoch is over: until
    then, `begin` has not been called.
    """

    def __init__(self, run: Prepared, epochs: int):
        self.run, self.begun, self.epochs = run, False, epochs
        # The lowest val_nll so far: that of `model.keras`.
        self.best = math.inf
        self.history = files.History(run.directory / files.HISTORY)
        self.history.keep(0 if run.overwrite else epochs)
        # The time at which it would have begun without a break.
        self._start = time.monotonic() - max(self.history.columns().get("seconds", [0]))
        if not run.overwrite:
            self.begin()

    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self._start

    def go_on(self, progress: Mapping[str, Any] | None) -> None:
        """Counts the seconds of an epoch of which a part is done."""
        if progress:
            self._start = time.monotonic() - progress.get("seconds", 0.0)

    def is_over(self) -> bool:
        """Whether training ends early."""
        return is_over(self.history, self.run.settings.patience)

    def begin(self) -> None:
        """Makes the directory that of this run."""
        if self.begun:
            return
        if self.run.overwrite:
            files.delete_run(self.run.directory)
        files.write_settings(self.run.directory, self.run.settings)
        self.begun = True


def is_over(history: files.History, patience: int | None) -> bool:
    """Whether there was no better epoch for so long that training ends."""
    columns = history.columns()
    values = np.nan_to_num(columns.get("val_nll", []), nan=math.inf)
    if patience is None or not len(values):
        return False
    return columns["epoch"][-1] - columns["epoch"][int(values.argmin())] >= patience


def find_best(state: RunState, validation: Any, say: Callable[[str], None]) -> None:
    """Finds what an epoch must surpass to replace `model.keras`.

    The rows of all epochs tell, or else the model itself.
    """
    path = state.run.directory / files.MODEL
    if not path.exists():
        if state.epochs:
            say(f"{path} is missing: the best of the epochs to come is kept")
        return
    columns = state.history.columns()
    lost = sorted(set(range(state.epochs)) - set(columns["epoch"]))
    values = columns.get("val_nll", [])
    if not lost and len(values) == state.epochs and not np.isnan(values).any():
        state.best = min(values, default=math.inf)
        return
    if lost:
        numbers = ", ".join(str(epoch) for epoch in lost[:10])
        more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
        say(f"{files.HISTORY} lacks the rows of epoch {numbers}{more} (counted from 0)")
    best = files.load_model(path)
    state.best = best.evaluate(validation, verbose=0, return_dict=True)["nll"]


def best_model(run: Prepared, say: Callable[[str], None]) -> FlowModel:
    """What a run ends with: the best epoch, or else the last one."""
    path = run.directory / files.MODEL
    if run.source.sizes["validation"]:
        try:
            return files.load_model(path)
        except (OSError, ValueError) as error:
            say(f"{error} The model of the last epoch takes its place.")
    save_finite(run.model, path)
    return run.model


def save_finite(
    model: FlowModel, path: Path, progress: Mapping[str, Any] | None = None
) -> None:
    """Saves a model, but none with weights that are no numbers.

    A loss need not show them: a rectified layer can make 0 of NaN.
    """
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise FloatingPointError(
                f"{variable.path} has become NaN or infinite: {ADVICE}."
            )
    files.save_model(model, path, progress)


class KeepBest(keras.callbacks.Callback):
    """Keeps the row of each epoch, and the weights of that with the best validation."""

    def __init__(self, state: RunState):
        super().__init__()
        self.state = state

    def on_epoch_end(self, epoch, logs=None):
        self.state.begin()
        rate = float(self.model.optimizer.learning_rate)
        beside = {"learning_rate": rate, "seconds": round(self.state.seconds(), 1)}
        self.state.history.add(epoch, {**logs, **beside})
        best = self.state.best
        # The first one is kept even if it is infinite.
        if "val_nll" in logs and (logs["val_nll"] < best or best == math.inf):
            save_finite(self.model, self.state.run.directory / files.MODEL)
            self.state.best = logs["val_nll"]
        self.model.stop_training = self.state.is_over()


class GoOn(keras.callbacks.Callback):
    """Continues the means of an epoch of which a part is done."""

    def __init__(self, progress: Mapping[str, Any] | None):
        super().__init__()
        self.progress = progress

    def on_train_batch_end(self, batch, logs=None):
        # Keras builds metrics in the first step, but not those of validation alone.
        # Sums and counts add up.
        if self.progress is not None:
            for metric in self.model.metrics:
                if not metric.variables:
                    continue
                values = self.progress["metrics"].get(metric.name, ())
                for variable, value in zip(metric.variables, values, strict=True):
                    variable.assign_add(value)
            self.progress = None


class SaveLast(keras.callbacks.Callback):
    """Saves the state from time to time, and when there was an interrupt."""

    def __init__(
        self,
        state: RunState,
        steps: int,
        save_every: float,
        interrupted: threading.Event,
        averages: ShowAverages,
    ):
        super().__init__()
        self.state, self.steps, self.interrupted = state, steps, interrupted
        self.averages = averages
        self.save_every = save_every
        self.path = state.run.directory / files.LAST
        self.saved = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        # The last batch of an epoch is followed by its validation and row of history.
        done = int(self.model.optimizer.iterations) % self.steps
        if self.interrupted.is_set() and done:
            seconds = self.state.seconds()
            means = _means(self.model)
            self._stop({"done": done, "metrics": means, "seconds": seconds})

    def on_epoch_end(self, epoch, logs=None):
        if self.interrupted.is_set():
            self._stop(None)
        if time.monotonic() - self.saved > self.save_every:
            self._write()
            self.saved = time.monotonic()

    def _write(self, progress=None):
        with self.averages.hidden():
            save_finite(self.model, self.path, progress)

    def _stop(self, progress):
        if not self.state.begun:
            raise Interrupted(
                "interrupted before the first epoch was over; the run in "
                f"{self.path.parent} is as it was"
            )
        self._write(progress)
        raise Interrupted(
            f"interrupted; {self.path} holds what was reached: --resume goes on from "
            "there"
        )


def _means(model: FlowModel) -> dict[str, list[float]]:
    """The state of the metrics by name."""
    return {m.name: [float(v.numpy()) for v in m.variables] for m in model.metrics}


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
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
