"""Checks a user's own arrays and divides them into splits."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfp_flows.datasets.categories import Categorical, Declared, check_seen, declared
from tfp_flows.datasets.columns import tidied
from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MappedSplit, MemorySplit, Split

__all__ = ["from_arrays", "hold_out"]

# Rows that are checked for values that become equal in float32.
_LOOKED_AT = 10_000

# Labels below this number are never taken for ids.
_FEW_CLASSES = 1000

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


def from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str,
    columns: Sequence[str] | None = None,
    reopen: Callable[[], np.ndarray] | None = None,
    validation: float,
    test: float,
    seed: int,
    tidy: bool = False,
    categorical: Categorical = False,
    integer: bool | Sequence[str] = False,
    words: Mapping[str, Sequence[str]] | None = None,
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
      seed: of the random choice of those rows, and of the noise of `tidy`.
      tidy: see `load`.
      categorical: see there.
      integer: see there.
      words: of columns that hold positions in lists of words, by name.

    Raises:
      ValueError: if a key, a shape, a dtype or a value is not allowed.
    """
    values, labels = _by_split(arrays, name)
    if columns is None:
        columns = _column_names(values["train"])
    known: Declared | None = None
    if categorical or integer:
        known = declared(values, columns, name, categorical, integer, words)
        values, columns = known.values, known.names
    if tidy:
        kept = (*known.categories, *known.integers) if known else ()
        values, columns = tidied(values, columns, name, seed, kept)
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
    if any(_warn_of_ids(y, f"{name}, {split}") for split, y in labels.items()):
        labels = {}
    num_classes = 1 + max(int(y.max()) for y in labels.values()) if labels else None
    rows = hold_out(len(values["train"]), values, name, validation, test)
    chosen = np.random.default_rng(seed).permutation(len(values["train"]))
    splits: dict[str, Split] = {}
    for split in _SPLITS:
        y, picked = labels.get(split), None
        if split in rows:
            # Sorted, so that a split keeps the order of the data and a train split
            # that nothing is taken from is the array itself.
            picked = np.sort(chosen[rows[split]])
            x, y = values["train"], labels.get("train")
            if len(picked) == len(x):
                picked = None
        else:
            x = values[split]
        if isinstance(x, np.memmap):
            splits[split] = MappedSplit(
                reopen or functools.partial(_same, x),
                functools.partial(_checked_values, what=name, columns=columns),
                y,
                picked,
            )
            continue
        if picked is not None:
            x, y = x[picked], None if y is None else y[picked]
        splits[split] = MemorySplit.of(x, y)
    x = values["train"]
    bounds = (0.0, 256.0) if x.dtype == np.uint8 else None
    names = None if columns is None else tuple(columns)
    about = (name, x.shape[1:], bounds, num_classes, splits, names)
    if known is None:
        return DataSource(*about)
    stored = {s: split.arrays(None)[0] for s, split in splits.items() if split.size}
    check_seen(stored, known._replace(names=list(columns or ())), name)
    return DataSource(*about, known.categories, known.integers)


def _column_names(table: Any) -> list[str] | None:
    """Names of the columns of a data frame."""
    columns = getattr(table, "columns", None)
    return None if columns is None else [str(c) for c in columns]


def _same(x: np.ndarray) -> np.ndarray:
    return x


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
    # At least one example, where there are enough for all.
    least = 1 if size > len(fractions) else 0
    counts = {
        s: max(round(f * size), least) if f else 0
        for s, f in fractions.items()
        if s not in given
    }
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
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(
            f"{what} is a masked array: fill what is behind the mask, x.filled(value), "
            "or leave those rows out."
        )
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
            "are dequantised, and floating point for continuous data"
            f"{_dtype_advice(x, columns)}."
        )
    if isinstance(x, np.memmap):
        return x
    with np.errstate(over="ignore"):
        single = x.astype(np.float32, copy=False)
    _check_finite(single, what, columns)
    if single is not x:
        _warn_of_lost_digits(x[:_LOOKED_AT], single[:_LOOKED_AT], what, columns)
    return single


def _dtype_advice(x: np.ndarray, columns: Sequence[str] | None) -> str:
    """How to convert values of a dtype that is not allowed."""
    if x.dtype == object:
        for i, column in enumerate(x.reshape(len(x), -1).T):
            try:
                column.astype(np.float64)
            except (TypeError, ValueError):
                where = _feature(i, x.shape[1:], columns)
                return f"; {where} holds what is no number: leave it out or encode it"
        return ": convert with x.astype('float32')"
    if x.dtype == bool or np.issubdtype(x.dtype, np.integer):
        if x.min() >= 0 and x.max() <= 255:
            return ": convert with x.astype('uint8') or x.astype('float32')"
        return (
            f": its values are from {x.min()} to {x.max()}, so x.astype('float32'), "
            "with noise from [0, 1) added to counts"
        )
    return ""


def _check_finite(
    x: np.ndarray, what: str, columns: Sequence[str] | None = None
) -> None:
    """Names the features that hold NaN, infinity or what float32 cannot hold."""
    bad = ~np.isfinite(x)
    if not bad.any():
        return
    counts = bad.reshape(len(x), -1).sum(0)
    features = [
        f"{_feature(i, x.shape[1:], columns)}: {counts[i]}"
        for i in np.flatnonzero(counts).tolist()
    ]
    more = f" and {len(features) - 5} other features" if len(features) > 5 else ""
    raise ValueError(
        f"{what} has values that are NaN, infinite or beyond float32 in "
        f"{', '.join(features[:5])}{more} (of {len(x)} rows). Remove or replace them."
    )


def _warn_of_lost_digits(
    x: np.ndarray, single: np.ndarray, what: str, columns: Sequence[str] | None
) -> None:
    """Warns of features whose different values float32 makes equal."""
    merged = []
    size = np.abs(single).reshape(len(x), -1).max(0)
    spread = np.ptp(single, axis=0).reshape(-1)
    # Where float32 has steps that are fine beside the spread, nothing is merged.
    for i in np.flatnonzero(size * np.finfo(np.float32).eps > 1e-4 * spread).tolist():
        kept, there = (len(np.unique(a.reshape(len(a), -1)[:, i])) for a in (single, x))
        if kept < 0.9 * there:
            where = _feature(i, x.shape[1:], columns)
            merged.append(f"{where} ({kept:,} of {there:,} different values are left)")
    if merged:
        more = f" and {len(merged) - 5} other features" if len(merged) > 5 else ""
        warnings.warn(
            f"{what}: float32 has too few digits for {', '.join(merged[:5])}{more}. "
            "Subtract a constant near the mean from such a feature before loading it.",
            stacklevel=2,
        )


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


def _warn_of_ids(labels: np.ndarray, what: str) -> bool:
    """Whether labels seem to be ids instead of classes; warns if so."""
    if labels.max() < _FEW_CLASSES:
        return False
    different = len(np.unique(labels))
    if labels.max() < 2 * different:
        return False
    warnings.warn(
        f"{what}: labels are left out, as they do not count the classes from 0: "
        f"{different} different ones go up to {labels.max()}. Number them: labels = "
        "numpy.unique(labels, return_inverse=True)[1].",
        stacklevel=2,
    )
    return True
