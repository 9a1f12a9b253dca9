"""A data set with its splits, shapes, bounds and reproducible batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer
from tfp_flows.datasets.splits import Split

__all__ = ["DataSource"]


@dataclass(frozen=True)
class DataSource:
    """A data set with the splits "train", "validation" and "test".

    `tfp_flows.datasets.load` returns one.

    Example:
      >>> from tfp_flows import datasets
      >>> moons = datasets.load("moons", n=(100, 10, 10))
      >>> batches = moons.dataset("train", batch_size=32, shuffle=True)
      >>> next(iter(batches)).shape, moons.steps("train", 32)
      (TensorShape([32, 2]), 4)

    Attributes:
      name: what was loaded.
      event_shape: shape of one example, `(D,)` or `(H, W, C)`.
      bounds: half-open range of the values after dequantisation, in the units they are
        stored in: `(0, 256)` for 8-bit images, `(0, 17)` for the digits. None for
        continuous data.
      num_classes: number of classes of the labels, None if there are no labels.
      sizes: number of examples in each split, 0 if the split is empty.
      columns: names of the features of a table, `None` if they have none.
      categories: by the name of a column of categories, these in the order of their
        codes; the values are codes there.
      integers: names of the columns that were declared to hold integers.
    """

    name: str
    event_shape: tuple[int, ...]
    bounds: tuple[float, float] | None
    num_classes: int | None
    sizes: dict[str, int] = field(init=False)
    _splits: Mapping[str, Split] = field(repr=False, compare=False)
    columns: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    integers: tuple[str, ...] = ()

    def __post_init__(self):
        sizes = {name: split.size for name, split in self._splits.items()}
        object.__setattr__(self, "sizes", sizes)

    @property
    def kinds(self) -> list[str | list[str]] | None:
        """What each column holds, as `MixedDequantization` takes it.

        The list of its categories, `"integer"` or `"real"`; `None` for data of which
        nothing was declared.
        """
        if not self.categories and not self.integers:
            return None
        other = dict.fromkeys(self.integers, "integer")
        return [
            list(self.categories[name])
            if name in self.categories
            else other.get(name, "real")
            for name in self.columns or ()
        ]

    def dataset(
        self,
        split: str,
        batch_size: int,
        *,
        labels: bool = False,
        dequantize: bool = True,
        shuffle: bool = False,
        seed: int = 0,
        epochs: int = 1,
        initial_epoch: int = 0,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Batches for training or evaluation, in the units the data are stored in.

        Order and noise of an epoch depend only on `seed` and the number of the epoch:
        not on how often the dataset was iterated, on TensorFlow's global seed or on
        `initial_epoch`. Training that stopped after epoch k and continues with
        `initial_epoch=k` gets the same batches as without the stop. Noise does not
        depend on `batch_size`, so evaluation gives the same result with every size.

        Uniform dequantisation adds noise from U[0, 1) to every integer value. The
        average log-density of the noisy data is a lower bound of the log-probability
        of the integers (Theis et al. 2016, section 3.1). Continuous data
        (`bounds=None`) are left alone.

        The epochs follow one another in a single dataset of `steps() * (epochs -
        initial_epoch)` batches, so Keras needs `steps_per_epoch=source.steps(...)`.

        Args:
          split: "train", "validation" or "test".
          batch_size: examples in a batch; the last batch of an epoch may be smaller.
          labels: whether elements are `(x, label)` instead of `x`.
          dequantize: whether to add noise to integer values.
          shuffle: whether every epoch has an order of its own. Image sets that do not
            fit into memory are shuffled within windows of 8,192 examples,
            mapped arrays in windows of 16 MiB put together from all over the file.
          seed: seed of the noise and of the order.
          epochs: number of the epoch to stop before.
          initial_epoch: number of the first epoch, counted from 0.
          drop_remainder: whether to leave out a smaller last batch.

        Returns:
          Dataset of `x` float32 `[B, *event_shape]`, or of `x` and `label` int32 `[B]`.

        Raises:
          ValueError: if the split is unknown or empty, labels are asked for where
            there are none, or a number is out of range.
        """
        steps = self.steps(split, batch_size, drop_remainder=drop_remainder)
        batch_size = int(batch_size)
        epochs = check_integer("epochs", epochs)
        initial_epoch = check_integer("initial_epoch", initial_epoch, -math.inf)
        if labels and self.num_classes is None:
            raise ValueError(f"labels=True, but {self.name} has no class labels.")
        if not 0 <= initial_epoch <= epochs:
            raise ValueError(
                f"initial_epoch must be from 0 to epochs={epochs}, got {initial_epoch}."
            )
        if steps == 0:
            raise ValueError(
                f"drop_remainder=True and batch_size={batch_size} leave no batch of "
                f"the {self.sizes[split]} examples of {self.name}'s {split} split."
            )
        rows = self._splits[split]
        seed = tf.constant(seed, tf.int64)
        # float32 has 24 significant bits: noise on a coarser grid than they allow
        # would be rounded when added, at the upper end to the next integer.
        noise_bits = 24 - math.ceil(math.log2(self.bounds[1])) if self.bounds else 0

        # The functions hold Python conditions only, nothing for AutoGraph to rewrite.
        @tf.autograph.experimental.do_not_convert
        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            shuffle_seed = tf.stack([seed, 2 * epoch]) if shuffle else None
            batches = rows.batches(batch_size, drop_remainder, shuffle_seed)
            return batches.enumerate().map(lambda i, batch: (epoch, i, batch))

        @tf.autograph.experimental.do_not_convert
        def finish(epoch: tf.Tensor, i: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> Any:
            x = tf.cast(batch[0], tf.float32)
            if dequantize and self.bounds:
                noise_seed = tf.stack([seed, 2 * epoch + 1])
                x += _uniform_noise(tf.shape(x), noise_seed, i * batch_size, noise_bits)
            x = tf.ensure_shape(
                x, [batch_size if drop_remainder else None, *self.event_shape]
            )
            return (x, tf.cast(batch[1], tf.int32)) if labels else x

        dataset = (
            tf.data.Dataset.range(initial_epoch, epochs)
            .flat_map(one_epoch)
            .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
            .apply(
                tf.data.experimental.assert_cardinality(
                    steps * (epochs - initial_epoch)
                )
            )
            .prefetch(tf.data.AUTOTUNE)
        )
        options = tf.data.Options()
        options.deterministic = True
        # Under `tf.distribute`, workers share every batch. If they shared files, they
        # would get other batches than one device, and different numbers of them.
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return dataset.with_options(options)

    def steps(
        self, split: str, batch_size: int, *, drop_remainder: bool = False
    ) -> int:
        """Returns the number of batches in an epoch of `dataset`.

        Args:
          split: "train", "validation" or "test".
          batch_size: examples in a batch.
          drop_remainder: whether a smaller last batch is left out.

        Raises:
          TypeError: if `batch_size` is not an integer.
          ValueError: if the split is unknown or empty or `batch_size` is below 1.
        """
        size = self._size(split)
        batch_size = check_integer("batch_size", batch_size)
        return size // batch_size if drop_remainder else -(-size // batch_size)

    def arrays(
        self, split: str, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The first examples of a split as stored, without noise.

        Args:
          split: "train", "validation" or "test".
          limit: at most so many examples; None for all.

        Returns:
          Values `[N, *event_shape]` in their stored dtype, and labels int `[N]` or
          None.

        Raises:
          ValueError: if the split is unknown or empty or `limit` is below 1.
        """
        self._size(split)
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be 1 or more, got {limit}.")
        return self._splits[split].arrays(limit)

    def fingerprint(self) -> dict[str, Any]:
        """Identifies the data, independently of their name and where they come from.

        Returns:
          A dict that can be written as JSON: shape, dtype as stored, numbers of classes
          and examples, and a `digest` of the values and labels (of some of them, if
          they are not in memory).
        """
        first, _ = self.arrays("train", limit=1)
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self._splits):
            if self.sizes[name]:
                for array in self._splits[name].looked_at():
                    digest.update(np.ascontiguousarray(array).data)
        return {
            "event_shape": list(self.event_shape),
            "dtype": first.dtype.name,
            "num_classes": self.num_classes,
            "sizes": dict(self.sizes),
            "digest": digest.hexdigest(),
        }

    def _size(self, split: str) -> int:
        """Number of examples of a split that exists and is not empty."""
        if split not in self.sizes:
            raise ValueError(f"split must be one of {list(self.sizes)}, got {split!r}.")
        if self.sizes[split] == 0:
            total = sum(self.sizes.values())
            advice = (
                f"load the data with a {split} fraction above 0"
                if total > 2
                else f"the data have {total} example(s) in all, and each of train, "
                "validation and test needs one"
            )
            raise ValueError(f"The {split} split of {self.name} is empty: {advice}.")
        return self.sizes[split]


def _uniform_noise(
    shape: tf.Tensor, seed: tf.Tensor, first: tf.Tensor, bits: int
) -> tf.Tensor:
    """Noise of the examples `first`, `first + 1`, ... of an endless sequence of them.

    Args:
      shape: shape `[B, ...]` of the noise.
      seed: int64 `[2]`, names the sequence.
      first: int64 number of the first example.
      bits: values are multiples of `2**-bits`.

    Returns:
      float32 `[B, ...]` in [0, 1).
    """
    # Philox is a counter followed by a mixing function (Salmon et al. 2011), four
    # numbers for each count, so any part of a sequence can be drawn on its own.
    size = tf.reduce_prod(shape[1:])
    counts = (size + 3) // 4
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    skipped = tf.cast(first * tf.cast(counts, tf.int64), tf.uint64)
    noise = tf.raw_ops.StatelessRandomUniformV2(
        shape=[shape[0], 4 * counts],
        key=key,
        counter=counter + tf.stack([skipped, tf.zeros_like(skipped)]),
        alg=tf.random.Algorithm.PHILOX.value,
    )
    noise = tf.floor(noise[:, :size] * 2.0**bits) * 2.0**-bits
    return tf.reshape(noise, shape)
