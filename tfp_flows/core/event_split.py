"""Splits the event of a coupling into two parts by a mask, and joins them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from tfp_flows.core.shapes import reshape_event, sum_trailing, take

__all__ = ["AxisPartition", "Partition", "partition"]


class Partition(Protocol):
    """Takes `[*batch, *event]` apart and puts it together again.

    Attributes:
      kept_shape: event shape of the part that the conditioner sees.
      changed_shape: event shape of the part that is transformed.
    """

    kept_shape: tuple[int, ...]
    changed_shape: tuple[int, ...]

    def split(self, x: tf.Tensor) -> Sequence[tf.Tensor]:
        """The part that the conditioner sees and the part that is transformed."""
        ...

    def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
        """The inverse of `split`."""
        ...

    def log_det(self, elementwise: tf.Tensor) -> tf.Tensor:
        """Sums elementwise log-derivatives of the changed part over the event."""
        ...


def partition(mask: np.ndarray, event_shape: Sequence[int]) -> Partition:
    """Chooses the cheapest partition for a mask.

    A mask that varies along one axis only becomes a split along that axis: the
    conditioner gets the kept part alone, and only the other part is transformed. With
    any other mask (a checkerboard), both parts have the shape of the event. All entries
    are transformed, and the mask selects those that change.

    Args:
      mask: boolean array that broadcasts to `event_shape`; `True` is kept.
      event_shape: shape of the event.

    Returns:
      A `Partition`.
    """
    full = np.broadcast_to(mask, event_shape)
    for axis in reversed(range(full.ndim)):
        line = np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1)
        if (line == line[:, :1]).all():
            return AxisPartition(line[:, 0], axis - full.ndim, event_shape)
    return _MaskedPartition(full)


class AxisPartition:
    """A split along one axis.

    Attributes:
      line: identifies the split: the axis and where it is cut. A mask and its opposite
        have the same line.
    """

    def __init__(self, keep: np.ndarray, axis: int, event_shape: Sequence[int]):
        self._axis = axis
        self._ndims = len(event_shape)
        size, kept = keep.size, int(keep.sum())
        self.kept_shape = _with(event_shape, axis, kept)
        self.changed_shape = _with(event_shape, axis, size - kept)
        # The first part is that of the first entry, whether this is kept or not.
        first = keep == keep[0]
        self._flip = not keep[0]
        self._sizes = (int(first.sum()), int((~first).sum()))
        order = np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])
        self._order, self._restore = order, np.argsort(order)
        self.line = (axis, first.tobytes())
        # Two kinds of split need no gather: two contiguous parts, and the even and odd
        # entries of a vector of even size.
        runs = int((keep[1:] != keep[:-1]).sum())
        self._contiguous = runs == 1
        self._pairs = axis == -1 and size % 2 == 0 and runs == size - 1

    def split(self, x: tf.Tensor) -> Sequence[tf.Tensor]:
        return self.swap(self.take_apart(x))

    def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
        return self.put_together(self.swap((kept, changed)))

    def swap(self, parts: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Reorders (first, second) into (kept, changed), or back."""
        return parts[::-1] if self._flip else parts

    def take_apart(self, x: tf.Tensor) -> Sequence[tf.Tensor]:
        """First and second part along the axis."""
        if self._contiguous:
            return tf.split(x, self._sizes, axis=self._axis)
        if self._pairs:
            pairs = reshape_event(x, 1, [x.shape[-1] // 2, 2])
            return tf.unstack(pairs, axis=-1)
        x = take(x, self._order, self._restore, self._axis)
        return tf.split(x, self._sizes, axis=self._axis)

    def put_together(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """The inverse of `take_apart`."""
        if self._contiguous:
            return tf.concat(parts, axis=self._axis)
        if self._pairs:
            x = tf.stack(parts, axis=-1)
            return reshape_event(x, 2, [2 * x.shape[-2]])
        x = tf.concat(parts, axis=self._axis)
        return take(x, self._restore, self._order, self._axis)

    def log_det(self, elementwise: tf.Tensor) -> tf.Tensor:
        return sum_trailing(elementwise, self._ndims)


class _MaskedPartition:
    """A partition whose parts both have the event's shape; a mask selects entries."""

    def __init__(self, mask: np.ndarray):
        self._mask = mask
        self.kept_shape = self.changed_shape = mask.shape

    def split(self, x):
        return tf.where(self._mask, x, tf.zeros([], x.dtype)), x

    def merge(self, kept, changed):
        return tf.where(self._mask, kept, changed)

    def log_det(self, elementwise):
        elementwise = tf.where(self._mask, tf.zeros([], elementwise.dtype), elementwise)
        return sum_trailing(elementwise, self._mask.ndim)


def _with(shape, axis, size):
    shape = list(shape)
    shape[axis] = size
    return tuple(shape)
