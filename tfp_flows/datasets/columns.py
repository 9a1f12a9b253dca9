"""Columns of a table that have no density of their own: constant, or whole numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["tidied"]

# Names that a message holds.
_SHOWN = 5


def tidied(
    splits: Mapping[str, Any],
    names: Sequence[str] | None,
    what: str,
    seed: int,
    kept: Sequence[str] = (),
) -> tuple[dict[str, np.ndarray], list[str]]:
    """A table without constant columns, and with noise on those of whole numbers.

    A column of whole numbers, or of two values, gets noise that is uniform from 0 to
    the step between them: their greatest common divisor, mostly 1. The mean
    log-density of the noisy rows, and the logarithms of the steps added, is a lower
    bound of the log-probability of the rows as they were (Theis et al. 2016, section
    3.1). Noise is drawn once. A warning names the columns of either kind.

    Args:
      splits: tables `[N, D]` of numbers by split; of which kind a column is, the rows
        to train on tell.
      names: of the columns; None for "0", "1" and so on.
      what: the data, for messages.
      seed: of the noise.
      kept: names of columns that stay as they are.

    Returns:
      The tables, float64, with the columns that are left, and their names.

    Raises:
      ValueError: if the data are no tables in memory, or all columns are constant.

    Example:
      >>> import numpy as np
      >>> from tfp_flows.datasets.columns import tidied
      >>> x = np.stack([np.full(9, 7.0), np.linspace(0, 1, 9)], 1)
      >>> import warnings
      >>> with warnings.catch_warnings():
      ...     warnings.simplefilter("ignore")
      ...     _, names = tidied({"train": x}, None, "x", seed=0)
      >>> names
      ['1']
    """
    splits = {
        split: x if isinstance(x, np.memmap) else np.asarray(x)
        for split, x in splits.items()
    }
    for x in splits.values():
        if isinstance(x, np.memmap) or x.ndim != 2 or x.dtype.kind not in "fiu":
            raise ValueError(
                f"{what}: tidy is for tables [N, D] of numbers in memory, got "
                f"{type(x).__name__} {x.dtype} {list(x.shape)}."
            )
    train = splits["train"].astype(np.float64)
    if train.size == 0:
        raise ValueError(f"{what} is empty: its shape is {list(train.shape)}.")
    names = [str(i) for i in range(train.shape[1])] if names is None else list(names)
    steps = [
        0.0 if name in kept else _step(column)
        for name, column in zip(names, train.T, strict=True)
    ]
    keep = np.array([step is not None for step in steps])
    widths = np.array([step or 0.0 for step in steps])
    if not keep.any():
        raise ValueError(f"{what}: all columns are constant.")
    for found, text in (
        (~keep, "constant, and left out"),
        (
            widths > 0,
            "of whole numbers or two values, and given noise from 0 to a step",
        ),
    ):
        if found.any():
            _say(what, [names[i] for i in np.flatnonzero(found).tolist()], text)
    rng = np.random.default_rng(seed)
    tidy = {
        split: (x + widths * rng.random(x.shape))[:, keep]
        for split, x in splits.items()
    }
    return tidy, [names[i] for i in np.flatnonzero(keep).tolist()]


def _step(column: np.ndarray) -> float | None:
    """The step between whole numbers or two values; 0 for others, None if constant."""
    values = np.unique(column)
    if len(values) < 2:
        return None
    if len(values) == 2:
        return float(values[1] - values[0])
    # Larger ones are whole as floating-point numbers only.
    if (values != np.round(values)).any() or np.abs(values).max() > 2**53:
        return 0.0
    return float(np.gcd.reduce(np.diff(values).astype(np.int64)))


def _say(what: str, names: Sequence[str], text: str) -> None:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    warnings.warn(f"{what}: column {shown}{more}: {text}.", stacklevel=5)
