"""Checks of arguments, each with an error that names the argument."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = [
    "check_choice",
    "check_integer",
    "check_number",
    "check_real",
    "check_shape",
    "check_unused",
    "check_vector_shape",
]


def check_integer(name: str, value: Any, at_least: float = 1) -> int:
    """Returns `value` as an int.

    Raises:
      TypeError: if it is not a whole number (a bool, 2.7 or "3").
      ValueError: if it is below `at_least`.
    """
    is_whole = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_whole or not math.isfinite(value) or int(value) != value:
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}.")
    return int(value)


def check_integers(name: str, value: Any, count: int, at_least: float = 0) -> list[int]:
    """Returns `count` numbers of things: those of a sequence, or one for each.

    Raises:
      TypeError: if they are not whole numbers.
      ValueError: if one is below `at_least`, or all are 0, or there are not `count`.
    """
    if not isinstance(value, (list, tuple)):
        return [check_integer(name, value)] * count
    found = [check_integer(f"{name}[{i}]", n, at_least) for i, n in enumerate(value)]
    if len(found) != count or not any(found):
        raise ValueError(
            f"{name} must be {count} numbers, not all of them 0, or one for each, got "
            f"{value}."
        )
    return found


def check_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> float:
    """Returns `value` as a finite float.

    Raises:
      TypeError: if it is not a real number.
      ValueError: if it is NaN, infinite, or outside the limits.
    """
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real:
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if (
        math.isfinite(value)
        and value > above
        and at_least <= value < below
        and value <= at_most
    ):
        return float(value)
    limits = [
        text
        for text, limit in (
            (f"above {above:g}", above),
            (f"at least {at_least:g}", at_least),
            (f"below {below:g}", below),
            (f"at most {at_most:g}", at_most),
        )
        if math.isfinite(limit)
    ]
    wanted = " and ".join(limits) or "finite"
    raise ValueError(f"{name} must be {wanted}, got {value}.")


def check_real(name: str, value: Any) -> None:
    """Raises an error unless a value holds real numbers, without masked entries.

    NumPy would drop imaginary parts and masks in silence when it makes a real array.

    Args:
      name: name of the value, for errors.
      value: a tensor, a variable, an array, a number, or a list of them.

    Raises:
      ValueError: if it is `None`.
      TypeError: if it holds anything but real numbers, or masked entries.
    """
    if value is None:
        raise ValueError(f"{name} must be a tensor, got None.")
    dtype = getattr(value, "dtype", None)
    leaves = [value] if dtype is not None else tf.nest.flatten(value)
    if any(np.ma.is_masked(x) for x in leaves if isinstance(x, np.ma.MaskedArray)):
        raise TypeError(
            f"{name} has masked entries, for which there are no numbers: fill them in "
            "or leave them out."
        )
    if dtype is not None:
        dtypes = [dtype]
    elif any(hasattr(x, "dtype") for x in leaves):
        dtypes = [
            x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype for x in leaves
        ]
    else:
        dtypes = [np.asarray(value).dtype]
    for dtype in dtypes:
        if not _is_real(dtype):
            found = getattr(dtype, "name", None) or str(dtype)
            raise TypeError(f"{name} must hold real numbers, got dtype {found}.")


def _is_real(dtype):
    """Whether a dtype of TensorFlow, NumPy or Keras is one of real numbers."""
    try:
        dtype = tf.as_dtype(dtype)
    except TypeError:
        return False
    return dtype.is_floating or dtype.is_integer or dtype.is_bool


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Returns `value`, which must be one of `choices`.

    Raises:
      ValueError: if it is not.
    """
    choices = list(choices)
    if not any(value is choice or value == choice for choice in choices):
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}.")
    return value


def check_shape(name: str, value: Sequence[int], at_least: int = 1) -> tuple[int, ...]:
    """Returns `value` as a tuple of ints.

    Raises:
      TypeError: if it is not a sequence of whole numbers.
      ValueError: if an entry is below `at_least`.
    """
    if hasattr(value, "as_list"):
        value = value.as_list()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}.")
    value = list(value)
    return tuple(
        check_integer(f"{name}[{i}]", n, at_least) for i, n in enumerate(value)
    )


def check_unused(purpose: str, **options: Any) -> None:
    """Raises an error if options are given that have no effect.

    Args:
      purpose: when they would have an effect: "for images".
      **options: their values; `None` if they are not given.

    Raises:
      ValueError: for the first option that is given.
    """
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is {purpose}; got {name}={value!r}.")


def check_vector_shape(
    name: str, value: Any, at_least: int = 1, instead: str = ""
) -> int:
    """Returns the D of the shape of a vector, which is given as `D` or as `[D]`.

    Args:
      name: name of the argument, for errors.
      value: an integer, or a sequence of one integer.
      at_least: smallest D.
      instead: a sentence that says what other shapes are for, if anything.

    Raises:
      TypeError: if it is neither an integer nor a sequence of integers.
      ValueError: if D is below `at_least`, or the shape is that of no vector.
    """
    entries = [value]
    if not isinstance(value, (str, bytes)):
        # What cannot be iterated over is a number, or no shape.
        with contextlib.suppress(TypeError):
            entries = list(value)
    if len(entries) != 1:
        text = (
            f"{name} must be D or [D], the shape of a vector, got {value}, of "
            f"{len(entries)} axes. {instead}"
        )
        raise ValueError(text.rstrip())
    try:
        return check_integer(name, entries[0], at_least)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer or a sequence of one, got {value!r}."
        ) from None
