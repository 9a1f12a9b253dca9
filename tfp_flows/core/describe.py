"""The `repr` of a bijector shows its configuration."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

__all__ = ["describe", "is_equal"]


def describe(bijector: tfb.Bijector, **members: Sequence[tfb.Bijector]) -> str:
    """The class of a bijector and those of its arguments that are not the defaults.

    Args:
      bijector: the bijector.
      **members: lists of bijectors, each of which is described on a line of its own,
        by the name of the constructor's argument that holds them.
    """
    cls = type(bijector)
    signature = inspect.signature(cls.__init__).parameters
    shown = []
    for name, value in (bijector.parameters or {}).items():
        default = (
            signature[name].default if name in signature else inspect.Parameter.empty
        )
        left_out = name == "name" or name in members
        if left_out or is_equal(value, default):
            continue
        shown.append(f"{name}={_shortened(value)}")
    shown.append(f"name={bijector.name!r}")
    lines = [repr(member) for group in members.values() for member in group]
    inner = textwrap.indent("".join(f"\n{line}" for line in lines), "  ")
    return f"{cls.__name__}({', '.join(shown)}){inner}"


def is_equal(a: Any, b: Any) -> bool:
    """Whether two arguments are the same, or plain values that agree."""
    # `==` of arrays is no truth.
    simple = type(a) is type(b) and isinstance(a, (str, int, float, tuple))
    return a is b or (simple and a == b)


def _shortened(value):
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"<{tf.as_dtype(value.dtype).name} {tuple(value.shape)}>"
    if isinstance(value, tf.DType):
        return repr(value.name)
    if isinstance(value, list):
        return f"[{', '.join(map(_shortened, value))}]"
    if callable(value) or isinstance(value, tf.Module):
        return getattr(value, "name", None) or type(value).__name__
    return repr(value)
