"""Image sets of TensorFlow Datasets."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import tensorflow as tf

from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MemorySplit, Split, StreamSplit
from tfp_flows.datasets.tables import hold_out

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

__all__ = ["DatasetUnavailableError", "from_tfds", "known_names"]

# A split whose stored values need more bytes is read from disk in every epoch.
_MEMORY_LIMIT = 2**30

# The set that is prepared without a download, and the end of its pixels' range.
_EMBEDDED = "digits"
_EMBEDDED_HIGH = 17.0

# Seconds to wait for a download server's answer.
_PATIENCE = 5.0

# name, name/config, name:1.2.3 or both; nothing that TFDS would look for in a path or
# in another hub.
_NAME = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?")


class DatasetUnavailableError(RuntimeError):
    """A data set is not on this machine and could not be brought here."""


def from_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike | None,
    validation: float,
    test: float,
    download: bool,
) -> DataSource | None:
    """An image set by its name in TensorFlow Datasets. See `load`.

    Returns:
      The source, or None if there is no data set of this name.

    Raises:
      DatasetUnavailableError: if it is not prepared and cannot be.
      ValueError: if it is no set of 8- or 16-bit images of one size.
    """
    builder = _builder(name, data_dir)
    if builder is None:
        return None
    # Checked before anything is downloaded.
    image, classes = _features(builder, name)
    builder = _prepared(builder, name, data_dir, download)
    high = _EMBEDDED_HIGH if name == _EMBEDDED else np.iinfo(image.np_dtype).max + 1
    return DataSource(
        name,
        image.shape,
        (0.0, float(high)),
        classes,
        _splits(builder, name, classes is not None, validation, test),
    )


def known_names() -> list[str]:
    """Names of all data sets that TensorFlow Datasets has, of images or not."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _builder(
    name: str, data_dir: str | os.PathLike | None
) -> tfds.core.DatasetBuilder | None:
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    if name == _EMBEDDED:
        from tfp_flows.datasets.digits import Digits

        with _quiet():
            return Digits(data_dir=data_dir)
    if not _NAME.fullmatch(name):
        return None
    try:
        with _quiet():
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        return None
    except (AssertionError, ValueError) as error:
        # The data set is known, its configuration or version is not.
        raise ValueError(f"{name!r} cannot be loaded: {error}") from error


def _features(
    builder: tfds.core.DatasetBuilder, name: str
) -> tuple[tfds.features.Image, int | None]:
    """The image feature, and the number of classes if there are labels."""
    import tensorflow_datasets as tfds

    # A FeaturesDict has no get().
    features = dict(builder.info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        raise ValueError(
            f"{name} is no image set: it has no feature 'image' among {list(features)}."
        )
    if None in image.shape:
        raise ValueError(
            f"{name} has images of variable size {image.shape}, but a flow needs one "
            "size: resize them and load the result as an array [N, H, W, C] of uint8."
        )
    if image.np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{name} has {np.dtype(image.np_dtype).name} images; uint8 and uint16 "
            "images can be loaded by name. Load others as an array."
        )
    label = features.get("label")
    labelled = isinstance(label, tfds.features.ClassLabel)
    return image, label.num_classes if labelled else None


def _prepared(
    builder: tfds.core.DatasetBuilder,
    name: str,
    data_dir: str | os.PathLike | None,
    download: bool,
) -> tfds.core.DatasetBuilder:
    """A builder whose data are on this machine."""
    if _is_prepared(builder):
        return builder
    if name != _EMBEDDED:
        if not download:
            raise _unavailable(builder, name, "download=False was given")
        _check_connection(builder, name)
    try:
        with _quiet(progress=name != _EMBEDDED), _own_random_state():
            builder.download_and_prepare()
    except Exception as error:
        # Another process may have been faster. TFDS then cannot rename its folder to
        # one that exists, but the data are there.
        builder = _builder(name, data_dir)
        if not _is_prepared(builder):
            raise _unavailable(builder, name, str(error)) from error
    return builder


def _is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    with _quiet():
        return builder.is_prepared()


def _check_connection(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Fails within seconds where TFDS would try every URL ten times for minutes."""
    import requests

    urls = builder.url_infos or {}
    servers = {urlsplit(url)[:2]: url for url in urls if url.startswith("http")}
    failure = None
    for url in servers.values():
        try:
            requests.head(url, timeout=_PATIENCE)
        except requests.exceptions.RequestException as error:
            failure = error
        else:
            return
    if failure:
        hosts = ", ".join(sorted({host for _, host in servers}))
        raise _unavailable(builder, name, f"no connection to {hosts}") from failure


def _unavailable(
    builder: tfds.core.DatasetBuilder, name: str, reason: str
) -> DatasetUnavailableError:
    message = (
        f"{name} is not prepared in {builder.data_dir} and could not be prepared "
        f"there: {reason}.\n"
    )
    if name == _EMBEDDED:
        return DatasetUnavailableError(
            message + "Name a folder that can be written with data_dir=... or in the "
            "environment variable TFDS_DATA_DIR."
        )
    return DatasetUnavailableError(
        message + "On a machine with internet, run\n"
        f'  python -c "import tensorflow_datasets as tfds; tfds.load({name!r})"\n'
        "and copy its folder ~/tensorflow_datasets here: to your home, or to a folder "
        "that you name with data_dir=... or in the environment variable TFDS_DATA_DIR."
    )


def _splits(
    builder: tfds.core.DatasetBuilder,
    name: str,
    labelled: bool,
    validation: float,
    test: float,
) -> dict[str, Split]:
    stored = {s: builder.info.splits[s].num_examples for s in builder.info.splits}
    if "train" not in stored:
        raise ValueError(f"{name} has no split 'train', only {list(stored)}.")
    parts = {s: slice(0, stored[s]) for s in ("validation", "test") if s in stored}
    held_out = hold_out(stored["train"], parts, name, validation, test)
    splits: dict[str, Split] = {}
    for split in ("train", "validation", "test"):
        source = "train" if split in held_out else split
        part = held_out.get(split) or parts[split]
        splits[split] = _split(builder, source, part, labelled)
    return splits


def _split(
    builder: tfds.core.DatasetBuilder, stored: str, part: slice, labelled: bool
) -> Split:
    """The examples of a stored split at the positions of a slice."""
    import tensorflow_datasets as tfds

    image = builder.info.features["image"]
    size = part.stop - part.start

    def read(batch_size: int | None, decode: bool) -> tf.data.Dataset:
        with _quiet():
            rows = builder.as_dataset(
                split=tfds.core.ReadInstruction(
                    stored, from_=part.start, to=part.stop, unit="abs"
                ),
                batch_size=batch_size,
                shuffle_files=False,
                decoders=tfds.decode.PartialDecoding(
                    {"image": True} | ({"label": True} if labelled else {}),
                    decoders=None if decode else {"image": tfds.decode.SkipDecoding()},
                ),
                read_config=tfds.ReadConfig(try_autocache=False),
            )
        return rows.map(
            lambda row: (row["image"], *([row["label"]] if labelled else []))
        )

    def load() -> tuple[np.ndarray, np.ndarray | None]:
        batches = read(1024, decode=True).as_numpy_iterator()
        x, *labels = (np.concatenate(a) for a in zip(*batches, strict=True))
        return x, labels[0] if labels else None

    if (
        size * math.prod(image.shape) * np.dtype(image.np_dtype).itemsize
        > _MEMORY_LIMIT
    ):
        return StreamSplit(size, lambda: read(None, decode=False), image.decode_example)
    return MemorySplit(size, load)


@contextlib.contextmanager
def _quiet(progress: bool = False) -> Iterator[None]:
    """Keeps TFDS from printing; with `progress`, lets it report downloads on stderr."""
    from absl import logging as absl_logging
    from tensorflow_datasets.core.utils import tqdm_utils

    verbosity = absl_logging.get_verbosity()
    bars = getattr(tqdm_utils, "_active", True)
    absl_logging.set_verbosity(absl_logging.ERROR)
    # A progress bar in a log file is a flood of lines.
    tqdm_utils.display_progress_bar(bars and progress and sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(sys.stderr if progress else io.StringIO()):
            yield
    finally:
        tqdm_utils.display_progress_bar(bars)
        absl_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _own_random_state() -> Iterator[None]:
    """Seeds Python's generator anew, and restores it.

    TFDS names its temporary folder with it, so that two processes with the same seed
    would write into one folder.
    """
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)
