"""The rows of a split: in memory, in a mapped file, or in TensorFlow Datasets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

__all__ = ["MappedSplit", "MemorySplit", "Split", "StreamSplit"]

# Encoded images that a stream shuffles at once: some 100 MB of CelebA's JPEG files.
_SHUFFLED = 8192

# Rows that are compared to tell whether rows on disk are the same as before.
_LOOKED_AT = 1000

# Bytes of neighbouring rows that are read at once from a mapped file, and of the window
# that such blocks, from anywhere in the file, are put together and shuffled in.
_BLOCK = 2**18
_WINDOW = 2**24


class Split(Protocol):
    """Rows of one split: values as stored, and integer labels if there are any."""

    size: int

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        """The first `limit` rows (or all): values `[N, ...]` and labels `[N]`."""

    def looked_at(self) -> Iterator[np.ndarray]:
        """Arrays that identify these rows: all of them, or a part."""

    def batches(
        self, batch_size: int, drop_remainder: bool, shuffle_seed: tf.Tensor | None
    ) -> tf.data.Dataset:
        """One pass over the rows in batches of values, or of (values, labels).

        Args:
          batch_size: rows in a batch.
          drop_remainder: whether to leave out a smaller last batch.
          shuffle_seed: int64 `[2]`, on which alone the order depends; None keeps the
            stored order.
        """


class MemorySplit:
    """Rows held in memory, loaded when first asked for.

    Args:
      size: number of rows.
      load: returns the values `[size, ...]` and the labels `[size]` or None.
    """

    def __init__(
        self, size: int, load: Callable[[], tuple[np.ndarray, np.ndarray | None]]
    ):
        self.size = size
        self._load = load

    @classmethod
    def of(cls, x: np.ndarray, labels: np.ndarray | None = None) -> MemorySplit:
        """Rows that are in memory already."""
        return cls(len(x), functools.partial(_pair, x, labels))

    def __getstate__(self):
        # Tensors cannot be pickled, and are made again.
        return {k: v for k, v in self.__dict__.items() if k != "_tensors"}

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self._load()

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, ...]:
        # Eager tensors reach the pipeline by reference; arrays would be copied into
        # its graph, which must stay below 2 GB. The scope leaves the function that is
        # being traced when they are first needed. Pipelines run on the CPU.
        with tf.init_scope(), tf.device("CPU"):
            return tuple(tf.constant(a) for a in self._arrays if a is not None)

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        x, labels = self._arrays
        return x[:limit], None if labels is None else labels[:limit]

    def looked_at(self) -> Iterator[np.ndarray]:
        return (a for a in self._arrays if a is not None)

    def batches(
        self, batch_size: int, drop_remainder: bool, shuffle_seed: tf.Tensor | None
    ) -> tf.data.Dataset:
        rows = tf.range(self.size)
        if shuffle_seed is not None:
            rows = tf.random.experimental.stateless_shuffle(rows, seed=shuffle_seed)
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(
            batch_size, drop_remainder
        )
        return batches.map(
            lambda rows: tuple(tf.gather(a, rows) for a in self._tensors),
            num_parallel_calls=tf.data.AUTOTUNE,
        )


def _pair(
    x: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    return x, labels


class MappedSplit:
    """Rows of an array in a file that is never in memory as a whole.

    A shuffled pass takes blocks of neighbouring rows in random order, joins some of
    them to a window and shuffles the rows in it: a disk reads blocks far faster than
    single rows.

    Args:
      open: returns the array `[N, ...]`, mapped into memory.
      check: makes values of rows as they are stored; raises if they are not allowed.
      labels: of all `N` rows, or None.
      rows: sorted positions of the rows in this split; None for all.
    """

    def __init__(
        self,
        open: Callable[[], np.ndarray],
        check: Callable[[np.ndarray], np.ndarray],
        labels: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ):
        self._open, self._check = open, check
        self._rows = rows
        self._labels = labels
        x = open()
        self.size = len(x) if rows is None else len(rows)
        self._row_bytes = max(x[:1].nbytes, 1)
        first = check(np.array(x[:1]))
        self._dtype, self._shape = first.dtype, first.shape[1:]

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        x, *labels = self._read([(0, self.size if limit is None else limit)])
        return x, labels[0] if labels else None

    def looked_at(self) -> Iterator[np.ndarray]:
        starts = np.linspace(0, self.size - 1, min(_LOOKED_AT, self.size)).astype(int)
        return iter(self._read([(i, i + 1) for i in starts]))

    def batches(
        self, batch_size: int, drop_remainder: bool, shuffle_seed: tf.Tensor | None
    ) -> tf.data.Dataset:
        # A window holds whole batches, so that no batch needs two windows.
        window = batch_size * max(1, _WINDOW // (batch_size * self._row_bytes))
        seed = tf.zeros([0], tf.int64) if shuffle_seed is None else shuffle_seed
        signature = [tf.TensorSpec([None, *self._shape], self._dtype)]
        if self._labels is not None:
            signature.append(tf.TensorSpec([None], self._labels.dtype))

        def read(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found = tf.numpy_function(
                functools.partial(self._window, window),
                [start, seed],
                [spec.dtype for spec in signature],
            )
            return tuple(map(tf.ensure_shape, found, [s.shape for s in signature]))

        return (
            tf.data.Dataset.range(0, self.size, window)
            .map(read)
            .prefetch(1)
            .flat_map(
                lambda *rows: tf.data.Dataset.from_tensor_slices(rows).batch(
                    batch_size, drop_remainder
                )
            )
        )

    def _window(self, size: int, start: int, seed: np.ndarray) -> list[np.ndarray]:
        """Rows `start` to `start + size` of a pass."""
        stop = min(start + size, self.size)
        if not seed.size:
            return self._read([(start, stop)])
        block = max(1, _BLOCK // self._row_bytes)
        key = [int(s) & (2**64 - 1) for s in seed]
        order = np.random.default_rng(key).permutation(-(-self.size // block))
        starts = order * block
        # Where the blocks begin and end in the pass; one of them is shorter.
        ends = np.cumsum(np.minimum(block, self.size - starts))
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        parts = []
        for i in range(first, last + 1):
            begin = ends[i - 1] if i else 0
            low, high = max(start, begin) - begin, min(stop, ends[i]) - begin
            parts.append((starts[i] + low, starts[i] + high))
        mixed = np.random.default_rng([*key, int(start)]).permutation(stop - start)
        return [column[mixed] for column in self._read(parts)]

    def _read(self, parts: list[tuple[int, int]]) -> list[np.ndarray]:
        """Checked rows from and to some positions of the split, and their labels."""
        x = self._open()
        where = [
            slice(*part) if self._rows is None else self._rows[slice(*part)]
            for part in parts
        ]
        columns = [self._check(np.concatenate([x[w] for w in where]))]
        if self._labels is not None:
            columns.append(np.concatenate([self._labels[w] for w in where]))
        return columns


class StreamSplit:
    """Rows read from disk in every pass, for sets that are too large for memory.

    Args:
      size: number of rows.
      read: returns a dataset of encoded (value,) or (value, label) in stored order.
      decode: makes the stored value of one encoded value.
    """

    def __init__(
        self,
        size: int,
        read: Callable[[], tf.data.Dataset],
        decode: Callable[[tf.Tensor], tf.Tensor],
    ):
        self.size = size
        self._read = read
        self._decode = decode

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        rows = self._read().take(self.size if limit is None else limit)
        columns = zip(*self._decoded(rows).batch(256).as_numpy_iterator(), strict=True)
        x, *labels = (np.concatenate(batches) for batches in columns)
        return x, labels[0] if labels else None

    def looked_at(self) -> Iterator[np.ndarray]:
        return (a for a in self.arrays(_LOOKED_AT) if a is not None)

    def batches(
        self, batch_size: int, drop_remainder: bool, shuffle_seed: tf.Tensor | None
    ) -> tf.data.Dataset:
        rows = self._read()
        if shuffle_seed is not None:
            rows = (
                rows.batch(_SHUFFLED)
                .enumerate()
                .flat_map(functools.partial(_shuffled, shuffle_seed))
            )
        return self._decoded(rows).batch(batch_size, drop_remainder)

    def _decoded(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(
            lambda x, *labels: (self._decode(x), *labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )


def _shuffled(
    seed: tf.Tensor, window: tf.Tensor, columns: tuple[tf.Tensor, ...]
) -> tf.data.Dataset:
    """Shuffles the rows of a window."""
    # A dataset's own `shuffle` would depend on TensorFlow's global seed as well.
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.shape(columns[0])[0]),
        seed=tf.random.experimental.stateless_fold_in(seed, window),
    )
    return tf.data.Dataset.from_tensor_slices(
        tuple(tf.gather(column, order) for column in columns)
    )
