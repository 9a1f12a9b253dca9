"""Elementwise transformers of many small operations, each as one loop of XLA."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfp_flows.core.repeat import shares_traces
from tfp_flows.core.tf_internals import could_possibly_record

__all__ = ["ENOUGH_CALLS", "fused", "fuses", "fusing"]

# From so many evaluations of batches on, they repay the time that XLA compiles.
ENOUGH_CALLS = 300


class _State(threading.local):
    fusing = False


_state = _State()


@contextlib.contextmanager
def fusing(fuse: bool = True) -> Iterator[None]:
    """A context in which graphs may have transformers that XLA compiles.

    XLA compiles for each shape of a batch that it meets, for a second or so. Only who
    sends batches knows whether they have one shape and are many.

    Args:
      fuse: whether it is so.
    """
    before, _state.fusing = _state.fusing, fuse
    try:
        yield
    finally:
        _state.fusing = before


def fused(transformer: Any, forward: bool) -> Callable:
    """A method of a transformer, compiled by XLA where its class and `fusing` ask.

    A spline is some hundred small operations, each of which goes through memory. XLA
    makes one loop of them, while matrix products stay with TensorFlow, whose own are as
    fast or faster. On processors, densities and samples take 0.75 to 0.9 of the time.

    A class asks for it by `fuses = True`, for itself and not for classes derived from
    it. It is not done in eager mode; while a gradient tape records, because training
    gains too little (0.9 to 1.05 of the time) for what it waits for; on a GPU, where it
    was not measured; and in files, which other programs are to read.

    Args:
      transformer: a `Transformer`.
      forward: whether its `forward_and_log_det` is asked for, or the inverse.

    Returns:
      The method, or a function that does the same: `(value, parameters) -> (result,
      log_det)`.
    """
    if (
        _state.fusing
        and fuses(transformer)
        and shares_traces()
        and not could_possibly_record()
        and not _gpus()
    ):
        return _compiled(transformer, forward)
    return _method(transformer, forward)


def fuses(transformer: Any) -> bool:
    """Whether a transformer, or its own class and not one above it, asks for XLA."""
    of_class = vars(type(transformer)).get("fuses", False)
    return vars(transformer).get("fuses", of_class)


def _method(transformer, forward):
    return (
        transformer.forward_and_log_det if forward else transformer.inverse_and_log_det
    )


@functools.lru_cache(maxsize=128)
def _compiled(transformer, forward):
    method = _method(transformer, forward)
    return tf.function(method, autograph=False, jit_compile=True)


@functools.cache
def _gpus():
    return tf.config.list_physical_devices("GPU")
