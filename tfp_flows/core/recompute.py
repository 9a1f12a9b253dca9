"""Gradients of a chain that keep no activations: inverses rebuild the inputs.

On the way back through the steps, the gradient *replays* each of them: it rebuilds the
input from the output and evaluates the step again on a tape.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.own_code import is_own
from tfp_flows.core.repeat import unrolled
from tfp_flows.core.tf_internals import recording, stop_recording
from tfp_flows.core.walk import (
    Run,
    Step,
    seed_of,
    separate,
    total,
    walk,
)

tfb = tfp.bijectors

__all__ = ["evaluate", "recomputing", "reconstruction_errors", "sees_to_itself"]


class _State(threading.local):
    recomputing = False
    errors: list[tf.Tensor] | None = None


_state = _State()


def recomputing() -> bool:
    """Whether an evaluation is being repeated for its gradient.

    Updates of variables (moving averages, power iterations) must not happen again then.
    """
    return _state.recomputing


@contextlib.contextmanager
def reconstruction_errors() -> Iterator[list[tf.Tensor]]:
    """A context that collects how far rebuilt inputs are off in evaluations inside it.

    There is one error for each series of steps between inputs that are kept: the
    largest difference between the input and the rebuilt one, relative to one plus the
    input's largest entry.
    """
    before, _state.errors = _state.errors, []
    try:
        # Tensors that are collected inside a shared trace could not leave it.
        with unrolled():
            yield _state.errors
    finally:
        _state.errors = before


def evaluate(
    runs: Sequence[Run],
    value: tf.Tensor,
    keywords: dict[str, Any],
    checkpoint_every: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Takes a value through all steps, with a gradient that rebuilds their inputs.

    The gradient goes back through the steps, one by one. It rebuilds the input of a
    step from its output, evaluates the step again, takes its gradient and drops the
    output (Gomez et al. 2017, "The Reversible Residual Network", algorithm 1). Only
    the inputs of steps without a direct inverse are kept.

    The walk reads each variable once. To know where gradients go, `tf.custom_gradient`
    reads it once more, and twice in a graph; such a read copies nothing.

    Args:
      runs: the runs, in order.
      value: tensor that the first step takes.
      keywords: each is passed to the steps that know it.
      checkpoint_every: number of steps after which an input is kept as well.

    Returns:
      `(result, log_det)`; the log-determinant, in nats, broadcasts with the batch.
    """
    log_dets = [tf.zeros([], value.dtype)]
    for alone, group in itertools.groupby(runs, _is_left_alone):
        if alone:
            value, log_det = walk(list(group), value, keywords)
        else:
            way = _Walk(list(group), keywords, checkpoint_every)
            if _state.errors is not None:
                _state.errors += way.errors(value)
            value, log_det = way.evaluate(value)
        log_dets.append(log_det)
    return value, total(log_dets)


def sees_to_itself(step: Step) -> bool:
    """Whether the members of a step's bijector recompute gradients (`MultiScale`).

    A chain around it then takes the ordinary gradient of the step.
    """
    return getattr(step.bijector, "_recomputes_itself", False)


def _is_left_alone(run: Run) -> bool:
    return any(map(sees_to_itself, run.steps))


def _takes_no_gradients(step: Step) -> bool:
    """Whether a step and all bijectors in it have the fast path "untaped".

    It holds for what the package has written: a transformer or conditioner of a user's
    may take gradients.
    """

    def takes_none(part):
        if isinstance(part, Conditioner):
            return is_own(part)
        if not isinstance(part, tfb.Bijector):
            return True
        is_untaped = isinstance(part, JointBijector) and part._has_fast_path("untaped")
        transformer = getattr(part, "_transformer", None)
        return is_untaped and (transformer is None or is_own(transformer))

    b = step.bijector
    return all(map(takes_none, (b, *b.submodules)))


def _take_unrecorded(
    step: Step, value: tf.Tensor, keywords: dict[str, Any]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Like `step.take`, but not recorded on outer tapes, which the caller has stopped.

    A step that may take gradients itself needs tapes that record. It then gets its
    inputs as constants instead.
    """
    if tf.executing_eagerly() and _takes_no_gradients(step):
        return step.take(value, keywords)
    value, keywords = tf.nest.map_structure(_constant, (value, keywords))
    with recording():
        return step.take(value, keywords)


def _undo(step: Step, result: tf.Tensor, keywords: dict[str, Any]) -> tf.Tensor:
    """The input of a step, from its result, by the inverse."""
    back = Step(step.bijector, not step.forward, step.result_event_ndims)
    return back.take(result, keywords)[0]


def _replay(
    step: Step, result: tf.Tensor, keywords: dict[str, Any], tape: tf.GradientTape
) -> tuple[list[tf.Tensor], Callable, tf.Tensor, tf.Tensor]:
    """Rebuilds the input of a step from its result, and evaluates the step on `tape`.

    Returns:
      `(parts, merge, result, log_det)`: `parts` are tensors that the tape watches, and
      `merge(parts)` is the input. `merge` also makes the gradient of the input from
      those of the parts.
    """
    b = step.bijector
    if not b._has_fast_path("replay"):
        with tape.stop_recording():
            value = _undo(step, result, keywords)
        return _record(step, value, keywords, tape)
    parts, merge, result, log_det = b._replay(
        result, step.forward, tape, **step.known(keywords)
    )
    return parts, merge, result, step.over_events(log_det, merge(parts))


def _record(
    step: Step, value: tf.Tensor, keywords: dict[str, Any], tape: tf.GradientTape
) -> tuple[list[tf.Tensor], Callable, tf.Tensor, tf.Tensor]:
    """Like `_replay`, for an input that was kept."""
    tape.watch(value)
    return [value], lambda parts: parts[0], *step.take(value, keywords)


class _Walk:
    """A walk through steps that keeps few inputs, and the way back for its gradient.

    *Notes* are what the way back needs. For each step of each unit they hold the input
    (`None` if it is not kept) and the seed (`None` if the step draws no numbers).
    """

    def __init__(self, runs, keywords, checkpoint_every):
        # Keywords that are floating tensors are arguments of the custom gradient, so
        # that they get gradients.
        tensors, _ = separate(keywords)
        self.tensors = {k: v for k, v in tensors.items() if v.dtype.is_floating}
        self.fixed = {k: v for k, v in keywords.items() if k not in self.tensors}
        self.runs = runs
        # Of each run, for each unit: whether the inputs of its steps are kept.
        position = itertools.count()
        self.keeps = [
            [
                tuple(_is_kept(step, next(position), checkpoint_every) for step in unit)
                for unit in run.units
            ]
            for run in runs
        ]

    def evaluate(self, value):
        names = list(self.tensors)

        @tf.custom_gradient
        def forgetful(value, *tensors):
            given = dict(zip(names, tensors, strict=True))
            with stop_recording():
                result, log_det, notes = self._there(value, given)

            def gradient(d_result, d_log_det, variables=None):
                of_variables = [] if variables is None else variables

                @tf.custom_gradient
                def once(d_result, d_log_det, value, *tensors):
                    given = dict(zip(names, tensors, strict=True))
                    found = self._back(
                        result, notes, given, d_result, d_log_det, of_variables
                    )
                    return found, _refuse

                found = once(d_result, d_log_det, value, *tensors)
                d_inputs, d_own = found[: 1 + len(tensors)], found[1 + len(tensors) :]
                return d_inputs if variables is None else (d_inputs, d_own)

            return (result, log_det), gradient

        return forgetful(value, *self.tensors.values())

    def errors(self, value):
        """Errors of rebuilt inputs, see `reconstruction_errors`."""
        found = []
        rebuilt, _, notes = self._there(value, self.tensors)
        steps = [step for run in self.runs for step in run.steps]
        inputs, seeds = zip(*itertools.chain(*notes), strict=True)
        for i, step in reversed(list(enumerate(steps))):
            if step.bijector.has_direct_inverse:
                rebuilt = _undo(step, rebuilt, self._keywords(self.tensors, seeds[i]))
                if i == 0 or inputs[i] is not None:
                    found.append(_relative_error(rebuilt, inputs[i] if i else value))
            rebuilt = rebuilt if inputs[i] is None else inputs[i]
        return found

    def _keywords(self, tensors, seed):
        given = {**self.fixed, **tensors}
        return given if seed is None else {**given, "seed": seed}

    def _there(self, value, tensors):
        """The walk itself: result, log-determinant and notes."""
        log_dets, notes = [], []
        for run, keeps in zip(self.runs, self.keeps, strict=True):

            def take_unit(keeps, i, value, tensors, seeds, run=run):
                log_dets, kept = [], []
                for step, keep, seed in zip(run.units[i], keeps, seeds, strict=True):
                    kept.append(value if keep else None)
                    given = self._keywords(tensors, seed)
                    value, log_det = _take_unrecorded(step, value, given)
                    log_dets.append(log_det)
                return value, total(log_dets), kept

            take = _shared(run, keeps, take_unit)
            for i, unit in enumerate(run.units):
                given = self._keywords(tensors, None)
                seeds = [seed_of(step, given) for step in unit]
                value, log_det, kept = take(i, value, tensors, seeds)
                log_dets.append(log_det)
                notes.append(list(zip(kept, seeds, strict=True)))
        return value, total(log_dets), notes

    def _back(self, result, notes, tensors, d_result, d_log_det, variables):
        """The way back: gradients of the value, tensors and variables, in one list."""
        d_tensors, d_variables, done = [None] * len(tensors), {}, []
        notes = list(notes)
        for run, keeps in reversed(list(zip(self.runs, self.keeps, strict=True))):
            # A unit may read its own variables, and those that belong to no unit.
            of_units = {v.ref() for own in run.variables for v in own}
            others = [v for v in variables if v.ref() not in of_units]
            owned = [[*own, *others] for own in run.variables]

            def undo_unit(keeps, i, *arguments, run=run, owned=owned):
                *found, d_own = self._undo(run.units[i], *arguments)
                return *found, [d_own.pop(v.ref(), None) for v in owned[i]]

            undo = _shared(run, keeps, undo_unit)
            for i in reversed(range(len(run.units))):
                with tf.control_dependencies(done):
                    result, d_result, d_given, d_own = undo(
                        i, result, d_result, d_log_det, tensors, notes.pop()
                    )
                d_tensors = list(map(_add, d_tensors, d_given))
                _add_each(d_variables, owned[i], d_own)
                done = [d_result, *(d for d in d_own if d is not None)]
        d_own = [d_variables.get(v.ref()) for v in variables]
        pairs = zip(d_tensors + d_own, [*tensors.values(), *variables], strict=True)
        rest = [tf.zeros_like(v) if d is None else d for d, v in pairs]
        return [d_result, *map(tf.convert_to_tensor, rest)]

    def _undo(self, steps, result, d_result, d_log_det, tensors, notes):
        """Goes back through some steps.

        Returns:
          Their input, and the gradients of the input, of tensors and of variables.
        """
        d_tensors, d_variables, done = [None] * len(tensors), {}, []
        watched = list(tensors.values())
        for step, (kept, seed) in reversed(list(zip(steps, notes, strict=True))):
            keywords = self._keywords(tensors, seed)
            # Each step waits for the one before, or all activations would be in memory
            # at once.
            with tf.control_dependencies(done), _repeating():
                with tf.GradientTape() as tape:
                    tape.watch(watched)
                    parts, merge, again, log_det = (
                        _replay(step, result, keywords, tape)
                        if kept is None
                        else _record(step, kept, keywords, tape)
                    )
                    log_det += tf.zeros_like(d_log_det)
                d_parts, d_given, d_own = tape.gradient(
                    [again, log_det],
                    [parts, watched, tape.watched_variables()],
                    output_gradients=[d_result, d_log_det],
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


def _is_kept(step: Step, position: int, every: int | None) -> bool:
    """Whether the input of a step is kept instead of rebuilt."""
    is_due = bool(every and position and position % every == 0)
    return is_due or not step.bijector.has_direct_inverse


def _shared(
    run: Run, keeps: Sequence[tuple[bool, ...]], function: Callable
) -> Callable:
    """`run.shared`, with one trace for units that keep inputs of the same steps.

    Traces are not inlined (`copies=False`): steps wait for one another, so inlining
    would not let anything run in parallel.
    """
    traces = {
        pattern: run.shared(functools.partial(function, pattern), copies=False)
        for pattern in set(keeps)
    }
    return lambda i, *arguments: traces[keeps[i]](i, *arguments)


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


def _add_each(totals, variables, gradients):
    """Adds gradients of variables to the sums in `totals`."""
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
    # `reduce_max` may ignore NaN.
    is_known = tf.reduce_all(tf.math.is_finite(found))
    return tf.where(is_known, difference / scale, np.nan)
