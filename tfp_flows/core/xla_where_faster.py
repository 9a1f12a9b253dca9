"""A function called many times that XLA compiles once that pays."""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["XLAWhereFaster"]


class XLAWhereFaster:
    """A step of many, and from some time on the same step compiled by XLA if faster.

    Steps are those of Keras, or the chunks of a large batch. Whether XLA pays differs
    between flows, between their operations, and between processors, so it is measured,
    on the very steps that are to be done. The first ones run without XLA. Once they
    have taken `patience` times as long as their first call, which traces them, a
    compiled step is tried: compiling takes 2 to 5 times as long as the first call
    without XLA, so it delays what was done so far by at most a quarter. Then the step
    with the smaller median time stays.

    Both compute the same up to rounding.

    Args:
      plain: `(batches) -> results`, such as `keras.Model.train_function`. Batches come
        as an iterator, or as a list.
      make_compiled: `() -> compiled`, such a function that XLA compiles.
      batches: how many of an iterator a step takes.
      patience: how many times as long as the first call, at least 1.
      least: seconds without XLA, at least, before it is tried.
      clock: tells the time, in seconds.

    Example:
      >>> from tfp_flows.training import XLAWhereFaster
      >>> step = XLAWhereFaster(lambda batches: next(batches), make_compiled=list)
      >>> step(iter([1.0, 2.0])), step.uses_xla
      (1.0, False)
    """

    steps = 9  # How many of each kind are compared.

    def __init__(
        self,
        plain: Callable[[Any], Any],
        make_compiled: Callable[[], Callable[[Any], Any]],
        batches: int = 1,
        patience: float = 20.0,
        least: float = 30.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._plain, self._make_compiled = plain, make_compiled
        self._batches, self._patience, self._least = batches, patience, least
        self._clock = clock
        # Seconds of the last steps without XLA, and of those with it.
        self._without: deque[float] = deque(maxlen=self.steps)
        self._with: list[float] = []
        self._spent = 0.0
        self._waits: float | None = None
        self._compiled: Callable[[Any], Any] | None = None
        self._is_decided = False
        self.uses_xla = False

    def __call__(self, batches: Any) -> Any:
        if self.uses_xla:
            return self._with_xla(self._held(batches))
        if self._is_decided:
            return self._plain(batches)
        results, seconds = self._timed(self._plain, batches)
        if self._waits is None:
            self._waits = max(self._least, self._patience * seconds)
        else:
            self._without.append(seconds)
        self._spent += seconds
        is_full = len(self._without) == self.steps
        self.uses_xla = is_full and self._spent >= self._waits
        return results

    def _held(self, batches):
        """`() -> batches` of one step, of which none is lost if XLA fails."""
        if isinstance(batches, list):
            return lambda: batches
        held = list(itertools.islice(batches, self._batches))
        if not held:
            raise StopIteration
        return lambda: iter(held)

    def _with_xla(self, held):
        if self._compiled is None:
            self._compiled = self._make_compiled()
        try:
            if self._is_decided:
                return self._compiled(held())
            results, seconds = self._timed(self._compiled, held())
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            # XLA knows fewer operations, and fewer shapes of a batch of another size,
            # which may come late. Any other fault is one of the plain step, too.
            results = self._plain(held())
            self.uses_xla, self._is_decided = False, True
            message = str(error).splitlines()[0]
            warnings.warn(
                "XLA cannot compile this step, which goes on without it; in a model, "
                f"jit_compile=False would not try. XLA said: {message}",
                stacklevel=3,
            )
            return results
        self._with.append(seconds)
        without = statistics.median(self._without)
        # A batch of another size, the last of an epoch say, is compiled once more. A
        # step that is compiled anew for each value would be so for ever.
        compilations = sum(seconds > 10.0 * without for seconds in self._with)
        if compilations > 3 or len(self._with) > self.steps:
            with_xla = statistics.median(self._with[-self.steps :])
            self.uses_xla = compilations <= 3 and with_xla < without
            self._is_decided = True
        return results

    def _timed(self, step, batches):
        start = self._clock()
        results = step(batches)
        if tf.config.list_physical_devices("GPU"):
            tf.test.experimental.sync_devices()
        return results, self._clock() - start
