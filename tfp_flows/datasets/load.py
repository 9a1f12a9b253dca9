"""Loads data by name, from a file or from arrays."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfp_flows.core.arguments import check_choice, check_integer, check_shape
from tfp_flows.datasets.arrays import from_arrays
from tfp_flows.datasets.categories import check_declared
from tfp_flows.datasets.files import FILE_FORMATS, looks_like_a_file, read_file
from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MemorySplit
from tfp_flows.datasets.tabular import TABLES, load_table
from tfp_flows.datasets.tfds_sets import from_tfds, known_names
from tfp_flows.datasets.toys import TOYS, Toy

__all__ = ["load"]

_TOY_SIZES = (10_000, 2_000, 10_000)

_SUGGESTED = ("digits", "mnist", "fashion_mnist", "cifar10", "celeb_a")


def load(
    data: str | os.PathLike | Mapping[str, Any] | Any,
    *,
    data_dir: str | os.PathLike | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    tidy: bool = False,
    categorical: bool | Iterable[str] | Mapping[str, Iterable[str]] = False,
    integer: bool | Iterable[str] = False,
    download: bool = True,
    n: tuple[int, int, int] | None = None,
) -> DataSource:
    """Loads a data set and splits it into train, validation and test.

    `data` is one of

    - the name of a toy density in `TOYS`, such as "moons". Every split is drawn anew.
    - "power", "gas", "hepmass", "miniboone" or "bsds300": the tables that papers report
      densities of, from raw files that are yours to get; see
      `tfp_flows.datasets.tabular.load_table`.
    - "digits": 1,797 digits of 8x8 pixels that come with scikit-learn.
    - the name of an image set of TensorFlow Datasets, such as "mnist", "cifar10",
      "celeb_a" (218x178x3) or "emnist/letters": any with an `image` feature of one
      size. Class labels are its `label` feature, if that is categorical.
    - an array: vectors `[N, D]` or images `[N, H, W, C]`, uint8 (8-bit images, bounds
      (0, 256); also `[N, H, W]`) or floating point (continuous, no bounds).
    - a mapping of arrays: `x` and optionally `labels`, or `train` and optionally
      `validation`, `test`, `train_labels`, `validation_labels`, `test_labels`. The
      names that Keras gives its arrays, `x_train`, `y_train`, `x_test`, `y_test`, mean
      the same. Labels are integers from 0, `[N]`.
    - the path of a `.npy` file of such an array, of a `.npz` file of such a mapping,
      or of a table, `.csv`, `.tsv`, `.txt`, `.data` or `.dat`, also compressed as
      `.csv.gz` and so on: numbers separated by commas, semicolons, tabs or blanks, all
      of them features, with a first row of names if it holds no number; columns of
      words if they are declared `categorical`. Nothing is unpickled.

    Values become float32. Where that makes different values equal, as it does for a
    column such as 5,300,000 +- 0.5, a warning names the column.

    The values of a `.npy` file of more than 1 GiB stay on disk, and so do those of an
    `np.memmap`: `dataset` reads them in blocks, checks them as they are read and
    shuffles within windows of 64 blocks. What is in memory is 8 bytes for each row,
    and some tens of MB.

    If the data have a validation or test split, it is used. A missing one is held out
    from the training rows: a random choice for arrays and files, the last rows for
    image sets, which TensorFlow Datasets stores in a fixed shuffled order.

    Args:
      data: see above.
      data_dir: where TensorFlow Datasets keeps its data; None for its own default,
        `TFDS_DATA_DIR` or `~/tensorflow_datasets`. For the tables of papers, the folder
        of the raw files; None for `TFP_FLOWS_DATA_DIR` or one of these.
      validation: fraction, from 0 to below 1, of the training rows to hold out if there
        is no validation split.
      test: fraction of the training rows to hold out if there is no test split.
      seed: natural number, of a toy's points and of the rows held out from arrays and
        files, and of the noise of `tidy`.
      tidy: for tables of yours, whether to leave out constant columns, and to add noise
        to those of whole numbers and of two values, which have no density of their own;
        a warning names them. The noise is uniform from 0 to the step between values.
      categorical: for tables of yours, names of the columns of categories, or `True`
        for all that hold no numbers. Categories become codes from 0, in the order of
        the alphabet, or of their numbers; which there are, the rows to train on tell,
        and others are an error. A mapping of names to categories lists them, in the
        order of their codes.
      integer: for tables of yours, names of the columns of integers, or `True` for all
        of whole numbers. Integers and codes stay as they are, also with `tidy`: a flow
        with `dequantize={"name": "mixed", "columns": source.kinds}` is a distribution
        of them, see `tfp_flows.distributions.MixedDequantization`.
      download: whether a set that is not in `data_dir` may be downloaded.
      n: toys only: points to draw for train, validation and test; None for 10,000,
        2,000 and 10,000.

    Returns:
      The data source. Large sets are read when first used.

    Raises:
      TypeError: if `seed` or a number of `n` is not an integer, or `categorical` or
        `integer` are no names.
      ValueError: if the name is unknown, or shape, dtype or a value is not allowed.
      FileNotFoundError: if there is no such file, or no raw file of a table.
      DatasetUnavailableError: if the set is not prepared and cannot be downloaded.

    Example:
      >>> from tfp_flows import datasets
      >>> source = datasets.load("moons", n=(100, 10, 10))
      >>> source.event_shape, source.sizes
      ((2,), {'train': 100, 'validation': 10, 'test': 10})
    """
    seed = check_integer("seed", seed, 0)
    check_choice("tidy", tidy, (False, True))
    name = data if isinstance(data, str) else None
    is_set = name is not None and not looks_like_a_file(name)
    categorical = check_declared("categorical", categorical)
    integer = check_declared("integer", integer)
    for option, value in (
        ("tidy", tidy),
        ("categorical", categorical),
        ("integer", integer),
    ):
        if value and (is_set or name in {*TOYS, *TABLES}):
            raise ValueError(
                f"{option}={value} is for tables of yours, got data {data!r}."
            )
    if name in TOYS:
        return _sample_toy(TOYS[name], _TOY_SIZES if n is None else n, seed)
    if n is not None:
        raise ValueError(f"n is for toys only ({', '.join(TOYS)}), got data {data!r}.")
    if name is not None and name in TABLES:
        return load_table(name, data_dir)
    fractions: dict[str, Any] = {"validation": validation, "test": test}
    options: dict[str, Any] = {**fractions, "seed": seed, "tidy": tidy}
    options |= {"categorical": categorical, "integer": integer}
    if isinstance(data, (str, os.PathLike)) and not is_set:
        content = read_file(data, categorical)
        return from_arrays(
            content.arrays,
            name=Path(data).name,
            columns=content.columns,
            reopen=content.reopen,
            words=content.words,
            **options,
        )
    if isinstance(data, Mapping):
        return from_arrays(data, name="arrays", **options)
    if name is None:
        return from_arrays({"x": data}, name="array", **options)
    source = from_tfds(name, data_dir=data_dir, download=download, **fractions)
    if source is None:
        raise _unknown(name)
    return source


def _sample_toy(toy: Toy, n: tuple[int, int, int], seed: int) -> DataSource:
    sizes = check_shape("n", n, 0)
    if len(sizes) != 3 or sizes[0] < 1:
        raise ValueError(
            "n must be the numbers of points for train (1 or more), validation and "
            f"test, got {n}."
        )
    points = toy.sample(sum(sizes), seed)
    splits, start = {}, 0
    for split, size in zip(("train", "validation", "test"), sizes, strict=True):
        x = points[start : start + size]
        splits[split] = MemorySplit.of(x)
        start += size
    return DataSource(toy.name, (2,), None, None, splits)


def _unknown(name: str) -> ValueError:
    names = {*TOYS, *TABLES, *_SUGGESTED, *known_names()}
    # A name that differs in case is as close as can be.
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), lower, cutoff=0.75)
    did_you_mean = f" Did you mean {' or '.join(lower[c] for c in close)}?"
    return ValueError(
        f"There is no data set {name!r}.{did_you_mean if close else ''} Known are the "
        f"toys {', '.join(TOYS)}; the tables {', '.join(TABLES)}; "
        f"{', '.join(_SUGGESTED)} and the other image sets of TensorFlow Datasets; and "
        f"files that end in {', '.join(FILE_FORMATS)}."
    )
