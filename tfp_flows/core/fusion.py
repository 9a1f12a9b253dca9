"""Elementwise transformers of many small operations, each as one loop of XLA."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfp_flows.core.repeat import shares_traces

__all__ = ["fused", "fuses", "shapes_repeat"]


class _State(threading.local):
    shapes_repeat = False


_state = _State()


@contextlib.contextmanager
def shapes_repeat(repeat: bool = True) -> Iterator[None]:
    """A context in which shapes that are not known yet are few, and seen again.

    XLA compiles for each shape that it meets. Where batches have an unknown size, only
    their sender knows whether this pays: the batches of `fit` have one size, but for
    the last one; those of a server have any.

    Args:
      repeat: whether it is so.
    """
    before, _state.shapes_repeat = _state.shapes_repeat, repeat
    try:
        yield
    finally:
        _state.shapes_repeat = before


def fused(transformer: Any, forward: bool) -> Callable:
    """A method of a transformer, compiled by XLA in a graph if its class asks for it.

    A spline is some hundred small operations, each of which goes through memory. XLA
    makes one loop of them in half a second, which a flow of several layers has back
    after some ten batches. Matrix products stay with TensorFlow, whose own are faster.

    A class asks for it by `fuses = True`, for itself and not for classes derived from
    it. It is not done in eager mode, where nothing is compiled; for shapes that are
    unknown, unless they are said to repeat; on a GPU, where it was not measured; and in
    files, which other programs are to read.

    Args:
      transformer: a `Transformer`.
      forward: whether its `forward_and_log_det` is asked for, or the inverse.

    Returns:
      The method, or a function that does the same: `(value, parameters) -> (result,
      log_det)`.
    """
    method = getattr(transformer, _name(forward))
    if not (fuses(transformer) and shares_traces() and not _gpus()):
        return method

    def call(value, parameters):
        known = value.shape.is_fully_defined() and parameters.shape.is_fully_defined()
        if known or _state.shapes_repeat:
            return _compiled(transformer, forward)(value, parameters)
        return method(value, parameters)

    return call


def _name(forward):
    return "forward_and_log_det" if forward else "inverse_and_log_det"


def fuses(transformer: Any) -> bool:
    """Whether a transformer, or its own class and not one above it, asks for XLA."""
    of_class = vars(type(transformer)).get("fuses", False)
    return vars(transformer).get("fuses", of_class)


@functools.lru_cache(maxsize=128)
def _compiled(transformer, forward):
    return tf.function(
        getattr(transformer, _name(forward)), autograph=False, jit_compile=True
    )


@functools.cache
def _gpus():
    return tf.config.list_physical_devices("GPU")
