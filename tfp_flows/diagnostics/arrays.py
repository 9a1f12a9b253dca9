"""Parameters and samples as arrays of numbers, with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["as_matrix", "as_pairs", "check_numbers"]


def check_numbers(name: str, values: Any, finite: bool = True) -> np.ndarray:
    """Returns `values` as float64.

    Raises:
      ValueError: if one is NaN, or, with `finite`, infinite.
    """
    values = np.asarray(values, np.float64)
    bad = ~np.isfinite(values) if finite else np.isnan(values)
    if bad.any():
        raise ValueError(
            f"{name} must not hold NaN{' or infinity' if finite else ''}, but "
            f"{int(bad.sum())} of {values.size} numbers do."
        )
    return values


def as_matrix(name: str, values: Any) -> np.ndarray:
    """Finite numbers `[N, ...]` as float64 `[N, D]`."""
    values = check_numbers(name, values)
    if values.ndim < 1 or not len(values):
        raise ValueError(f"{name} must be [N, ...], got shape {values.shape}.")
    return values.reshape(len(values), -1)


def as_pairs(truth: Any, samples: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """True parameters, and samples of their posteriors, in two arrays.

    Args:
      truth: `[N, *shape]`, or a structure of such arrays.
      samples: `[S, N, *shape]`, in the same structure.

    Returns:
      `(truth [N, D], samples [S, N, D], names)`.

    Raises:
      ValueError: if structures or shapes do not fit, or there are NaN or infinity.
    """
    try:
        tf.nest.assert_same_structure(truth, samples)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"truth and samples must have the same structure: {error}"
        ) from error
    named, drawn = _named(truth), [part for _, part in _named(samples)]
    rows, columns, names = [], [], []
    for (name, part), sample in zip(named, drawn, strict=True):
        part, sample = check_numbers("truth", part), check_numbers("samples", sample)
        fits = sample.ndim >= 2 and sample.shape[1:] == part.shape
        if not fits or not sample.size:
            raise ValueError(
                "samples must be [S, N, ...] for truth [N, ...]: S samples of each of "
                f"N posteriors; got shapes {sample.shape} and {part.shape}."
            )
        rows.append(part.reshape(len(part), -1))
        columns.append(sample.reshape(*sample.shape[:2], -1))
        size = rows[-1].shape[1]
        one = [name or "value"] if part.ndim == 1 else []
        names += one or [f"{name}[{i}]" if name else str(i) for i in range(size)]
    counts = {len(r) for r in rows} | {c.shape[1] for c in columns}
    if len(counts) != 1 or len({len(c) for c in columns}) != 1:
        raise ValueError("truth and samples must have parts that are equally many.")
    return np.concatenate(rows, -1), np.concatenate(columns, -1), names


def _named(structure, name=""):
    """Parts of a structure in the order of `tf.nest`, with names."""
    if isinstance(structure, Mapping):
        items = sorted(structure.items())
    elif hasattr(structure, "_asdict"):
        items = list(structure._asdict().items())
    else:
        return [(name, structure)]
    join = f"{name}." if name else ""
    return [pair for key, part in items for pair in _named(part, f"{join}{key}")]
