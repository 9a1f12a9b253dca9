"""Arrays and tables from files: NumPy's and text. Nothing is unpickled."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from tfp_flows.datasets.categories import check_known

if TYPE_CHECKING:
    from _csv import Reader

__all__ = ["FILE_FORMATS", "Content", "looks_like_a_file", "read_file"]

_ARRAYS = (".npy", ".npz")
_TEXTS = (".csv", ".tsv", ".txt", ".data", ".dat")
_TABLES = (*_TEXTS, *(f"{ending}.gz" for ending in _TEXTS))

FILE_FORMATS = (*_ARRAYS, *_TABLES)

# What to do with files of other kinds.
_OTHER_FORMATS = {
    ".arff": "scipy.io.arff.loadarff",
    ".feather": "pandas.read_feather",
    ".h5": "h5py.File",
    ".hdf5": "h5py.File",
    ".json": "pandas.read_json",
    ".mat": "scipy.io.loadmat",
    ".ods": "pandas.read_excel",
    ".parquet": "pandas.read_parquet",
    ".pkl": "pickle.load, if you trust it (a pickle can run any code)",
    ".pickle": "pickle.load, if you trust it (a pickle can run any code)",
    ".pt": "torch.load",
    ".xls": "pandas.read_excel",
    ".xlsx": "pandas.read_excel",
    **dict.fromkeys((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"), "PIL.Image"),
}

# The values of a larger .npy file stay on disk.
_MEMORY_LIMIT = 2**30

# An array in a .npz file may unfold to so many bytes, or to so many times its size.
_UNFOLDS_TO = 2**30
_UNFOLDS_BY = 100

_SEPARATORS = (",", ";", "\t")

# Bytes of the longest line that a table may have: millions of numbers.
_LONGEST_LINE = 2**24


class Content(NamedTuple):
    """The content of a file.

    Attributes:
      arrays: values and labels by key, see `tfp_flows.datasets.load`.
      columns: names of the columns of a table, or `None`.
      reopen: maps the array `x` anew, if it stays on disk.
      words: by name, of the columns that were read as words: the different ones, in the
        order in which they occur. The array holds their positions in this list.
    """

    arrays: dict[str, np.ndarray]
    columns: list[str] | None = None
    reopen: Callable[[], np.ndarray] | None = None
    words: Mapping[str, list[str]] | None = None


def looks_like_a_file(name: str) -> bool:
    """Whether a text is meant as a path: by its ending, or because there is a file."""
    known = (*FILE_FORMATS, *_OTHER_FORMATS)
    return name.lower().endswith(known) or Path(name).expanduser().is_file()


def read_file(
    path: str | os.PathLike, categorical: bool | Iterable[str] = False
) -> Content:
    """Reads a file by its ending.

    Args:
      path: of the file.
      categorical: names of the columns of a table that hold words; true for those that
        begin with one that is no number.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is of another kind, damaged, or no table of numbers.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} (from {Path.cwd()}).")
    name = path.name.lower()
    if name.endswith(_TABLES):
        table, columns, words = _read_table(path, categorical)
        return Content({"x": table}, columns, words=words)
    if name.endswith(_ARRAYS):
        return _read_arrays(path)
    reader = _OTHER_FORMATS.get(path.suffix.lower())
    advice = (
        f"Read it in Python ({reader}) and save its numbers with numpy.save(name.npy, "
        "x)."
        if reader
        else "Save its numbers in one of them."
    )
    raise ValueError(
        f"{path} cannot be read: files must be {', '.join(FILE_FORMATS)}. {advice}"
    )


# NumPy's files.


def _read_arrays(path: Path) -> Content:
    size = path.stat().st_size
    try:
        if path.suffix.lower() == ".npz":
            return Content(_read_archive(path))
        with path.open("rb") as file:
            _check_header(file, size, path.name)
        if size > _MEMORY_LIMIT:
            reopen = functools.partial(np.load, path, "r")
            # Mapped anew for every read: pages that were read are let go.
            return Content({"x": reopen()}, reopen=reopen)
        return Content({"x": np.load(path, allow_pickle=False)})
    except MemoryError as error:
        raise ValueError(f"{path} does not fit into memory: {error}") from error
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is not a readable {path.suffix} file of numbers: {error}"
        ) from error


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                _check_header(file, info.file_size, info.filename)
            if info.file_size > max(_UNFOLDS_TO, _UNFOLDS_BY * info.compress_size):
                raise ValueError(
                    f"{info.filename} would unfold from {info.compress_size:,} to "
                    f"{info.file_size:,} bytes"
                )
    with np.load(path, allow_pickle=False) as content:
        return dict(content.items())


def _check_header(file: IO[bytes], size: int, name: str) -> None:
    """Compares what the header of an array declares with the bytes that there are."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"{name} has format {version}, which no plain array has")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never unpickled")
    declared = math.prod(shape) * dtype.itemsize
    if declared > size:
        raise ValueError(
            f"{name} declares {dtype.name} {list(shape)}, which is {declared:,} bytes, "
            f"but has {size:,}"
        )


# Tables.


_Table = tuple[np.ndarray, list[str], dict[str, list[str]]]


def _read_table(path: Path, categorical: bool | Iterable[str]) -> _Table:
    """Float table `[N, D]`, the names of its columns, and the words in some of them."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            _check_lines(file, path)
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            return _parse_table(file, path.name, categorical)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table in UTF-8: {error}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable .gz file: {error}") from error


def _check_lines(file: Any, path: Path) -> None:
    """Raises an error before a table is read that would fill the memory."""
    size = path.stat().st_size
    limit = max(_UNFOLDS_TO, _UNFOLDS_BY * size)
    is_packed = path.name.lower().endswith(".gz")
    read = line = 0
    while chunk := file.read(2**20):
        read += len(chunk)
        if is_packed and read > limit:
            raise ValueError(
                f"{path} would unfold from {size:,} to more than {limit:,} bytes."
            )
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        line = line + len(chunk) if end < 0 else len(chunk) - end - 1
        if line > _LONGEST_LINE:
            raise ValueError(
                f"{path} has a line of more than {_LONGEST_LINE:,} bytes: it is no "
                "table of numbers. Save wide arrays as .npy."
            )


def _parse_table(file: TextIO, name: str, categorical: bool | Iterable[str]) -> _Table:
    separator = _separator(file)
    if separator == " ":
        file = io.StringIO("\n".join(",".join(line.split()) for line in file))
        separator = ","
    reader = csv.reader(file, delimiter=separator)
    first = next(filter(None, reader), [])
    # Numbers with a decimal comma are no names either.
    is_data = any(_is_number(cell.replace(",", ".", 1)) for cell in first)
    header = 0 if is_data else reader.line_num
    columns = (
        [c.strip() for c in first] if header else list(map(str, range(len(first))))
    )
    if categorical is True:
        row = next(filter(None, reader), []) if header else first
        pairs = zip(columns, row, strict=False)
        categorical = [column for column, cell in pairs if not _is_number(cell)]
    check_known("categorical", categorical or (), columns, name)
    words = {column: _Words() for column in categorical or ()}
    file.seek(0)
    for _ in range(header):
        file.readline()
    try:
        with warnings.catch_warnings():
            # NumPy warns of a file without rows, which is an error later.
            warnings.simplefilter("ignore", UserWarning)
            table = np.loadtxt(
                file,
                delimiter=separator,
                quotechar='"',
                comments=None,
                ndmin=2,
                encoding="utf-8",
                converters={columns.index(k): w.position for k, w in words.items()}
                or None,
            )
        if table.size and table.shape[1] != len(columns):
            raise ValueError("rows and names differ in number")
    except ValueError as error:
        file.seek(0)
        rows = csv.reader(file, delimiter=separator)
        _raise_bad_row(rows, name, columns, header, words)
        raise ValueError(f"{name} is not a numeric table: {error}") from error
    return table, columns, {column: list(found) for column, found in words.items()}


class _Words(dict[str, float]):
    """The words of a column, with their positions in the order in which they occur."""

    def position(self, cell: str) -> float:
        """The position of the word in a cell.

        Raises:
          ValueError: if there is none.
        """
        if not (word := cell.strip()):
            raise ValueError("a cell is empty.")
        return self.setdefault(word, float(len(self)))


def _separator(file: TextIO) -> str:
    """The separator of the first line, quoted text left out.

    Where there are semicolons or tabs between numbers, commas are within them. A blank
    is any number of them, if the first two lines have as many words.
    """
    line, second = (next((line for line in file if line.strip()), "") for _ in range(2))
    file.seek(0)
    if not any(separator in line for separator in _SEPARATORS):
        return " " if 1 < len(line.split()) == len(second.split()) else ","
    line = re.sub('"[^"]*"', "", line)
    others = max(_SEPARATORS[1:], key=line.count)
    cells = [cell.strip().replace(",", ".", 1) for cell in line.split(others)]
    if len(cells) > 1 and all(map(_is_number, cells)):
        return others
    return max(_SEPARATORS, key=line.count)


def _raise_bad_row(
    rows: Reader,
    name: str,
    columns: Sequence[str],
    header: int,
    words: Iterable[str],
) -> None:
    """Names the first cell that is no number, or row that has too many or too few.

    Columns of words may hold anything but nothing.
    """
    for row in rows:
        if not row or rows.line_num <= header:
            continue
        where = f"{name}, row {rows.line_num}"
        if len(row) != len(columns):
            raise ValueError(
                f"{where}: {len(row)} cells, but the table has {len(columns)} columns."
            )
        for column, cell in zip(columns, row, strict=True):
            if column in words:
                if not cell.strip():
                    raise ValueError(
                        f"{where}, column {column!r}: the cell is empty. Write a word "
                        "there, or leave the row out."
                    )
            elif not _is_number(cell):
                raise ValueError(
                    f"{where}, column {column!r}: {cell!r} is no number"
                    f"{_hint(cell, column)}."
                )


def _hint(cell: str, column: str) -> str:
    if not cell.strip():
        return ""
    if _is_number(cell.replace(",", ".", 1)):
        return " (decimals need a point)"
    return (
        f"; a column of categories must be declared, categorical=[{column!r}] "
        f"(--categorical {column})"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
