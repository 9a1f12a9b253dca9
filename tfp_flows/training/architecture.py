"""Describes what the variables of a flow mean, to check files of weights by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

__all__ = ["Architecture", "ArchitectureMismatch", "ArchitectureState"]

# Version of the description. Files of another one are refused.
FORMAT = 1

# Arguments on which the meaning of variables does not depend.
_FREE = frozenset(
    {
        "checkpoint_every",
        "conditioner_dtype",
        "dropout",
        "flow",
        "name",
        "recompute_gradients",
        "seed",
        "validate_args",
    }
)


class ArchitectureMismatch(ValueError):
    """The error of weights that belong to a flow of another architecture."""


class Architecture:
    """A description of what the variables of a flow mean.

    Weights fit a flow if the descriptions agree. A description has three parts:

    * a line for each bijector and distribution, in order: its name, event shapes,
      `_structure`, and the numbers among its other arguments. The name is `_saved_as`
      if the class has one, else that of the class. Arguments in
      `_estimation_arguments` are left out: they change how a density is computed or
      estimated (terms of a series, iterations, samples), not the density itself.
    * a line for each variable: its shape and dtype.
    * the arguments of a ready flow, without those that no variable depends on. Only
      arguments that both descriptions have are compared.

    Args:
      flow: any TFP distribution.
    """

    def __init__(self, flow: tfd.Distribution):
        modules = [
            m
            for m in (flow, *flow.submodules)
            if isinstance(m, (tfb.Bijector, tfd.Distribution))
        ]
        estimates = frozenset().union(*map(_estimation_arguments, modules))
        free = _FREE | estimates
        self.lines = [_describe(m, free) for m in modules]
        self.lines += [f"variable {v.shape} {v.dtype.name}" for v in flow.variables]
        config = getattr(flow, "config", None) or {}
        self.config = {
            k: _nameless(_without(_plain(v), estimates))
            for k, v in config.items()
            if k not in free
        }

    def to_json(self) -> str:
        """The description as text."""
        parts = {"format": FORMAT, "lines": self.lines, "config": self.config}
        return json.dumps(parts, sort_keys=True)

    def check(self, text: str | bytes, source: str) -> None:
        """Raises `ArchitectureMismatch` unless a description agrees with this one.

        Args:
          text: what `to_json` gave.
          source: where it comes from, for the error.
        """
        try:
            found = json.loads(text)
            number, lines, config = found["format"], found["lines"], found["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArchitectureMismatch(
                f"{source} holds a description of its weights that cannot be read."
            ) from error
        if number != FORMAT:
            raise ArchitectureMismatch(
                f"{source} has format {number}, this version reads {FORMAT}: use the "
                "version of tfp_flows that wrote it."
            )
        names = sorted(
            k for k in self.config.keys() & config.keys() if self.config[k] != config[k]
        )
        if names:
            there = ", ".join(f"{k}={config[k]!r}" for k in names)
            here = ", ".join(f"{k}={self.config[k]!r}" for k in names)
        elif lines != self.lines:
            there, here = _first_difference(lines, self.lines)
        else:
            return
        raise ArchitectureMismatch(
            f"{source} holds weights of another architecture: it has {there} where "
            f"this flow has {here}. Build the flow with the arguments it was saved "
            "with."
        )


class ArchitectureState(tf.train.experimental.PythonState):
    """Saves the description in a `tf.train.Checkpoint`, and checks it on restore."""

    def __init__(self, architecture: Architecture):
        self._architecture = architecture

    def serialize(self) -> str:
        return self._architecture.to_json()

    def deserialize(self, string_value: Any) -> None:
        self._architecture.check(string_value, "the checkpoint")


def _estimation_arguments(module: tf.Module) -> frozenset[str]:
    return frozenset(getattr(module, "_estimation_arguments", ()))


def _describe(module: tf.Module, free: frozenset[str]) -> str:
    line = getattr(type(module), "_saved_as", None) or type(module).__name__
    if isinstance(module, tfb.Bijector):
        line += f" {module.forward_min_event_ndims}"
        shape = getattr(module, "_input_event_shape", None)
        line += f" {shape}"
        line += getattr(module, "_structure", "")
        if shape is not None:
            # It is in the line, whether it was given as D or as [D].
            free |= {"event_shape"}
    return line + _numbers(module, free)


def _numbers(module: tf.Module, free: frozenset[str]) -> str:
    """The numbers that a bijector or distribution was given, in single precision."""
    text = ""
    for name, value in sorted((module.parameters or {}).items()):
        if name in free or isinstance(value, (bool, tf.Variable)):
            continue
        if isinstance(value, (int, float, np.generic, np.ndarray)) or tf.is_tensor(
            value
        ):
            known: Any = tf.get_static_value(value) if tf.is_tensor(value) else value
            if known is None or not np.issubdtype(np.asarray(known).dtype, np.number):
                continue
            known = np.asarray(known, np.float32)
            shown = (
                known
                if known.ndim == 0
                else hashlib.sha256(known.tobytes()).hexdigest()[:16]
            )
            text += f" {name}={shown}"
    return text


def _plain(value: Any) -> Any:
    """Converts a value to what JSON makes of it (tuples to lists)."""
    return json.loads(json.dumps(value))


def _without(value: Any, names: frozenset[str]) -> Any:
    """Drops keys of a mapping; returns its `"name"` alone if nothing else is left."""
    if not isinstance(value, Mapping):
        return value
    kept = {k: v for k, v in value.items() if k not in names}
    return kept["name"] if list(kept) == ["name"] else kept


def _nameless(value: Any) -> Any:
    """Replaces the names of Keras layers in a configuration by numbered ones."""
    if not isinstance(value, Mapping):
        return value
    numbers: dict[str, str] = {}

    def collect(part):
        if isinstance(part, dict):
            name = part.get("name")
            if isinstance(name, str):
                numbers.setdefault(name, f"name_{len(numbers)}")
            part = list(part.values())
        if isinstance(part, (list, tuple)):
            for inner in part:
                collect(inner)

    def replace(part):
        if isinstance(part, dict):
            return {k: replace(v) for k, v in part.items()}
        if isinstance(part, (list, tuple)):
            return [replace(v) for v in part]
        return numbers.get(part, part) if isinstance(part, str) else part

    collect(value)
    return replace(value)


def _first_difference(found: list[str], expected: list[str]) -> tuple[str, str]:
    n = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
        min(len(found), len(expected)),
    )
    there, here = (
        lines[n] if n < len(lines) else "nothing more" for lines in (found, expected)
    )
    return there, here
