"""The plain walk: a value goes through bijectors, one after the other.

A `Step` is one evaluation of one bijector. A *unit* is a list of steps, and a `Run` is
several units that compute the same function of their own variables; steps that do not
repeat form a run of a single unit. A walk takes a value through a list of runs.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_flows.core.event_split import AxisPartition
from tfp_flows.core.joint_bijector import JointBijector, min_event_ndims
from tfp_flows.core.repeat import SharedTrace, shares_traces
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import check_log_det, sum_trailing

__all__ = [
    "Run",
    "Step",
    "joined",
    "runs_of",
    "seed_of",
    "separate",
    "total",
    "walk",
]


class Step(NamedTuple):
    """One evaluation of one bijector in a walk.

    Attributes:
      bijector: the bijector.
      forward: the direction.
      event_ndims: rank of the event of the input, at least the bijector's own.
    """

    bijector: JointBijector
    forward: bool
    event_ndims: int

    @property
    def result_event_ndims(self) -> int:
        """Rank of the event of the result."""
        b = self.bijector
        return (
            self.event_ndims
            + min_event_ndims(b, not self.forward)
            - min_event_ndims(b, self.forward)
        )

    @property
    def split(self) -> AxisPartition | None:
        """How the bijector splits its event, if it has that fast path; else `None`."""
        b = self.bijector
        if self.event_ndims != min_event_ndims(b, self.forward):
            return None
        return b._event_split if b._has_fast_path("event_split") else None

    def take(
        self, value: tf.Tensor, keywords: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Evaluates the bijector, with those keywords that it knows.

        Args:
          value: tensor `[*batch, *event]`.
          keywords: keywords of the whole walk.

        Returns:
          `(result, log_det)`, the log-determinant in nats for each event.
        """
        b = self.bijector
        method = b._forward_and_log_det if self.forward else b._inverse_and_log_det
        result, log_det = method(value, **self.known(keywords))
        return result, self.over_events(log_det, value)

    def known(self, keywords: dict[str, Any]) -> dict[str, Any]:
        """The keywords that the bijector knows."""
        names = self.bijector.keywords if keywords else ()
        return {k: v for k, v in keywords.items() if k in names}

    def over_events(self, log_det: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Sums a log-determinant over the event dimensions outside the bijector's."""
        b = self.bijector
        batch = value.shape[: value.shape.rank - min_event_ndims(b, self.forward)]
        check_log_det(log_det, batch, b.name)
        extra = self.event_ndims - min_event_ndims(b, self.forward)
        if not extra:
            return log_det
        # A constant log-determinant may be one number for all events.
        if log_det.shape != batch or not batch.is_fully_defined():
            log_det = tf.broadcast_to(log_det, tf.shape(value)[: batch.rank])
        return sum_trailing(log_det, extra)


class _Turn(NamedTuple):
    """A step, and how it deals with an event that may be split in two parts.

    Attributes:
      step: the step.
      split: how the event is split during the step; `None` if it is whole.
      opens: whether the event is split before the step.
      closes: whether it is joined again after the step.
    """

    step: Step
    split: AxisPartition | None
    opens: bool
    closes: bool


class Run:
    """Successive steps, in units that compute the same function of their variables.

    Args:
      units: the steps of each unit; a single unit for steps that do not repeat.
      variables: the variables of each unit, in corresponding order.
    """

    def __init__(
        self,
        units: Sequence[Sequence[Step]],
        variables: Sequence[Sequence[tf.Variable]] = ((),),
    ):
        self.units = [list(unit) for unit in units]
        self.variables = [list(own) for own in variables]
        # Successive steps with the same line pass the two parts on without joining
        # them, whichever part each of them keeps.
        lines = {step.split and step.split.line for step in self.steps}
        self.split = None
        if len(self.units) > 1 and len(lines) == 1:
            self.split = self.units[0][0].split
        self.turns = [list(_turns(unit, self.split)) for unit in self.units]

    @property
    def steps(self) -> list[Step]:
        """All steps in order."""
        return list(itertools.chain(*self.units))

    def shared(self, function: Callable, copies: bool = True) -> Callable:
        """`function(i, ...)` of the `i`-th unit, traced once if possible.

        See `SharedTrace`. It traces two units, to compare them: of two, none is saved.
        """
        if len(self.units) <= 2 or not shares_traces():
            return function
        modules = [[step.bijector for step in unit] for unit in self.units]
        return SharedTrace(function, self.variables, modules, copies)


def _turns(steps, split):
    if split is not None:
        for step in steps:
            yield _Turn(step, step.split, False, False)
        return
    for line, group in itertools.groupby(steps, lambda s: s.split and s.split.line):
        group = list(group)
        last = len(group) - 1
        for i, step in enumerate(group):
            if line is None:
                yield _Turn(step, None, False, False)
            else:
                yield _Turn(step, step.split, i == 0, i == last)


def runs_of(
    bijector: JointBijector, forward: bool, event_ndims: int, deep: bool = False
) -> list[Run]:
    """The steps of a bijector: those of its members if it is made of others.

    Args:
      bijector: the bijector.
      forward: the direction.
      event_ndims: rank of the event of the input.
      deep: whether a chain with `recompute_gradients=True` gives the steps of its
        members too, instead of being one step.
    """
    if bijector._has_fast_path("runs"):
        return bijector._runs(forward, event_ndims, deep)
    return [Run([[Step(bijector, forward, event_ndims)]])]


def joined(
    runs: Sequence[Run], is_apart: Callable[[Step], bool] | None = None
) -> list[Run]:
    """Joins neighbouring runs that do not repeat into one run.

    Args:
      runs: the runs.
      is_apart: says which steps keep their own runs; by default none.

    Returns:
      Runs of the same steps in the same order.
    """

    def kind(run):
        alone = is_apart is not None and any(map(is_apart, run.steps))
        return len(run.units) > 1 or alone

    result: list[Run] = []
    for apart, group in itertools.groupby(runs, kind):
        same = list(group)
        result += same if apart else [Run([[s for run in same for s in run.steps]])]
    return result


def walk(
    runs: Sequence[Run], value: tf.Tensor, keywords: dict[str, Any]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes a value through all steps.

    Args:
      runs: the runs, in order.
      value: tensor that the first step takes.
      keywords: each is passed to the steps that know it.

    Returns:
      `(result, log_det)`; the log-determinant, in nats, broadcasts with the batch.
    """
    tensors, others = separate(keywords)
    log_dets = []
    for run in runs:

        def take_unit(i, parts, tensors, seeds, run=run):
            log_dets = []
            for (step, split, opens, closes), seed in zip(
                run.turns[i], seeds, strict=True
            ):
                given = {**others, **tensors}
                if seed is not None:
                    given["seed"] = seed
                if opens:
                    parts = split.take_apart(parts[0])
                if split is None:
                    value, log_det = step.take(parts[0], given)
                    parts = [value]
                else:
                    kept, changed = split.swap(parts)
                    changed, log_det = step.bijector._change(
                        kept, changed, step.forward, **step.known(given)
                    )
                    parts = list(split.swap((kept, changed)))
                if closes:
                    parts = [split.put_together(parts)]
                log_dets.append(log_det)
            return parts, total(log_dets)

        take = run.shared(take_unit)
        parts = [value] if run.split is None else list(run.split.take_apart(value))
        for i, unit in enumerate(run.units):
            # Outside of the shared trace, so that each unit draws its own numbers.
            seeds = [seed_of(step, keywords) for step in unit]
            parts, log_det = take(i, parts, tensors, seeds)
            log_dets.append(log_det)
        value = parts[0] if run.split is None else run.split.put_together(parts)
    log_det = total(log_dets)
    return value, tf.zeros([], value.dtype) if log_det is None else log_det


def total(log_dets: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """The sum of log-determinants, or `None` if there are none."""
    return functools.reduce(operator.add, log_dets) if log_dets else None


def separate(keywords: dict[str, Any]) -> tuple[dict, dict]:
    """Divides keywords into tensors and other values: two dictionaries."""
    tensors = {
        k: tf.convert_to_tensor(v) for k, v in keywords.items() if tf.is_tensor(v)
    }
    return tensors, {k: v for k, v in keywords.items() if k not in tensors}


def seed_of(step: Step, keywords: dict[str, Any]) -> tf.Tensor | None:
    """A seed for a step in training mode that was given none, else `None`.

    With it, the step draws the same numbers if it is evaluated again for a gradient.
    """
    is_drawn = keywords.get("training") and keywords.get("seed") is None
    return (
        stateless_seed(None) if is_drawn and "seed" in step.bijector.keywords else None
    )
