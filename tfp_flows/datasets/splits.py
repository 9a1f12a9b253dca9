"""Where the rows of one split come from: memory, or a TensorFlow Datasets stream."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

__all__ = ["MemorySplit", "Split", "StreamSplit"]

# Encoded images a stream holds to shuffle: some 100 MB of CelebA's JPEG files.
_SHUFFLE_BUFFER = 8192


class Split(Protocol):
    """Rows of one split: values as stored, and integer labels if there are any."""

    size: int

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        """The first `limit` rows (or all): values `[N, ...]` and labels `[N]`."""

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

    def batches(
        self, batch_size: int, drop_remainder: bool, shuffle_seed: tf.Tensor | None
    ) -> tf.data.Dataset:
        rows = self._read()
        if shuffle_seed is not None:
            # Without this the order would depend on the user's global seed as well.
            # Within a pipeline's function it sets the seed of that function only. Not
            # to 0, which TensorFlow compares with the other seed as a Python number.
            tf.random.set_seed(1)
            seed = tf.random.stateless_uniform(
                [], shuffle_seed, minval=None, maxval=None, dtype=tf.int64
            )
            rows = rows.shuffle(
                _SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False
            )
        return self._decoded(rows).batch(batch_size, drop_remainder)

    def _decoded(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(
            lambda x, *labels: (self._decode(x), *labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
