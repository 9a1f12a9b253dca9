"""Columns that are declared: categories, whose words become codes, and integers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Declared", "check_declared", "check_known", "check_seen", "declared"]

# Categories or columns that a message holds.
_SHOWN = 5

Categorical = bool | Sequence[str] | Mapping[str, Iterable[str]]


class Declared(NamedTuple):
    """Tables of numbers, and which of their columns are no real numbers.

    Attributes:
      values: float64 tables by split, `[N, D]`; a category is its code.
      names: of the columns.
      categories: by the name of a column, its categories in the order of their codes.
      integers: names of the columns of integers.
      found: names of the columns whose categories the rows told, and not the user.
    """

    values: dict[str, np.ndarray]
    names: list[str]
    categories: dict[str, tuple[str, ...]]
    integers: tuple[str, ...]
    found: tuple[str, ...]


def check_declared(name: str, value: Any) -> Any:
    """Returns what an argument of `load` declares: a bool, or names as text.

    Raises:
      TypeError: if it is neither.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{name} must be a list of names of columns, True or False, got {value!r}."
        )
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    return [str(v) for v in value]


def declared(
    values: Mapping[str, Any],
    names: Sequence[str] | None,
    what: str,
    categorical: Categorical,
    integer: bool | Sequence[str],
    words: Mapping[str, Sequence[str]] | None = None,
) -> Declared:
    """Makes numbers of the columns of tables that are declared.

    Args:
      values: arrays or data frames `[N, D]` by split; the rows to train on tell which
        categories there are, in the order of the alphabet, or of their numbers.
      names: of the columns; `None` for "0", "1" and so on.
      what: the data, for messages.
      categorical: names of columns of categories, or a mapping of them to their
        categories; true for the columns that hold no numbers.
      integer: names of columns of integers; true for those of whole numbers only.
      words: of columns that hold positions in lists of words, by name.

    Raises:
      ValueError: if there is no such column, a cell is missing, a category is not among
        those of its column, an integer is none, or the data are no tables.

    Example:
      >>> import numpy as np
      >>> x = np.array([["red", 1.5], ["blue", 2.0]], dtype=object)
      >>> found = declared({"train": x}, ["colour", "size"], "x", True, False)
      >>> found.categories, found.values["train"].tolist()
      ({'colour': ('blue', 'red')}, [[1.0, 1.5], [0.0, 2.0]])
    """
    tables = {split: _as_table(x, what) for split, x in values.items()}
    train = tables["train"]
    names = _checked_names(names, train.shape[1])
    words = words or {}
    if categorical is True:
        texts = {n for n in names if n in words} | {
            n for n, column in zip(names, train.T, strict=True) if _holds_text(column)
        }
        given: dict[str, Any] = dict.fromkeys(n for n in names if n in texts)
    elif isinstance(categorical, Mapping):
        given = dict(categorical)
    else:
        given = dict.fromkeys(categorical or ())
    check_known("categorical", given, names, what)
    coded = {split: np.empty(x.shape) for split, x in tables.items()}
    categories: dict[str, tuple[str, ...]] = {}
    for i, name in enumerate(names):
        cells = {split: x[:, i] for split, x in tables.items()}
        if name in given:
            texts_of = {
                split: _texts(c, words.get(name), f"{what}, column {name!r}")
                for split, c in cells.items()
            }
            of_column = _categories(name, given[name], texts_of["train"], what)
            if categorical is True:
                _check_no_numbers(name, of_column, what)
            for split, c in texts_of.items():
                coded[split][:, i] = _codes(c, of_column, name, f"{what}, {split}")
            categories[name] = of_column
            continue
        for split, c in cells.items():
            coded[split][:, i] = _numbers(c, name, what)
    if integer is True:
        columns = zip(names, coded["train"].T, strict=True)
        chosen = [n for n, c in columns if n not in given and _is_whole(c)]
    else:
        chosen = list(integer or ())
        check_known("integer", chosen, names, what)
    for name in chosen:
        if name in given:
            raise ValueError(f"column {name!r} is declared categorical and integer.")
        for split, x in coded.items():
            _check_whole(x[:, names.index(name)], name, f"{what}, {split}")
    found = tuple(name for name, of_column in given.items() if of_column is None)
    return Declared(coded, names, categories, tuple(chosen), found)


def check_seen(rows: Mapping[str, np.ndarray], declared: Declared, what: str) -> None:
    """Raises a ValueError if held-out rows have a category that others have not.

    Args:
      rows: coded rows by split.
      declared: what is known of their columns. Categories that the user listed may be
        missing among the rows to train on.
      what: the data, for messages.
    """
    for name in declared.found:
        i = declared.names.index(name)
        seen = np.unique(rows["train"][:, i])
        for split, x in rows.items():
            unseen = np.setdiff1d(x[:, i], seen).astype(int)
            if unseen.size:
                words = [declared.categories[name][code] for code in unseen]
                raise ValueError(
                    f"{what}: column {name!r} has the categories {_listed(words)} in "
                    f"the {split} rows but not in those to train on. Join rare "
                    "categories, leave their rows out, or list all categories: "
                    f"categorical={{{name!r}: [...]}}."
                )


def _as_table(x: Any, what: str) -> np.ndarray:
    x = x if isinstance(x, np.memmap) else np.asarray(x)
    if isinstance(x, np.memmap) or x.ndim != 2 or x.dtype.kind not in "fiubOUS":
        raise ValueError(
            f"{what}: categorical and integer are for tables [N, D] in memory, got "
            f"{type(x).__name__} {x.dtype} {list(x.shape)}."
        )
    if x.size == 0:
        raise ValueError(f"{what} is empty: its shape is {list(x.shape)}.")
    return x


def _checked_names(names: Sequence[str] | None, count: int) -> list[str]:
    return [str(i) for i in range(count)] if names is None else list(names)


def check_known(
    argument: str, given: Iterable[str], names: Sequence[str], what: str
) -> None:
    """Raises a ValueError unless each of some names is that of one column.

    Args:
      argument: that the names were given as.
      given: the names.
      names: of all columns.
      what: the data, for messages.
    """
    for name in given:
        if names.count(name) != 1:
            known = "two columns" if name in names else "no column"
            raise ValueError(
                f"{argument}: {what} has {known} {name!r}; its columns are "
                f"{_listed(names)}."
            )


def _holds_text(column: np.ndarray) -> bool:
    """Whether no cell of a column is a number."""
    return column.dtype.kind not in "fiub" and not any(map(_as_number, column))


def _as_number(cell: Any) -> str:
    """A cell as text, if it is a number."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return ""
    return str(cell)


def _check_no_numbers(name: str, categories: Sequence[str], what: str) -> None:
    numbers = [word for word in categories if _as_number(word)]
    if numbers:
        raise ValueError(
            f"{what}: column {name!r} holds words and numbers ({_listed(numbers)}): "
            f"if it holds categories, name it, categorical=[{name!r}]."
        )


def _texts(cells: np.ndarray, words: Sequence[str] | None, what: str) -> np.ndarray:
    """Cells as texts; numbers that are whole have no point."""
    if words is not None:
        return np.asarray(words)[cells.astype(np.int64)]
    texts = [_text(cell) for cell in cells.tolist()]
    if "" in texts:
        raise ValueError(
            f"{what}, row {texts.index('')}: the cell is empty. Write a word there, or "
            "leave the row out."
        )
    return np.asarray(texts)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        if math.isnan(cell):
            return ""
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return str(cell).strip()


def _categories(
    name: str, given: Iterable[str] | None, train: np.ndarray, what: str
) -> tuple[str, ...]:
    if given is not None:
        found = tuple(map(str, given))
    else:
        found = tuple(np.unique(train).tolist())
        if all(map(_as_number, found)):
            found = tuple(sorted(found, key=float))
    if len(set(found)) < max(2, len(found)):
        raise ValueError(
            f"{what}: column {name!r} must have two or more different categories, got "
            f"{_listed(found)}; leave a constant column out."
        )
    return found


def _codes(
    cells: np.ndarray, categories: Sequence[str], name: str, what: str
) -> np.ndarray:
    order = np.argsort(categories)
    ordered = np.asarray(categories)[order]
    where = np.minimum(np.searchsorted(ordered, cells), len(ordered) - 1)
    unknown = ordered[where] != cells
    if unknown.any():
        raise ValueError(
            f"{what}: column {name!r} holds the categories "
            f"{_listed(np.unique(cells[unknown]).tolist())}, which are not among those "
            f"to train on: {_listed(categories)}."
        )
    return order[where].astype(np.float64)


def _numbers(cells: np.ndarray, name: str, what: str) -> np.ndarray:
    try:
        return cells.astype(np.float64)
    except (TypeError, ValueError):
        wrong = next(cell for cell in cells.tolist() if not _as_number(cell))
        raise ValueError(
            f"{what}: column {name!r} holds {wrong!r}, which is no number; a column of "
            f"categories must be declared, categorical=[{name!r}]."
        ) from None


def _is_whole(column: np.ndarray) -> bool:
    return bool((column == np.round(column)).all() and np.ptp(column) > 0)


def _check_whole(column: np.ndarray, name: str, what: str) -> None:
    wrong = np.flatnonzero(column != np.round(column))
    if wrong.size:
        raise ValueError(
            f"{what}: column {name!r} is declared integer, but holds "
            f"{column[wrong[0]]:g}."
        )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(map(repr, words[:_SHOWN])) + more
