"""Arrays and files of the user's own, checked and cut into splits."""

from __future__ import annotations

import csv
import functools
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MappedSplit, MemorySplit

__all__ = ["FILE_FORMATS", "from_arrays", "from_file", "hold_out"]

FILE_FORMATS = (".npy", ".npz", ".csv")

# The values of a larger .npy file stay on disk.
_MEMORY_LIMIT = 2**30

_SPLITS = ("train", "validation", "test")

# What an array is, by its key. Keras names the arrays of its own data sets x_train,
# y_train, x_test and y_test.
_KEYS = {
    "x": ("train", "x"),
    "labels": ("train", "labels"),
    **{split: (split, "x") for split in _SPLITS},
    **{f"{split}_labels": (split, "labels") for split in _SPLITS},
    **{f"x_{split}": (split, "x") for split in _SPLITS},
    **{f"y_{split}": (split, "labels") for split in _SPLITS},
}


def from_file(
    path: str | os.PathLike, *, validation: float, test: float, seed: int
) -> DataSource:
    """Reads a .npy, .npz or .csv file. See `load`."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in FILE_FORMATS:
        raise ValueError(
            f"{path} must be one of the formats {', '.join(FILE_FORMATS)}, got "
            f"{path.suffix!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} (from {Path.cwd()}).")
    columns = reopen = None
    if path.suffix.lower() == ".csv":
        table, columns = _read_csv(path)
        arrays = {"x": table}
    else:
        arrays = _read_numpy(path)
        if isinstance(arrays.get("x"), np.memmap):
            # Mapped anew for every read: pages that were read are let go.
            reopen = functools.partial(np.load, path, "r")
    return from_arrays(
        arrays,
        name=path.name,
        columns=columns,
        reopen=reopen,
        validation=validation,
        test=test,
        seed=seed,
    )


def from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str,
    columns: Sequence[str] | None = None,
    reopen: Callable[[], np.ndarray] | None = None,
    validation: float,
    test: float,
    seed: int,
) -> DataSource:
    """Checks arrays by key (see `load`) and makes a source of them.

    Values in an `np.memmap` stay where they are, and are checked as they are read.

    Args:
      arrays: values and labels by key.
      name: of the data, for messages.
      columns: names of the features of a table, for messages.
      reopen: maps the one array anew, if it is in a file.
      validation: fraction of the training rows held out if there is no such array.
      test: likewise.
      seed: of the random choice of those rows.

    Raises:
      ValueError: if a key, a shape, a dtype or a value is not allowed.
    """
    values, labels = _by_split(arrays, name)
    values = {
        split: _checked_values(
            x, f"{name}, {split}" if len(values) > 1 else name, columns
        )
        for split, x in values.items()
    }
    dtypes = {np.uint8 if x.dtype == np.uint8 else np.float32 for x in values.values()}
    shapes = {x.shape[1:] for x in values.values()}
    if len(dtypes) > 1 or len(shapes) > 1:
        found = ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in values.items())
        raise ValueError(
            f"{name}: all splits must have the same dtype and the same shape after "
            f"the first dimension, got {found}."
        )
    labels = {
        split: _checked_labels(labels[split], len(values[split]), f"{name}, {split}")
        for split in labels
    }
    num_classes = 1 + max(int(y.max()) for y in labels.values()) if labels else None
    rows = hold_out(len(values["train"]), values, name, validation, test)
    chosen = np.random.default_rng(seed).permutation(len(values["train"]))
    splits = {}
    for split in _SPLITS:
        x, y, picked = values.get(split), labels.get(split), None
        if split in rows:
            # Sorted, so that a split keeps the order of the data and a train split
            # that nothing is taken from is the array itself.
            picked = np.sort(chosen[rows[split]])
            x, y = values["train"], labels.get("train")
            if len(picked) == len(x):
                picked = None
        if isinstance(x, np.memmap):
            splits[split] = MappedSplit(
                reopen or (lambda x=x: x),
                lambda rows: _checked_values(rows, name, columns),
                y,
                picked,
            )
            continue
        if picked is not None:
            x, y = x[picked], None if y is None else y[picked]
        splits[split] = MemorySplit(len(x), lambda x=x, y=y: (x, y))
    x = values["train"]
    bounds = (0.0, 256.0) if x.dtype == np.uint8 else None
    return DataSource(name, x.shape[1:], bounds, num_classes, splits)


def hold_out(
    size: int, given: Mapping[str, Any], name: str, validation: float, test: float
) -> dict[str, slice]:
    """Positions of the training examples that each split without data of its own gets.

    Args:
      size: number of training examples.
      given: the splits there are.
      name: of the data, for messages.
      validation: fraction of `size` for a missing validation split.
      test: fraction of `size` for a missing test split.

    Returns:
      Slices of `range(size)` for "train" and for the missing splits, in the order
      train, validation, test.

    Raises:
      ValueError: if a fraction is not in [0, 1) or no training examples remain.
    """
    fractions = {"validation": validation, "test": test}
    for split, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ValueError(
                f"{split} must be a fraction from 0 to below 1, got {fraction}."
            )
    counts = {s: round(f * size) for s, f in fractions.items() if s not in given}
    end = size - sum(counts.values())
    if end < 1:
        raise ValueError(
            f"{name} has {size} training examples: holding out {counts} of them leaves "
            "none to train on. Give smaller fractions."
        )
    rows = {"train": slice(0, end)}
    for split, count in counts.items():
        rows[split] = slice(end, end + count)
        end += count
    return rows


def _by_split(arrays: Mapping[str, Any], name: str) -> tuple[dict, dict]:
    """Values and labels by split."""
    found: dict[str, dict[str, Any]] = {"x": {}, "labels": {}}
    for key, array in arrays.items():
        if key not in _KEYS:
            raise ValueError(
                f"{name} holds an array {key!r}. Allowed are x and labels for one "
                "table, or train, validation, test, train_labels, validation_labels "
                "and test_labels (x_train, y_train and so on mean the same)."
            )
        split, kind = _KEYS[key]
        if split in found[kind]:
            raise ValueError(f"{name} holds the {split} {kind} twice, once as {key!r}.")
        found[kind][split] = array
    values, labels = found["x"], found["labels"]
    if "train" not in values:
        raise ValueError(f"{name} holds no training data: name the array x or train.")
    if labels and labels.keys() != values.keys():
        raise ValueError(
            f"{name} has values for {list(values)} and labels for {list(labels)}: "
            "give labels for all splits or for none."
        )
    return values, labels


def _checked_values(
    x: Any, what: str, columns: Sequence[str] | None = None
) -> np.ndarray:
    """Data as uint8 or finite float32, `[N, D]` or `[N, H, W, C]`; mapped as it is."""
    if not isinstance(x, np.memmap):
        x = np.asarray(x)
    if x.dtype == np.uint8 and x.ndim == 3:
        x = x[..., None]
    if x.ndim not in (2, 4):
        hint = " (one feature is x[:, None])" if x.ndim == 1 else ""
        raise ValueError(
            f"{what} must be vectors [N, D] or images [N, H, W, C], or [N, H, W] if "
            f"uint8, got shape {list(x.shape)}{hint}."
        )
    if x.size == 0:
        raise ValueError(f"{what} is empty: its shape is {list(x.shape)}.")
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"{what} has dtype {x.dtype}. Allowed are uint8 for 8-bit images, which "
            "are dequantised, and floating point for continuous data: convert with "
            "x.astype('uint8') or x.astype('float32')."
        )
    if isinstance(x, np.memmap):
        return x
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(x)
    if bad.any():
        counts = bad.reshape(len(x), -1).sum(0)
        features = [
            f"{_feature(i, x.shape[1:], columns)}: {counts[i]}"
            for i in np.flatnonzero(counts)
        ]
        more = f" and {len(features) - 5} other features" if len(features) > 5 else ""
        raise ValueError(
            f"{what} has values that are NaN, infinite or beyond float32 in "
            f"{', '.join(features[:5])}{more} (of {len(x)} rows). Remove or replace "
            "them."
        )
    return x


def _feature(index: int, shape: tuple[int, ...], columns: Sequence[str] | None) -> str:
    if columns:
        return f"column {columns[index]!r}"
    position = [int(i) for i in np.unravel_index(index, shape)]
    return f"feature {position[0] if len(position) == 1 else position}"


def _checked_labels(labels: Any, size: int, what: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (size,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{what}: labels must be integers [{size}], one for each example, got "
            f"{labels.dtype} {list(labels.shape)}."
        )
    if labels.min() < 0:
        raise ValueError(
            f"{what}: labels must count from 0, the lowest is {labels.min()}."
        )
    return labels


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a .npy (as "x") or .npz file; maps a large .npy, never unpickles."""
    large = path.suffix.lower() == ".npy" and path.stat().st_size > _MEMORY_LIMIT
    try:
        content = np.load(path, "r" if large else None, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"x": content}
        with content:
            return dict(content.items())
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a readable {path.suffix} file of numbers: {error}"
        ) from error


def _read_csv(path: Path) -> tuple[np.ndarray, list[str]]:
    """Float table `[N, D]` and the names of its columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            first = next(filter(None, reader), [])
            header = reader.line_num if not any(map(_is_number, first)) else 0
            columns = first if header else [str(i) for i in range(len(first))]
            file.seek(0)
            try:
                with warnings.catch_warnings():
                    # NumPy warns of a file without rows, which is an error later.
                    warnings.simplefilter("ignore", UserWarning)
                    table = np.loadtxt(
                        file,
                        delimiter=",",
                        quotechar='"',
                        comments=None,
                        skiprows=header,
                        ndmin=2,
                    )
            except ValueError as error:
                file.seek(0)
                _raise_bad_row(file, path.name, columns, header)
                raise ValueError(f"{path} is not a numeric table: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV text in UTF-8: {error}") from error
    return table, columns


def _raise_bad_row(
    file: TextIO, name: str, columns: Sequence[str], header: int
) -> None:
    """Names the first cell of a CSV file that is no number, or row that is too long."""
    reader = csv.reader(file)
    for row in reader:
        if not row or reader.line_num <= header:
            continue
        where = f"{name}, row {reader.line_num}"
        if len(row) != len(columns):
            raise ValueError(
                f"{where}: {len(row)} cells, but the table has {len(columns)} columns."
            )
        for column, cell in zip(columns, row, strict=True):
            if not _is_number(cell):
                raise ValueError(f"{where}, column {column!r}: {cell!r} is no number.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
