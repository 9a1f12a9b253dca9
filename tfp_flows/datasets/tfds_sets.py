"""Image sets of TensorFlow Datasets."""

from __future__ import annotations

import contextlib
import dataclasses
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

from tfp_flows.datasets.arrays import hold_out
from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.splits import MemorySplit, Split, StreamSplit

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

__all__ = ["DatasetUnavailableError", "about_set", "from_tfds", "known_names"]

# A split whose stored values need more bytes is read from disk in every epoch.
_MEMORY_LIMIT = 2**30

# The set that is prepared without a download, and the end of its pixels' range.
_EMBEDDED = "digits"
_EMBEDDED_HIGH = 17.0

# Seconds to wait for a download server's answer.
_PATIENCE = 5.0

# Sets of which there are several versions, and what to know of each.
_ABOUT = {
    "downsampled_imagenet": "ImageNet as downsampled by van den Oord et al. 2016, on "
    "whose validation images papers report; numbers on imagenet_resized do not compare",
    "imagenet_resized": "ImageNet as resized by Chrabaszcz et al. 2017; numbers of "
    "papers are mostly on another version, downsampled_imagenet, and do not compare",
    "celeb_a": "CelebA aligned, 218x178 pixels; numbers of papers are on 64x64 pixels, "
    "of which there are several versions, and do not compare",
}

# What has no test split, and papers report on the validation split.
_VALIDATION_IS_TEST = ("downsampled_imagenet", "imagenet_resized")

# name, name/config, name:1.2.3 or both; nothing that TFDS would look for in a path or
# in another hub.
_NAME = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?")


class DatasetUnavailableError(RuntimeError):
    """The error of a data set that is not on this machine and cannot be downloaded."""


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
    image, shape, classes = _features(builder, name)
    builder = _prepared(builder, name, data_dir, download)
    embedded = builder.name == _EMBEDDED
    high = _EMBEDDED_HIGH if embedded else np.iinfo(image.np_dtype).max + 1
    return DataSource(
        builder.name if embedded else name,
        shape,
        (0.0, float(high)),
        classes,
        _splits(builder, name, shape, classes is not None, validation, test),
    )


def about_set(name: str) -> str | None:
    """A warning to read before numbers of an image set are compared, or `None`."""
    return _ABOUT.get(re.split("[/:]", name)[0])


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
    if not _NAME.fullmatch(name):
        return None
    own, _, version = name.partition(":")
    try:
        with _quiet():
            if own == _EMBEDDED:
                from tfp_flows.datasets.digits import Digits

                return Digits(data_dir=data_dir, version=version or None)
            builder = tfds.builder(name, data_dir=data_dir)
            # It takes other spellings of the embedded set, too.
            return None if builder.name == _EMBEDDED else builder
    except tfds.core.DatasetNotFoundError:
        return None
    except (AssertionError, ValueError) as error:
        # The data set is known, its configuration or version is not.
        raise ValueError(f"{name!r} cannot be loaded: {error}") from error


def _features(
    builder: tfds.core.DatasetBuilder, name: str
) -> tuple[tfds.features.Image, tuple[int, ...], int | None]:
    """The image feature, its shape, and the number of classes if there are labels."""
    import tensorflow_datasets as tfds

    # A FeaturesDict has no get().
    features = dict(builder.info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        raise ValueError(
            f"{name} is no image set: it has no feature 'image' among {list(features)}."
        )
    shape = image.shape
    if builder.name == "downsampled_imagenet":
        # Its configuration alone says it: 32x32 or 64x64.
        shape = (*map(int, builder.builder_config.name.split("x")), shape[-1])
    if None in shape:
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
    if not isinstance(label, tfds.features.ClassLabel):
        return image, shape, None
    return image, shape, label.num_classes


def _prepared(
    builder: tfds.core.DatasetBuilder,
    name: str,
    data_dir: str | os.PathLike | None,
    download: bool,
) -> tfds.core.DatasetBuilder:
    """A builder whose data are on this machine."""
    if _is_prepared(builder):
        return builder
    if builder.name != _EMBEDDED:
        if not download:
            raise _unavailable(builder, name, "download=False was given")
        _check_connection(builder, name)
    _hush(builder)
    try:
        with _quiet(), _own_random_state():
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
    if builder.name == _EMBEDDED:
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
    shape: tuple[int, ...],
    labelled: bool,
    validation: float,
    test: float,
) -> dict[str, Split]:
    stored = {s: builder.info.splits[s].num_examples for s in builder.info.splits}
    stored_as = {}
    if builder.name in _VALIDATION_IS_TEST and "test" not in stored:
        stored_as["test"] = "validation"
        stored["test"] = stored.pop("validation")
    if "train" not in stored:
        raise ValueError(f"{name} has no split 'train', only {list(stored)}.")
    parts = {s: slice(0, stored[s]) for s in ("validation", "test") if s in stored}
    held_out = hold_out(stored["train"], parts, name, validation, test)
    splits: dict[str, Split] = {}
    for split in ("train", "validation", "test"):
        source = "train" if split in held_out else stored_as.get(split, split)
        part = held_out.get(split) or parts[split]
        splits[split] = _split(builder, source, part, shape, labelled)
    return splits


def _split(
    builder: tfds.core.DatasetBuilder,
    stored: str,
    part: slice,
    shape: tuple[int, ...],
    labelled: bool,
) -> Split:
    """The examples of a stored split at the positions of a slice."""
    image = builder.info.features["image"]
    size = part.stop - part.start
    rows = _StoredRows(builder, stored, part, labelled)
    row_bytes = math.prod(shape) * np.dtype(image.np_dtype).itemsize
    if size * row_bytes > _MEMORY_LIMIT:
        return StreamSplit(size, rows.read_encoded, rows.decode)
    return MemorySplit(size, rows.load)


@dataclasses.dataclass(frozen=True)
class _StoredRows:
    """Reads a slice of a stored split. It can be pickled, as TFDS's builders can."""

    builder: tfds.core.DatasetBuilder
    stored: str
    part: slice
    labelled: bool

    def load(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All values and labels."""
        batches = self._read(1024, decode=True).as_numpy_iterator()
        x, *labels = (np.concatenate(a) for a in zip(*batches, strict=True))
        return x, labels[0] if labels else None

    def read_encoded(self) -> tf.data.Dataset:
        """Rows with their images as they are encoded on disk."""
        return self._read(None, decode=False)

    def decode(self, image: tf.Tensor) -> tf.Tensor:
        """The pixels of an encoded image."""
        return self.builder.info.features["image"].decode_example(image)

    def _read(self, batch_size: int | None, decode: bool) -> tf.data.Dataset:
        import tensorflow_datasets as tfds

        names = ["image", "label"] if self.labelled else ["image"]
        with _quiet():
            rows = self.builder.as_dataset(
                split=tfds.core.ReadInstruction(
                    self.stored, from_=self.part.start, to=self.part.stop, unit="abs"
                ),
                batch_size=batch_size,
                shuffle_files=False,
                decoders=tfds.decode.PartialDecoding(
                    dict.fromkeys(names, True),
                    decoders=None if decode else {"image": tfds.decode.SkipDecoding()},
                ),
                read_config=tfds.ReadConfig(try_autocache=False),
            )
        return rows.map(lambda row: tuple(row[name] for name in names))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from logging anything but errors."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _hush(builder: tfds.core.DatasetBuilder) -> None:
    """Keeps a builder from printing to stdout while it prepares its data.

    Messages and the progress of a download go to stderr instead; the embedded set shows
    nothing. Progress bars are off unless stderr is a terminal.
    """
    import tensorflow_datasets as tfds

    downloads = builder.name != _EMBEDDED
    # A progress bar in a log file is a flood of lines.
    if not (downloads and sys.stderr.isatty()):
        tfds.disable_progress_bar()

    def tell(text: str) -> None:
        if downloads:
            print(text, file=sys.stderr)

    # Should TFDS rename these two methods, it prints to stdout again.
    builder._log_download_bytes = lambda: tell(
        f"Downloading {builder.info.download_size} for {builder.name} to "
        f"{builder.data_dir} ..."
    )
    builder._log_download_done = lambda: tell(f"{builder.name} is prepared.")


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
