"""Gradients of a chain without its activations: inputs are rebuilt by the inverse."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.eager import record

from tfp_flows.bijectors.any_bijector import (
    forward_and_log_det,
    inverse_and_log_det,
    keywords_of,
    known_keywords,
    min_event_ndims,
    over_events,
)
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.joint_bijector import JointBijector
from tfp_flows.bijectors.stateless import stateless_seed

tfb = tfp.bijectors

__all__ = ["Step", "evaluate", "recomputing", "reconstruction_errors", "take_all"]


class Step(NamedTuple):
    """One bijector's turn on the way through a chain."""

    bijector: tfb.Bijector
    forward: bool
    event_ndims: int

    def take(self, value, keywords):
        """Result and log-determinant."""
        function = forward_and_log_det if self.forward else inverse_and_log_det
        return function(self.bijector, value, self.event_ndims, keywords)

    def undo(self, result, keywords):
        """The value that gave `result`."""
        back = Step(self.bijector, not self.forward, self.result_event_ndims)
        return back.take(result, keywords)[0]

    def replay(self, result, keywords, tape):
        """As `JointBijector._replay`, of any bijector."""
        b = self.bijector
        if not isinstance(b, JointBijector):
            with tape.stop_recording():
                value = self.undo(result, keywords)
            return self.record(value, keywords, tape)
        parts, merge, result, log_det = b._replay(
            result, self.forward, tape, **known_keywords(b, keywords)
        )
        extra = self.event_ndims - min_event_ndims(b, self.forward)
        log_det = over_events(log_det, merge(parts), self.event_ndims, extra)
        return parts, merge, result, log_det

    def record(self, value, keywords, tape):
        """As `replay`, from the value itself."""
        tape.watch(value)
        return [value], lambda parts: parts[0], *self.take(value, keywords)

    @property
    def result_event_ndims(self) -> int:
        """Rank of the event that comes out."""
        b = self.bijector
        taken = min_event_ndims(b, self.forward)
        return self.event_ndims + min_event_ndims(b, not self.forward) - taken

    @property
    def line(self):
        """Along which line a coupling splits its event; `None` for all else."""
        b = self.bijector
        inner = self.event_ndims == min_event_ndims(b, self.forward)
        split = b.split if isinstance(b, Coupling) and inner else None
        return split and split.line

    @property
    def is_left_alone(self) -> bool:
        """Whether ordinary gradients go through it, which see to memory themselves."""
        return getattr(self.bijector, "_recomputes_itself", False)

    @property
    def is_rebuilt(self) -> bool:
        """Whether its input is its inverse of the output."""
        if isinstance(self.bijector, JointBijector):
            return self.bijector.has_direct_inverse
        # TFP's inverse of what has a network may take a pass for each entry.
        return not self.bijector.variables


def take_all(steps, value, keywords):
    """Result and log-determinant of one step after the other.

    Couplings in a row that split along the same line, whichever part they keep, hand
    the two parts on as they are: only the first takes an event apart, and only the last
    puts it together.
    """
    total = tf.zeros([], value.dtype)
    for line, group in itertools.groupby(steps, lambda step: step.line):
        if line is None:
            for step in group:
                value, log_det = step.take(value, keywords)
                total += log_det
            continue
        parts = None
        for step in group:
            b, split = step.bijector, step.bijector.split
            parts = split.take_apart(value) if parts is None else parts
            kept, changed = split.swap(parts)
            known = known_keywords(b, keywords)
            changed, log_det = b._change(kept, changed, step.forward, **known)
            parts = split.swap((kept, changed))
            total += log_det
        value = split.put_together(parts)
    return value, total


class _State(threading.local):
    recomputing = False
    errors = None


_state = _State()


def recomputing() -> bool:
    """Whether a past evaluation is being repeated for its gradient.

    What changes variables (moving averages, power iterations) must not do so again.
    """
    return _state.recomputing


@contextlib.contextmanager
def reconstruction_errors():
    """Collects an error for each stretch of steps that is evaluated meanwhile.

    It is the largest difference between an input and what the gradient would rebuild,
    relative to one plus the input's largest entry.
    """
    before, _state.errors = _state.errors, []
    try:
        yield _state.errors
    finally:
        _state.errors = before


def evaluate(
    steps: list[Step],
    value: tf.Tensor,
    keywords: dict[str, Any],
    checkpoint_every: int | None = None,
):
    r"""Value and log-determinant of `steps`, with a gradient that rebuilds inputs.

    Nothing is kept between the steps. The gradient walks back from the result: each
    step's input is rebuilt from its output, evaluated once more, differentiated, and
    forgotten (Gomez et al. 2017, "The Reversible Residual Network", algorithm 1). The
    input of a step whose inverse is no single pass is kept instead.

    Args:
      steps: in the order in which they are taken.
      value: what the first step takes.
      keywords: of all steps.
      checkpoint_every: number of steps after which an input is kept, too.

    Returns:
      `(result, log_det)`.
    """
    total = tf.zeros([], value.dtype)
    for alone, group in itertools.groupby(steps, lambda step: step.is_left_alone):
        if alone:
            result, log_det = take_all(group, value, keywords)
        else:
            walk = _Walk(list(group), keywords, checkpoint_every)
            result, log_det = walk.evaluate(value)
            if _state.errors is not None:
                _state.errors += walk.errors(value)
        value = result
        total += log_det
    return value, total


class _Walk:
    """Steps taken one after the other, without a trace, and the way back."""

    def __init__(self, steps, keywords, checkpoint_every):
        self.steps, self.keywords = steps, keywords
        # Gradients reach those keywords that are arguments.
        self.names = [
            k for k, v in keywords.items() if tf.is_tensor(v) and v.dtype.is_floating
        ]
        self.tensors = [keywords[name] for name in self.names]
        self.kept = {
            i
            for i, step in enumerate(steps)
            if not step.is_rebuilt
            or (checkpoint_every and i and i % checkpoint_every == 0)
        }

    def evaluate(self, value):
        @tf.custom_gradient
        def forgetful(value, *tensors):
            with record.stop_recording():
                result, total, kept, given = self._there(value, tensors)

            def gradient(d_result, d_total, variables=None):
                of_variables = [] if variables is None else variables

                @tf.custom_gradient
                def once(d_result, d_total, value, *tensors):
                    found = self._back(
                        result, kept, given, tensors, d_result, d_total, of_variables
                    )
                    return found, _refuse

                found = once(d_result, d_total, value, *tensors)
                d_inputs, d_own = found[: 1 + len(tensors)], found[1 + len(tensors) :]
                return d_inputs if variables is None else (d_inputs, d_own)

            return (result, total), gradient

        return forgetful(value, *self.tensors)

    def errors(self, value):
        """Of each stretch between inputs that are kept."""
        found = []
        rebuilt, _, kept, given = self._there(value, self.tensors)
        for i, step in reversed(list(enumerate(self.steps))):
            if step.is_rebuilt:
                rebuilt = step.undo(rebuilt, given[i])
                if i in kept or i == 0:
                    found.append(_relative_error(rebuilt, kept.get(i, value)))
            rebuilt = kept.get(i, rebuilt)
        return found

    def _there(self, value, tensors):
        """Result, log-determinant, inputs to keep, and the keywords of each step."""
        keywords = {**self.keywords, **dict(zip(self.names, tensors, strict=True))}
        total, kept, given = tf.zeros([], value.dtype), {}, []
        for i, step in enumerate(self.steps):
            if i in self.kept:
                kept[i] = value
            given.append(_with_seed(step.bijector, keywords))
            value, log_det = step.take(value, given[i])
            total += log_det
        return value, total, kept, given

    def _back(self, result, kept, given, tensors, d_result, d_total, variables):
        """Gradients of the value, of tensors and of variables, in one list."""
        d_tensors, d_variables, done = [None] * len(tensors), {}, []
        for i, step in reversed(list(enumerate(self.steps))):
            # A step waits for the last: else all activations would be there at once.
            with tf.control_dependencies(done), _repeating():
                with tf.GradientTape() as tape:
                    tape.watch(tensors)
                    parts, merge, again, log_det = (
                        step.record(kept[i], given[i], tape)
                        if i in kept
                        else step.replay(result, given[i], tape)
                    )
                    log_det += tf.zeros_like(d_total)
                d_parts, d_given, d_own = tape.gradient(
                    [again, log_det],
                    [parts, tensors, tape.watched_variables()],
                    output_gradients=[d_result, d_total],
                )
                d_parts = [
                    tf.zeros_like(part) if d is None else d
                    for part, d in zip(parts, d_parts, strict=True)
                ]
                result, d_result = merge(parts), merge(d_parts)
                d_tensors = list(map(_add, d_tensors, d_given))
                for variable, d in zip(tape.watched_variables(), d_own, strict=True):
                    key = variable.ref()
                    d_variables[key] = _add(d_variables.get(key), d)
            done = [d_result, *(d for d in d_own if d is not None)]
        d_own = [d_variables.get(v.ref()) for v in variables]
        pairs = zip(d_tensors + d_own, [*tensors, *variables], strict=True)
        rest = [tf.zeros_like(v) if d is None else d for d, v in pairs]
        return [d_result, *map(tf.convert_to_tensor, rest)]


def _refuse(*_, variables=None):
    raise NotImplementedError(
        "gradients of gradients need what a chain with recompute_gradients=True does "
        "not keep. Use chain.copy(recompute_gradients=False), which shares its "
        "variables."
    )


@contextlib.contextmanager
def _repeating():
    before, _state.recomputing = _state.recomputing, True
    try:
        yield
    finally:
        _state.recomputing = before


def _with_seed(bijector, keywords):
    """Keywords with a seed for what would otherwise draw anew when repeated."""
    if (
        "seed" in keywords_of(bijector)
        and keywords.get("training")
        and keywords.get("seed") is None
    ):
        return {**keywords, "seed": stateless_seed(None)}
    return keywords


def _add(a, b):
    if a is None or b is None:
        return b if a is None else a
    return tf.convert_to_tensor(a) + tf.convert_to_tensor(b)


def _relative_error(found, expected):
    if expected.shape.num_elements() == 0:
        return tf.zeros([], expected.dtype)
    difference = tf.reduce_max(tf.abs(found - expected))
    scale = 1 + tf.reduce_max(tf.abs(expected))
    # A maximum may overlook NaN.
    is_known = tf.reduce_all(tf.math.is_finite(found))
    return tf.where(is_known, difference / scale, np.nan)
