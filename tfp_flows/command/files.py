"""The files of a run: whole at any time, written by one process, checked when read."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import socket
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_flows.command.settings import Settings
from tfp_flows.distributions import MixedDequantization
from tfp_flows.training import FlowModel
from tfp_flows.training import load_model as load_checked

try:
    import fcntl
except ImportError:  # Not on Windows, where nothing keeps two processes apart.
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "HISTORY",
    "LAST",
    "MODEL",
    "REPORT",
    "SETTINGS",
    "History",
    "check_directory",
    "check_model",
    "delete_run",
    "load_model",
    "locked",
    "read_progress",
    "read_settings",
    "replacing",
    "save_model",
    "write_json",
    "write_settings",
    "write_table",
]

MODEL = "model.keras"
LAST = "last.keras"
HISTORY = "history.csv"
REPORT = "report.json"
SETTINGS = "settings.json"

# Everything that a run writes. What a run is continued from goes first.
_FILES: tuple[str, ...] = (LAST, MODEL, HISTORY, REPORT, "loss.png", "samples.png")
_FILES += ("samples.npy", "samples.csv", "density.png", SETTINGS)

_LOCK = ".lock"

# Parts of a model's file that Keras does not look at: how far within an epoch it is,
# and the states of dropout's random numbers, which Keras does not save.
_PROGRESS = "tfp_flows_progress.json"
_DRAWS = "tfp_flows_draws.json"

# Keras does not compress: a file that unfolds to far more is none of its.
_UNFOLDS_BY = 10

# What reading a damaged archive raises.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


# Writing.


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to instead of `path`, which is replaced when all is written.

    So a file is whole at any time, whatever happens to the process or the disk.
    """
    partial = path.with_name(_partial(path.name))
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.filename is not None:
            raise
        # Writing, unlike opening, does not say what could not be written.
        if error.errno is None:
            raise OSError(f"{path} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _partial(name: str) -> str:
    """A name with the same ending: Keras and NumPy go by it."""
    return f".partial-{name}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON, which knows no NaN and no infinity: they become null."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def write_table(
    path: Path, flow: Any, x: np.ndarray, columns: Sequence[str] | None
) -> None:
    """Writes samples as comma-separated values, categories by their names.

    Args:
      path: of the file.
      flow: what they were drawn from.
      x: the samples `[N, D]`.
      columns: their names; `None` for "0", "1" and so on.
    """
    if columns is None:
        columns = [str(i) for i in range(x.shape[1])]
    is_mixed = isinstance(flow, MixedDequantization)
    rows: Iterable[Any] = flow.cells(x) if is_mixed else x
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def save_model(
    model: FlowModel, path: Path, progress: Mapping[str, Any] | None = None
) -> None:
    """Saves a model, and how far within an epoch it is, if it is within one."""
    draws = [variable.numpy().tolist() for variable in _draws_of(model)]
    with replacing(path) as partial:
        model.save(partial)
        for name, content in ((_PROGRESS, progress), (_DRAWS, draws or None)):
            if content is not None:
                with zipfile.ZipFile(partial, "a") as archive:
                    archive.writestr(name, json.dumps(content))


def _draws_of(model: FlowModel) -> list[Any]:
    """The states of generators of random numbers in a model's Keras layers."""
    return [v for v in model.variables if v.path.endswith("/seed_generator_state")]


def delete_run(directory: Path) -> None:
    """Deletes the files that a run writes, and no others."""
    for name in _FILES:
        (directory / _partial(name)).unlink(missing_ok=True)
        (directory / name).unlink(missing_ok=True)


# The directory.


def check_directory(directory: Path, resume: bool, overwrite: bool) -> None:
    """Raises if a run cannot be written to, or continued in, a directory.

    Raises:
      FileExistsError: if it is not empty, and the run is neither to be continued nor
        overwritten.
      ValueError: if both are asked for.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other.")
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"{directory} is a file, not a directory.")
    if resume or overwrite or not directory.exists():
        return
    if any(path.name != _LOCK for path in directory.iterdir()):
        raise FileExistsError(
            f"{directory} is not empty: choose another directory, or continue "
            "(--resume) or replace (--overwrite) the run."
        )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from training in a directory, which is made if need be.

    The operating system lets go of the lock when its process ends, however it ends.

    Raises:
      BlockingIOError: if another process holds the lock, naming it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    path = directory / _LOCK
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BlockingIOError(
                    f"{directory} is in use: {holder} trains there."
                ) from None
            if not _is_still(file, path):
                # Its last holder has deleted the file in between.
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(file: io.TextIOBase, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


# Settings.


def write_settings(directory: Path, settings: Settings) -> None:
    """Writes the settings of a run."""
    write_json(directory / SETTINGS, dataclasses.asdict(settings))


def read_settings(directory: str | os.PathLike) -> Settings:
    """Reads the settings of a run.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if its settings cannot be read.
    """
    path = Path(directory) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"there is no run in {directory} (no {SETTINGS}).")
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict):
            raise ValueError(f"settings have names, got {stored!r:.50}.")
        settings = Settings(**stored)
        settings.check_types()
        return settings
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


# The history.


class History:
    """The numbers that Keras reports for each epoch, in a comma-separated file.

    Args:
      path: of the file, which need not exist. Blank lines are skipped; where a line is
        torn, the history ends.
    """

    def __init__(self, path: Path):
        self._path = path
        self._rows: list[dict[str, float]] = []
        if path.exists():
            text = path.read_text(errors="replace")
            # A line that does not end may end in the midst of a number.
            whole = text[: text.rfind("\n") + 1]
            self._rows = list(_whole_rows(whole.splitlines()))

    def keep(self, epochs: int) -> None:
        """Drops the rows of epochs that will be run again."""
        self._rows = [row for row in self._rows if row["epoch"] < epochs]

    def add(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Adds the row of an epoch, and writes the file."""
        logs = {name: float(logs[name]) for name in sorted(logs)}
        self._rows.append({"epoch": epoch, **logs})
        with replacing(self._path) as partial, partial.open("w", newline="") as file:
            columns = self.columns()
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def columns(self) -> dict[str, list[float]]:
        """The columns by name, those that all rows have; "epoch" counts from 0."""
        names = list(self._rows[0]) if self._rows else ["epoch"]
        names = [name for name in names if all(name in row for row in self._rows)]
        return {name: [row[name] for row in self._rows] for name in names}


def _whole_rows(lines: Iterable[str]) -> Iterator[dict[str, float]]:
    """The rows of numbers, up to the first that is none or no later epoch."""
    before = -1
    for row in csv.DictReader(lines):
        try:
            if None in row or None in row.values():
                return
            numbers = {name: float(cell) for name, cell in row.items()}
            epoch = int(row["epoch"])
            if epoch <= before:
                return
            before = epoch
            yield {**numbers, "epoch": epoch}
        except (KeyError, ValueError):
            return


# Models.


def load_model(path: str | os.PathLike) -> FlowModel:
    """Loads a model from its file, or from the directory of its run.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged or holds something else.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL
    check_model(path)
    try:
        model = load_checked(path)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(_unreadable(path, reason)) from error
    if not isinstance(model, FlowModel):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, not a tfp_flows.FlowModel."
        )
    for variable, state in zip(
        _draws_of(model), _read(path, _DRAWS) or (), strict=False
    ):
        variable.assign(state)
    return model


def check_model(path: Path) -> None:
    """Checks that the file of a model is whole; builds nothing.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no model {path}.")
    reason = _damage(path)
    if reason is not None:
        raise ValueError(_unreadable(path, reason))


def read_progress(path: Path) -> dict[str, Any] | None:
    """How far within an epoch a saved model is, `None` if it is at the end of one."""
    return _read(path, _PROGRESS)


def _read(path: Path, part: str) -> Any:
    """A part of a model's file that holds JSON, `None` if it has none."""
    with zipfile.ZipFile(path) as archive:
        if part not in archive.namelist():
            return None
        return json.loads(archive.read(part))


def _unreadable(path, reason):
    return f"{path} is damaged, of another version, or no model file: {reason}"


def _damage(path: Path) -> str | None:
    """What is wrong with a model's file, `None` if it holds what was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            unfolded = sum(info.file_size for info in archive.infolist())
            if unfolded > _UNFOLDS_BY * size:
                return f"{size:,} bytes would unfold to {unfolded:,}."
            bad = archive.testzip()
    except _DAMAGED as error:
        return f"it is no whole .keras archive ({error})."
    return None if bad is None else f"the checksum of its part {bad} is wrong."
