"""Constants in which layers that are otherwise alike may differ."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["OwnConstant", "standing_for"]


class OwnConstant:
    """A constant of one layer: others that are alike may have another value.

    A trace that stands for several layers (see `repeat`) takes it as an argument.

    Args:
      value: what `np.asarray` takes.
    """

    def __init__(self, value: Any):
        self.value = np.asarray(value)

    def tensor(self) -> tf.Tensor:
        """The value, or what stands for it."""
        given = _given.tensors.get(id(self))
        return tf.constant(self.value) if given is None else given


class _Given(threading.local):
    def __init__(self):
        self.tensors = {}


_given = _Given()


@contextlib.contextmanager
def standing_for(
    constants: Sequence[OwnConstant], tensors: Sequence[tf.Tensor]
) -> Iterator[None]:
    """Each of `tensors` stands for one of `constants` meanwhile."""
    before = _given.tensors
    pairs = zip(constants, tensors, strict=True)
    _given.tensors = {**before, **{id(own): tensor for own, tensor in pairs}}
    try:
        yield
    finally:
        _given.tensors = before
