"""The five tables of the papers on density estimation, made of their raw files.

The steps are those of Papamakarios et al. 2017, Masked Autoregressive Flow, appendix D,
and of the code published with it. Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np

from tfp_flows.core.extras import needs
from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MemorySplit

__all__ = ["TABLES", "Table", "load_table"]

# What files raise that hold other than they should; `ValueError` says it by itself.
_DAMAGED = (
    EOFError,
    KeyError,
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

_SPLITS = ("train", "validation", "test")

# Columns whose smallest value occurs more often than this are not continuous.
_MOST_EQUAL = 5

# Columns of GAS that are more alike than this are one.
_MOST_CORRELATED = 0.98

# Rows of HEPMASS that are looked at: the first tenth of either file.
_HEPMASS_ROWS = {"1000_train.csv": 700_000, "1000_test.csv": 350_000}

# What MINIBOONE has where nothing was measured is far below.
_LEAST_MEASURED = -100.0

_PATCH = 8
_PATCHES = (1_000_000, 50_000, 250_000)

# Of so many images of BSDS300 to train on, alike in contrast, one is for validation.
_HELD_OUT = 10

# Patches that are worked on at once.
_PART = 100_000


@dataclass(frozen=True)
class Table:
    """A table that papers report densities of.

    Attributes:
      name: as `tfp_flows.datasets.load` takes it.
      sizes: rows for train, validation and test, as published.
      features: number of columns, as published.
      gaussian: mean log-density of the test rows, in nats, under a Gaussian with a full
        covariance, as published (Papamakarios et al. 2017, table 1).
      files: what it is made of, under any of these names.
      address: where they can be had.
    """

    name: str
    sizes: tuple[int, int, int]
    features: int
    gaussian: float
    files: tuple[str, ...]
    address: str


_UCI = "https://archive.ics.uci.edu/dataset/"

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        Table(
            "power",
            (1_659_917, 184_435, 204_928),
            6,
            -7.74,
            ("household_power_consumption.txt",),
            f"{_UCI}235 (Individual Household Electric Power Consumption)",
        ),
        Table(
            "gas",
            (852_174, 94_685, 105_206),
            8,
            -3.58,
            ("ethylene_CO.txt",),
            f"{_UCI}322 (Gas Sensor Array under Dynamic Gas Mixtures)",
        ),
        Table(
            "hepmass",
            (315_123, 35_013, 174_987),
            21,
            -27.93,
            ("1000_train.csv", "1000_test.csv"),
            f"{_UCI}347 (HEPMASS)",
        ),
        Table(
            "miniboone",
            (29_556, 3_284, 3_648),
            43,
            -37.24,
            ("MiniBooNE_PID.txt",),
            f"{_UCI}199 (MiniBooNE Particle Identification)",
        ),
        Table(
            "bsds300",
            _PATCHES,
            _PATCH**2 - 1,
            96.67,
            (
                "BSDS300/images/train and BSDS300/images/test",
                "BSDS300-images.tgz",
                "bsds300_gray.npz",
                "BSDS300.hdf5",
            ),
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/ (The "
            "Berkeley Segmentation Dataset, images); BSDS300.hdf5 from "
            "https://zenodo.org/records/1161203",
        ),
    )
}


def load_table(name: str, data_dir: str | os.PathLike | None = None) -> DataSource:
    """One of `TABLES` from its raw files, the same rows in the same splits every time.

    Each table has the features, the rows and the units of the papers, so likelihoods in
    nats compare with theirs:

    - power: minutes of a household's consumption. The date, the reactive power and the
      intensity are left out; the time becomes the minute of the day. Rows with missing
      values go. Uniform noise as wide as the last digit makes the others continuous:
      0.001 for the power, 0.01 for the voltage, 1 for the three meters and the minute.
      The order of the rows and all noise but the minute's are those of the authors'
      seed.
    - gas: sixteen sensors, of a random quarter of the rows. As long as columns are
      there whose correlation is above 0.98, the first that has such another goes.
    - hepmass: the signals among the first tenth of the rows. Columns whose smallest
      value occurs more than five times go.
    - miniboone: the signals, but for those where nothing was measured. Columns go as
      for hepmass.
    - bsds300: patches of 8x8 pixels from natural images, in grey, from anywhere in any
      of them. With uniform noise on each pixel, divided by 256, and the mean of the
      patch subtracted; the last pixel, which the others then determine, is left out.
      A tenth of the images to train on is for validation, from low to high contrast.

    A tenth of the rows, in the order of the file, is the test split, and a tenth of the
    rest is for validation; hepmass has a test file. All but bsds300 are standardised:
    by train and validation, gas by all rows, as there.

    The raw files are looked for in the folder, and in its folders that are called as
    the table and `downloads/manual`, where TensorFlow Datasets has what was downloaded
    by hand: as they are, compressed as `.gz`, or in a `.zip`. Of the files that the
    authors prepared (https://zenodo.org/records/1161203), those of bsds300 and hepmass
    do as well. That of gas is a pickle, which is never read.

    Args:
      name: of the table.
      data_dir: folder of the raw files; None for that of the environment variable
        `TFP_FLOWS_DATA_DIR`, then `TFDS_DATA_DIR`, then `~/tensorflow_datasets`.

    Returns:
      The data, float32 `[N, D]`, without bounds. Where their sizes are not the
      published ones, a warning says so.

    Raises:
      FileNotFoundError: if a raw file is missing; the message says where it can be had.
      ValueError: if the name is unknown, or a file is not in the format of that table.

    Example:
      >>> from tfp_flows.datasets import tabular
      >>> tabular.TABLES["miniboone"].sizes
      (29556, 3284, 3648)
    """
    if name not in TABLES:
        raise ValueError(f"name must be one of {', '.join(TABLES)}, got {name!r}.")
    table = TABLES[name]
    raw = _Raw(table, _folders(name, data_dir))
    try:
        parts, columns = _READERS[name](raw)
    except _DAMAGED as error:
        raise ValueError(
            f"A raw file of {name} is damaged, or another: {error}"
        ) from error
    source = DataSource(
        name,
        (len(columns),),
        None,
        None,
        {
            split: MemorySplit.of(np.ascontiguousarray(x, np.float32))
            for split, x in zip(_SPLITS, parts, strict=True)
        },
        tuple(columns),
    )
    _warn_of_other_sizes(table, source)
    return source


def _warn_of_other_sizes(table: Table, source: DataSource) -> None:
    found = (*source.sizes.values(), *source.event_shape)
    published = (*table.sizes, table.features)
    if found != published:
        of = "rows for train, validation and test, and features"
        warnings.warn(
            f"{table.name} has {' / '.join(f'{n:,}' for n in found)} {of}, but "
            f"{' / '.join(f'{n:,}' for n in published)} were published: likelihoods do "
            "not compare with those of papers. Are the raw files whole?",
            stacklevel=4,
        )


# Raw files.


def _folders(name: str, data_dir: str | os.PathLike | None) -> list[Path]:
    """Where the raw files of a table may lie."""
    if data_dir is None:
        data_dir = (
            os.environ.get("TFP_FLOWS_DATA_DIR")
            or os.environ.get("TFDS_DATA_DIR")
            or "~/tensorflow_datasets"
        )
    base = Path(data_dir).expanduser()
    manual = base / "downloads" / "manual"
    return [base, base / name, manual, manual / name]


class _Raw:
    """The raw files of a table."""

    def __init__(self, table: Table, folders: Sequence[Path]):
        self.table, self.folders = table, folders

    def path(self, name: str) -> Path | None:
        """A file or folder of that name, if there is one."""
        paths = (folder / name for folder in self.folders)
        return next((path for path in paths if path.exists()), None)

    def text(self, name: str) -> TextIO:
        """Opens a file: as it is, compressed, or in an archive."""
        if path := self.path(name):
            return path.open(encoding="utf-8")
        if path := self.path(f"{name}.gz"):
            return io.TextIOWrapper(gzip.GzipFile(path), "utf-8")
        for folder in self.folders:
            for packed in sorted(folder.glob("*.zip")):
                with zipfile.ZipFile(packed) as archive:
                    for member in archive.namelist():
                        if Path(member).name == name:
                            return io.TextIOWrapper(archive.open(member), "utf-8")
                        if Path(member).name == f"{name}.gz":
                            file = gzip.GzipFile(fileobj=archive.open(member))
                            return io.TextIOWrapper(file, "utf-8")
        raise self.missing(name)

    def missing(self, name: str) -> FileNotFoundError:
        table = self.table
        return FileNotFoundError(
            f"{table.name} needs {name}, which is in none of "
            f"{', '.join(map(str, self.folders))}. Get it from {table.address}, and "
            "name its folder: data_dir=..., --data-dir, or the environment variable "
            "TFP_FLOWS_DATA_DIR."
        )


def _rows(raw: _Raw, name: str, lines: Iterator[str], **options: Any) -> np.ndarray:
    """Numbers `[N, D]` of lines, by `np.loadtxt`."""
    try:
        with warnings.catch_warnings():
            # NumPy warns of no rows, which is an error here.
            warnings.simplefilter("ignore", UserWarning)
            rows = np.loadtxt(lines, comments=None, ndmin=2, **options)
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{name} is not the file of {raw.table.name} that is at "
            f"{raw.table.address}: {error}"
        ) from error
    if len(rows) < 20:
        raise ValueError(
            f"{name} of {raw.table.name} has {len(rows)} rows that can be used."
        )
    return rows


def _header(raw: _Raw, name: str, file: Iterator[str], known: str) -> None:
    """Reads the first line, which must begin with what is known of it."""
    line = next(file, "").strip()
    if not line.lower().startswith(known.lower()):
        raise ValueError(
            f"{name} is not the file of {raw.table.name} that is at "
            f"{raw.table.address}: its first line should begin with {known!r}, got "
            f"{line[:60]!r}."
        )


# What several tables share.

_Parts = tuple[np.ndarray, ...]


def _tenths(x: np.ndarray) -> _Parts:
    """Rows for train, validation and test, from the first to the last."""
    test = int(0.1 * len(x))
    validation = int(0.1 * (len(x) - test))
    end = len(x) - test
    return x[: end - validation], x[end - validation : end], x[end:]


def _standardised(parts: _Parts) -> _Parts:
    """Rows in units of the deviation of train and validation."""
    seen = np.concatenate(parts[:2])
    mean, scale = seen.mean(0), seen.std(0)
    return tuple((x - mean) / scale for x in parts)


def _continuous(x: np.ndarray) -> np.ndarray:
    """Which columns have a smallest value that hardly occurs again."""
    return (x == x.min(0)).sum(0) <= _MOST_EQUAL


def _chosen(names: Sequence[str], keep: np.ndarray) -> list[str]:
    return [names[i] for i in np.flatnonzero(keep).tolist()]


# Tables.


def _power(raw: _Raw) -> tuple[_Parts, list[str]]:
    name = "household_power_consumption.txt"
    columns = [
        "Global_active_power",
        "Voltage",
        "Sub_metering_1",
        "Sub_metering_2",
        "Sub_metering_3",
        "Minute",
    ]
    with raw.text(name) as file:
        _header(raw, name, file, "Date;Time;Global_active_power;Global_reactive_power;")
        x = _rows(
            raw,
            name,
            # Missing is a question mark, or nothing.
            (line for line in file if "?" not in line and ";;" not in line),
            delimiter=";",
            usecols=(2, 4, 6, 7, 8, 1),
            converters={1: _minute},
        )
    # The stream of `RandomState` never changes; this is the authors' order of draws,
    # and the minute's noise, of which their code has none, comes after it.
    rng = np.random.RandomState(42)
    x = x[rng.permutation(len(x))]
    x[:, 1] += 0.01 * rng.rand(len(x))
    x[:, 0] += 0.001 * rng.rand(len(x))
    x[:, 2:5] += rng.rand(len(x), 3)
    x[:, 5] += rng.rand(len(x))
    return _standardised(_tenths(x)), columns


def _minute(time: str) -> float:
    """The minute of the day of "17:24:00"."""
    hour, minute, _ = time.split(":")
    return 60.0 * int(hour) + int(minute)


def _gas(raw: _Raw) -> tuple[_Parts, list[str]]:
    name = "ethylene_CO.txt"
    with raw.text(name) as file:
        _header(raw, name, file, "Time (seconds)")
        x = _rows(raw, name, file, usecols=range(3, 19), dtype=np.float32)
    chosen = np.random.RandomState(42).permutation(len(x))[: round(0.25 * len(x))]
    x = x[chosen].astype(np.float64)
    keep = _unlike(x)
    x = x[:, keep]
    x = (x - x.mean(0)) / x.std(0, ddof=1)
    return _tenths(x), _chosen([f"sensor_{i + 1}" for i in range(16)], keep)


def _unlike(x: np.ndarray) -> np.ndarray:
    """Which columns are left when, one by one, the first that has a like goes."""
    alike = np.corrcoef(x, rowvar=False) > _MOST_CORRELATED
    keep = np.ones(len(alike), bool)
    while (several := keep & (alike[:, keep].sum(1) > 1)).any():
        keep[several.argmax()] = False
    return keep


def _hepmass(raw: _Raw) -> tuple[_Parts, list[str]]:
    signals = {}
    for name, limit in _HEPMASS_ROWS.items():
        with raw.text(name) as file:
            _header(raw, name, file, "# label")
            # The label and 27 features. The test file has a column more.
            x = _rows(raw, name, file, delimiter=",", usecols=range(28), max_rows=limit)
        signals[name] = x[x[:, 0] == 1, 1:]
    train, test = signals.values()
    keep = _continuous(train)
    mean, scale = train.mean(0), train.std(0, ddof=1)
    train, test = ((x[:, keep] - mean[keep]) / scale[keep] for x in (train, test))
    end = len(train) - int(0.1 * len(train))
    return (train[:end], train[end:], test), _chosen([f"f{i}" for i in range(27)], keep)


def _miniboone(raw: _Raw) -> tuple[_Parts, list[str]]:
    name = "MiniBooNE_PID.txt"
    with raw.text(name) as file:
        counts = next(file, "").split()
        if len(counts) != 2 or not all(count.isdigit() for count in counts):
            raise ValueError(
                f"{name} is not the file of miniboone that is at {raw.table.address}: "
                "its first line should be the numbers of signals and of background "
                f"events, got {' '.join(counts)[:60]!r}."
            )
        # The signals come first.
        x = _rows(raw, name, file, max_rows=int(counts[0]), usecols=range(50))
    x = x[x[:, 0] >= _LEAST_MEASURED]
    keep = _continuous(x)
    columns = _chosen([f"pid_{i}" for i in range(50)], keep)
    return _standardised(_tenths(x[:, keep])), columns


def _bsds300(raw: _Raw) -> tuple[_Parts, list[str]]:
    columns = [f"pixel_{i}_{j}" for i in range(_PATCH) for j in range(_PATCH)][:-1]
    if path := raw.path("BSDS300.hdf5"):
        with h5py.File(path) as file:
            return tuple(file[split][:] for split in _SPLITS), columns
    images = _images(raw)
    train, test = (images[kind] for kind in ("train", "test"))
    if not test or len(train) < _HELD_OUT:
        raise ValueError(
            f"bsds300 needs images to train and to test, found {len(train)} and "
            f"{len(test)}; there are 200 and 100 at {raw.table.address}."
        )
    if (len(train), len(test)) != (200, 100):
        warnings.warn(
            f"bsds300 is made of {len(train)} and {len(test)} images, but 200 and 100 "
            "were published: likelihoods do not compare with those of papers.",
            stacklevel=4,
        )
    # By how much neighbours differ: so the validation split is like the train split.
    contrast = [np.abs(np.diff(image.astype(np.float32))).mean() for image in train]
    order = np.argsort(contrast, kind="stable").tolist()
    held_out = order[_HELD_OUT // 2 :: _HELD_OUT]
    of_split = (
        [image for i, image in enumerate(train) if i not in held_out],
        [train[i] for i in held_out],
        test,
    )
    parts = tuple(
        _patches(chosen, count, seed)
        for seed, (chosen, count) in enumerate(zip(of_split, _PATCHES, strict=True))
    )
    return parts, columns


def _images(raw: _Raw) -> dict[str, list[np.ndarray]]:
    """Grey images `[H, W]`, uint8, to train and to test, in the order of their numbers.

    An archive holds them as `train` and `test`, `[N, H, W]`; `train_transposed` and
    `test_transposed`, if they are there, tell which are to be turned.
    """
    if path := raw.path("bsds300_gray.npz"):
        with np.load(path, allow_pickle=False) as found:
            return {kind: _turned(found, kind) for kind in ("train", "test")}
    images: dict[str, dict[int, np.ndarray]] = {"train": {}, "test": {}}
    for where, content in _jpegs(raw):
        if where.parent.name in images and where.stem.isdigit():
            images[where.parent.name][int(where.stem)] = _grey(content)
    return {kind: [images[kind][i] for i in sorted(images[kind])] for kind in images}


def _turned(found: Mapping[str, np.ndarray], kind: str) -> list[np.ndarray]:
    stored = found[kind]
    turned = found.get(f"{kind}_transposed", np.zeros(len(stored), bool))
    return [x.T if t else x for x, t in zip(stored, turned, strict=True)]


def _jpegs(raw: _Raw) -> Iterator[tuple[Path, bytes]]:
    """Names and contents of all files `images/{train,test}/NUMBER.jpg`."""
    if folder := raw.path("BSDS300/images") or raw.path("images"):
        for file in folder.glob("t*/*.jpg"):
            yield file, file.read_bytes()
    elif packed := raw.path("BSDS300-images.tgz"):
        with tarfile.open(packed) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content and Path(member.name).match("images/t*/*.jpg"):
                    yield Path(member.name), content.read()
    else:
        raise raw.missing(" or ".join(raw.table.files))


def _grey(content: bytes) -> np.ndarray:
    with needs("data"):
        from PIL import Image
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def _patches(images: Sequence[np.ndarray], count: int, seed: int) -> np.ndarray:
    """Patches from anywhere in any image, float32 `[count, 63]`."""
    rng = np.random.default_rng(seed)
    of_image = rng.integers(len(images), size=count)
    pixels = np.empty((count, _PATCH, _PATCH), np.uint8)
    for i, image in enumerate(images):
        windows = np.lib.stride_tricks.sliding_window_view(image, (_PATCH, _PATCH))
        (rows,) = np.nonzero(of_image == i)
        top, left = (rng.integers(size, size=len(rows)) for size in windows.shape[:2])
        pixels[rows] = windows[top, left]
    x = np.empty((count, _PATCH**2 - 1), np.float32)
    for start in range(0, count, _PART):
        part = pixels[start : start + _PART].reshape(-1, _PATCH**2)
        noisy = (part + rng.random(part.shape, np.float32)) / np.float32(256)
        x[start : start + _PART] = (noisy - noisy.mean(1, keepdims=True))[:, :-1]
    return x


_READERS: Mapping[str, Callable[[_Raw], tuple[_Parts, list[str]]]] = {
    "power": _power,
    "gas": _gas,
    "hepmass": _hepmass,
    "miniboone": _miniboone,
    "bsds300": _bsds300,
}
