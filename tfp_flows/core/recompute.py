"""Gradients of a chain without its activations: inputs are rebuilt by the inverse."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import threading
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import record

from tfp_flows.core.any_bijector import (
    forward_and_log_det,
    inverse_and_log_det,
    keywords_of,
    known_keywords,
    min_event_ndims,
    over_events,
)
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.repeat import Stretch, stretches
from tfp_flows.core.seeds import stateless_seed

tfb = tfp.bijectors

__all__ = [
    "Step",
    "evaluate",
    "recomputing",
    "reconstruction_errors",
    "recording",
    "take_all",
]


class Step(NamedTuple):
    """One bijector's turn on the way through a chain."""

    bijector: tfb.Bijector
    forward: bool
    event_ndims: int

    def take(self, value, keywords):
        """Result and log-determinant."""
        function = forward_and_log_det if self.forward else inverse_and_log_det
        return function(self.bijector, value, self.event_ndims, keywords)

    def take_unrecorded(self, value, keywords):
        """As `take`, unseen by the tapes that are there, which have been stopped."""
        if tf.executing_eagerly() and self._makes_no_tape:
            return self.take(value, keywords)
        value, keywords = tf.nest.map_structure(_constant, (value, keywords))
        with recording():
            return self.take(value, keywords)

    @property
    def _makes_no_tape(self):
        """Whether only bijectors from here are in it: they restart tapes themselves."""
        b = self.bijector
        bijectors = [m for m in (b, *b.submodules) if isinstance(m, tfb.Bijector)]
        return all(type(b).__module__.startswith("tfp_flows.") for b in bijectors)

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
        split = getattr(b, "split", None) if inner else None
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
    turns = []
    for line, group in itertools.groupby(steps, lambda step: step.line):
        group = list(group)
        if line is None or len(group) == 1:
            turns += [(_take, step) for step in group]
        else:
            turns.append((_take_apart, group[0]))
            turns += [(_change, step) for step in group]
            turns.append((_put_together, group[-1]))
    tensors, others = _separate(keywords)
    parts, log_dets = [value], []
    for stretch in _stretches(turns):

        def take_unit(i, parts, tensors, seeds, units=stretch.units):
            log_dets = []
            for (function, step), seed in zip(units[i], seeds, strict=True):
                given = _seeded({**others, **tensors}, seed)
                parts, log_det = function(step, parts, given)
                log_dets.append(log_det)
            return parts, _sum(log_dets)

        call = stretch.calls(take_unit)
        for i, unit in enumerate(stretch.units):
            # Outside of what is traced once: each draws numbers of its own.
            seeds = [_seed_of(step.bijector, keywords) for _, step in unit]
            parts, log_det = call(i, parts, tensors, seeds)
            log_dets.append(log_det)
    total = _sum(log_dets)
    return parts[0], tf.zeros([], value.dtype) if total is None else total


def _take(step, parts, keywords):
    value, log_det = step.take(parts[0], keywords)
    return [value], log_det


def _take_apart(step, parts, keywords):
    return list(step.bijector.split.take_apart(parts[0])), None


def _change(step, parts, keywords):
    b, swap = step.bijector, step.bijector.split.swap
    kept, changed = swap(parts)
    known = known_keywords(b, keywords)
    changed, log_det = b._change(kept, changed, step.forward, **known)
    return list(swap((kept, changed))), log_det


def _put_together(step, parts, keywords):
    return [step.bijector.split.put_together(parts)], None


def _sum(log_dets):
    known = [log_det for log_det in log_dets if log_det is not None]
    return functools.reduce(operator.add, known) if known else None


def _separate(keywords):
    """Keywords that are tensors, and the others."""
    tensors = {
        k: tf.convert_to_tensor(v) for k, v in keywords.items() if tf.is_tensor(v)
    }
    return tensors, {k: v for k, v in keywords.items() if k not in tensors}


def _stretches(turns):
    # What a diagnostic collects in the function of a unit would be lost.
    return stretches(turns) if _state.errors is None else [Stretch([turns])]


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
def recording():
    """Tapes record meanwhile, though they may have been stopped.

    For gradients that are part of a value: without this, a chain that recomputes, or
    `tf.init_scope`, would make them zero.
    """
    stopped = pywrap_tfe.TFE_Py_TapeSetIsStopped()
    if stopped:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        yield
    finally:
        if stopped:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()


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
        # Gradients reach those keywords that are arguments.
        tensors, _ = _separate(keywords)
        self.tensors = {k: v for k, v in tensors.items() if v.dtype.is_floating}
        self.fixed = {k: v for k, v in keywords.items() if k not in self.tensors}
        keeps = [
            not step.is_rebuilt
            or bool(checkpoint_every and i and i % checkpoint_every == 0)
            for i, step in enumerate(steps)
        ]
        self.stretches = _stretches(list(zip(steps, keeps, strict=True)))

    def evaluate(self, value):
        names = list(self.tensors)

        @tf.custom_gradient
        def forgetful(value, *tensors):
            given = dict(zip(names, tensors, strict=True))
            with record.stop_recording():
                result, total, notes = self._there(value, given)

            def gradient(d_result, d_total, variables=None):
                of_variables = [] if variables is None else variables

                @tf.custom_gradient
                def once(d_result, d_total, value, *tensors):
                    given = dict(zip(names, tensors, strict=True))
                    found = self._back(
                        result, notes, given, d_result, d_total, of_variables
                    )
                    return found, _refuse

                found = once(d_result, d_total, value, *tensors)
                d_inputs, d_own = found[: 1 + len(tensors)], found[1 + len(tensors) :]
                return d_inputs if variables is None else (d_inputs, d_own)

            return (result, total), gradient

        return forgetful(value, *self.tensors.values())

    def errors(self, value):
        """Of each stretch between inputs that are kept."""
        found = []
        rebuilt, _, notes = self._there(value, self.tensors)
        steps = [step for s in self.stretches for unit in s.units for step, _ in unit]
        inputs, seeds = zip(*itertools.chain(*notes), strict=True)
        for i, step in reversed(list(enumerate(steps))):
            if step.is_rebuilt:
                rebuilt = step.undo(rebuilt, self._keywords(self.tensors, seeds[i]))
                if i == 0 or inputs[i] is not None:
                    found.append(_relative_error(rebuilt, inputs[i] if i else value))
            rebuilt = rebuilt if inputs[i] is None else inputs[i]
        return found

    def _keywords(self, tensors, seed):
        return _seeded({**self.fixed, **tensors}, seed)

    def _there(self, value, tensors):
        """Result, log-determinant, and of each step the input and seed, if kept."""
        log_dets, notes = [], []
        for stretch in self.stretches:

            def take_unit(i, value, tensors, seeds, units=stretch.units):
                log_dets, kept = [], []
                for (step, keeps), seed in zip(units[i], seeds, strict=True):
                    kept.append(value if keeps else None)
                    given = self._keywords(tensors, seed)
                    value, log_det = step.take_unrecorded(value, given)
                    log_dets.append(log_det)
                return value, _sum(log_dets), kept

            # On the way back, steps wait for one another: nothing runs side by side.
            call = stretch.calls(take_unit, copies=False)
            for i, unit in enumerate(stretch.units):
                seeds = [
                    _seed_of(s.bijector, self._keywords(tensors, None)) for s, _ in unit
                ]
                value, log_det, kept = call(i, value, tensors, seeds)
                log_dets.append(log_det)
                notes.append(list(zip(kept, seeds, strict=True)))
        return value, _sum(log_dets), notes

    def _back(self, result, notes, tensors, d_result, d_total, variables):
        """Gradients of the value, of tensors and of variables, in one list."""
        d_tensors, d_variables, done = [None] * len(tensors), {}, []
        notes = list(notes)
        for stretch in reversed(self.stretches):
            # A unit has variables of its own, and some that are not any unit's.
            of_units = {v.ref() for own in stretch.variables for v in own}
            others = [v for v in variables if v.ref() not in of_units]
            owned = [[*own, *others] for own in stretch.variables]

            def undo_unit(i, *arguments, units=stretch.units, owned=owned):
                *found, d_own = self._undo([step for step, _ in units[i]], *arguments)
                return *found, [d_own.pop(v.ref(), None) for v in owned[i]]

            call = stretch.calls(undo_unit, copies=False)
            for i in reversed(range(len(stretch.units))):
                with tf.control_dependencies(done):
                    result, d_result, d_given, d_own = call(
                        i, result, d_result, d_total, tensors, notes.pop()
                    )
                d_tensors = list(map(_add, d_tensors, d_given))
                _add_each(d_variables, owned[i], d_own)
                done = [d_result, *(d for d in d_own if d is not None)]
        d_own = [d_variables.get(v.ref()) for v in variables]
        pairs = zip(d_tensors + d_own, [*tensors.values(), *variables], strict=True)
        rest = [tf.zeros_like(v) if d is None else d for d, v in pairs]
        return [d_result, *map(tf.convert_to_tensor, rest)]

    def _undo(self, steps, result, d_result, d_total, tensors, notes):
        """The value before some steps, and its gradient, tensors' and variables'."""
        d_tensors, d_variables, done = [None] * len(tensors), {}, []
        watched = list(tensors.values())
        for step, (kept, seed) in reversed(list(zip(steps, notes, strict=True))):
            keywords = self._keywords(tensors, seed)
            # A step waits for the last: else all activations would be there at once.
            with tf.control_dependencies(done), _repeating():
                with tf.GradientTape() as tape:
                    tape.watch(watched)
                    parts, merge, again, log_det = (
                        step.replay(result, keywords, tape)
                        if kept is None
                        else step.record(kept, keywords, tape)
                    )
                    log_det += tf.zeros_like(d_total)
                d_parts, d_given, d_own = tape.gradient(
                    [again, log_det],
                    [parts, watched, tape.watched_variables()],
                    output_gradients=[d_result, d_total],
                )
                d_parts = [
                    tf.zeros_like(part) if d is None else d
                    for part, d in zip(parts, d_parts, strict=True)
                ]
                result, d_result = merge(parts), merge(d_parts)
                d_tensors = list(map(_add, d_tensors, d_given))
                _add_each(d_variables, tape.watched_variables(), d_own)
            done = [d_result, *(d for d in d_own if d is not None)]
        return result, d_result, d_tensors, d_variables


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


def _constant(x):
    is_floating = tf.is_tensor(x) and x.dtype.is_floating
    return tf.stop_gradient(x) if is_floating else x


def _seed_of(bijector, keywords):
    """A seed for what would otherwise draw anew when repeated."""
    if (
        "seed" in keywords_of(bijector)
        and keywords.get("training")
        and keywords.get("seed") is None
    ):
        return stateless_seed(None)
    return None


def _seeded(keywords, seed):
    return keywords if seed is None else {**keywords, "seed": seed}


def _add_each(totals, variables, gradients):
    """Adds gradients to those that are known, by variable."""
    for variable, d in zip(variables, gradients, strict=True):
        key = variable.ref()
        totals[key] = _add(totals.get(key), d)


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
