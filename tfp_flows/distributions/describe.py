"""Distributions as text."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

__all__ = ["describe_distribution", "describe_flow"]


def describe_flow(flow: Any) -> str:
    """A flow as a block of lines: its base, and its bijectors as data meet them."""
    lines = [f"{type(flow).__name__}("]
    lines += [f"  {line}," for line in _facts(flow)]
    bijectors = getattr(flow.bijector, "bijectors", [flow.bijector])
    lines.append("  bijectors, from data to noise:")
    for i, bijector in enumerate(bijectors):
        lines += _indented(f"({i}): {bijector!r}", 4)
    encoder = flow._context_encoder
    if encoder is not None:
        what = getattr(encoder, "keras_layer", None) or encoder
        lines += _indented(f"context_encoder: {what!r}", 2)
    lines += _indented(f"distribution: {flow.distribution!r}", 2)
    return "\n".join([*lines, ")"])


def describe_distribution(distribution: tfd.Distribution, **arguments: Any) -> str:
    """A distribution as one line: its shapes, and all arguments that are not `None`.

    Args:
      distribution: the distribution.
      **arguments: its main arguments.
    """
    given = [f"{k}={v!r}" for k, v in arguments.items() if v is not None]
    return (
        f"{type(distribution).__name__}({', '.join([*_facts(distribution), *given])})"
    )


def _facts(distribution):
    facts = [
        f"name={distribution.name!r}",
        f"event_shape={distribution.event_shape.as_list()}",
    ]
    if distribution.batch_shape.rank != 0:
        facts.append(f"batch_shape={distribution.batch_shape}")
    context_shape = getattr(distribution, "context_shape", None)
    if context_shape is not None:
        facts.append(f"context_shape={context_shape}")
    return [*facts, f"dtype={tf.as_dtype(distribution.dtype).name}"]


def _indented(text, by):
    return [" " * by + line for line in text.split("\n")]
