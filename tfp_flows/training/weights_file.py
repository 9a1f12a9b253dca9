"""A description of a flow's structure, kept with its weights to check them by."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["ArchitectureMismatch", "ArchitectureState", "check", "describe"]

tfb = tfp.bijectors
tfd = tfp.distributions

# Arguments of a ready flow that its weights do not depend on.
_FREE = (
    "seed",
    "recompute_gradients",
    "checkpoint_every",
    "conditioner_dtype",
    "name",
)


class ArchitectureMismatch(ValueError):
    """Weights were given to a flow of another architecture."""


def describe(distribution: tfd.Distribution) -> list[str]:
    """One line for each bijector, distribution and variable, in order.

    Two flows with equal descriptions give a set of weights the same meaning. Names
    are left out: they depend on what was built before.
    """
    lines = []
    config = getattr(distribution, "config", None)
    if config is not None:
        kept = {k: _nameless(v) for k, v in config.items() if k not in _FREE}
        lines.append(json.dumps(kept, sort_keys=True))
    for module in (distribution, *distribution.submodules):
        if not isinstance(module, (tfb.Bijector, tfd.Distribution)):
            continue
        line = type(module).__name__
        if isinstance(module, tfb.Bijector):
            line += f" {module.forward_min_event_ndims}"
            line += f" {getattr(module, '_input_event_shape', None)}"
            line += getattr(module, "_structure", "")
        lines.append(line + _constants(module))
    lines += [f"variable {v.shape} {v.dtype.name}" for v in distribution.variables]
    return lines


def _nameless(value):
    """A description of Keras layers with their names numbered from 0."""
    if not isinstance(value, dict):
        return value
    numbers = {}

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


def _constants(module: tf.Module) -> str:
    """The numbers that a bijector or distribution was given, in single precision."""
    text = ""
    for name, value in sorted(module.parameters.items()):
        if name in _FREE or isinstance(value, (bool, tf.Variable)):
            continue
        if isinstance(value, (int, float, np.generic, np.ndarray)) or tf.is_tensor(
            value
        ):
            known = tf.get_static_value(value) if tf.is_tensor(value) else value
            if known is None or not np.issubdtype(np.asarray(known).dtype, np.number):
                continue
            known = np.asarray(known, np.float32)
            shown = known if known.ndim == 0 else hashlib.sha256(known).hexdigest()[:16]
            text += f" {name}={shown}"
    return text


def check(found: list[str], expected: list[str], source: str) -> None:
    """Raises `ArchitectureMismatch` naming the first difference."""
    if found == expected:
        return
    n = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
        min(len(found), len(expected)),
    )
    here = expected[n] if n < len(expected) else "nothing more"
    there = found[n] if n < len(found) else "nothing more"
    if here.startswith("{") and there.startswith("{"):
        ours, theirs = json.loads(here), json.loads(there)
        keys = sorted(ours.keys() | theirs.keys())
        keys = [k for k in keys if ours.get(k) != theirs.get(k)]
        here = ", ".join(f"{k}={ours.get(k)!r}" for k in keys)
        there = ", ".join(f"{k}={theirs.get(k)!r}" for k in keys)
    raise ArchitectureMismatch(
        f"{source} holds weights of another architecture: it has {there} where this "
        f"flow has {here}. Build the flow with the arguments it was saved with."
    )


class ArchitectureState(tf.train.experimental.PythonState):
    """Puts the description into `tf.train.Checkpoint`s, and checks it on restore."""

    def __init__(self, distribution: tfd.Distribution):
        self._lines = describe(distribution)

    def serialize(self) -> str:
        return json.dumps(self._lines)

    def deserialize(self, string_value) -> None:
        if isinstance(string_value, bytes):
            string_value = string_value.decode()
        check(json.loads(string_value), self._lines, "the checkpoint")
