"""Checks of what is to plot, its shape, and functions at many points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.arguments import check_number

__all__ = [
    "Bounds",
    "PlanarBounds",
    "check_finite",
    "check_increasing",
    "check_numbers",
    "check_planar_bounds",
    "check_titles",
    "check_top",
    "data_shape",
    "density_at",
    "evaluate",
]

Bounds = tuple[float, float]
PlanarBounds = tuple[Bounds, Bounds]

_CHUNK = 10_000


def check_finite(name: str, values: Any) -> np.ndarray:
    """Returns `values` as an array; a ValueError if one is NaN or infinite."""
    values = np.asarray(values)
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ValueError(
            f"{name} must be finite, but {bad} of {values.size} values are NaN or "
            "infinite."
        )
    return values


def check_numbers(name: str, label: str, values: Any) -> np.ndarray:
    """Returns `values` as finite numbers `[N]`; a ValueError if there are none."""
    values = check_finite(name, np.asarray(values, np.float64)).ravel()
    if not values.size:
        raise ValueError(
            f"{name} must hold at least one number, got none for {label!r}."
        )
    return values


def check_increasing(bounds: Bounds, name: str = "bounds") -> None:
    """Raises an error unless `bounds` are `(low, high)`."""
    if np.shape(bounds) != (2,):
        raise ValueError(f"{name} must be (low, high), got {bounds}.")
    if not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"{name} must be (low, high) with low < high, got {bounds}.")


def check_planar_bounds(bounds: PlanarBounds, name: str = "bounds") -> None:
    """Raises an error unless `bounds` are `(low, high)` of two coordinates."""
    if np.shape(bounds) != (2, 2):
        raise ValueError(f"{name} must be ((low, high), (low, high)), got {bounds}.")
    for pair in bounds:
        check_increasing(pair, name)


def check_top(top: float | None) -> None:
    """Raises an error unless the end of a scale is positive or `None`."""
    if top is not None:
        check_number("top", top, above=0)


def check_titles(titles: Sequence[str] | None, count: int) -> None:
    """Raises an error unless there is one title for each of `count` panels, or none."""
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles must be {count} texts, got {len(titles)}.")


def data_shape(bijector: tfb.Bijector) -> tuple[int, ...] | None:
    """The event shape of data that a bijector is made for, if it says so."""
    ndims = bijector.forward_min_event_ndims
    try:
        shape = bijector.forward_event_shape(tf.TensorShape([None] * ndims))
    except Exception:  # whatever a user's bijector raises: it does not say
        return None
    return tuple(shape) if shape.rank and shape.is_fully_defined() else None


def evaluate(
    name: str, function: Callable, points: np.ndarray, event: tuple[int, ...]
) -> np.ndarray:
    """Values `[N, *event]` of a function at points, a chunk at a time."""
    if not callable(function):
        shape = ", ".join(["N", *map(str, points.shape[1:])])
        raise TypeError(
            f"{name} must be a function of points [{shape}], got "
            f"{type(function).__name__}."
        )
    values = []
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK].astype(np.float32)
        value = np.asarray(function(part))
        if value.shape != (len(part), *event):
            raise ValueError(
                f"{name} must map points {list(part.shape)} to "
                f"{[len(part), *event]}, got shape {list(value.shape)}."
            )
        values.append(value.astype(np.float64))
    return np.concatenate(values)


def density_at(name: str, log_prob: Callable, points: np.ndarray) -> np.ndarray:
    """Densities `[N]` of a function that gives their logarithms."""
    with np.errstate(over="ignore"):
        p = np.exp(evaluate(name, log_prob, points, ()))
    return check_finite(f"the density of {name}", p)
