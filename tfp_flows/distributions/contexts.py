"""Checks of contexts, which are one array or a dict of several parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_real, check_shape
from tfp_flows.core.shapes import check_event_shape

__all__ = [
    "ContextShape",
    "as_context",
    "both",
    "check_context_shape",
    "context_spec",
    "dtype_of",
    "nan_unless",
    "parts_of",
    "without_nan",
]

ContextShape = tuple[int, ...] | dict[str, tuple[int, ...]]


def check_context_shape(shape: Any) -> ContextShape | None:
    """Returns a shape as a tuple, or the shapes of several parts as a dict of tuples.

    Raises:
      TypeError: if a shape is not a sequence of integers, or a name not a string.
      ValueError: if a dict is empty, or an entry of a shape is below 1.
    """
    if shape is None:
        return None
    if not isinstance(shape, Mapping):
        return check_shape("context_shape", shape)
    if not shape:
        raise ValueError("context_shape must name at least one part, got {}.")
    for name in shape:
        if not isinstance(name, str):
            raise TypeError(f"names of parts of a context are strings, got {name!r}.")
    return {k: check_shape(f"context_shape[{k!r}]", v) for k, v in shape.items()}


def dtype_of(shape: ContextShape, dtype: tf.DType) -> tf.DType | dict[str, tf.DType]:
    """`int32` for labels, which are of shape `()`; `dtype` for all else."""
    if isinstance(shape, dict):
        return {k: dtype_of(part, dtype) for k, part in shape.items()}
    return tf.int32 if shape == () else dtype


def context_spec(
    distribution: Any, batch: int | None = None
) -> tf.TensorSpec | dict[str, tf.TensorSpec]:
    """The specification of a batch of contexts: an array, or a dict of arrays.

    Args:
      distribution: a distribution with a `context_shape`.
      batch: number of contexts, `None` if it is not known.

    Returns:
      A `tf.TensorSpec` named `"context"`, or a dict of them, named `"context_"` and the
      name of the part, in letters, digits and underscores.
    """
    shape = distribution.context_shape
    dtype = getattr(distribution, "context_dtype", None) or distribution.dtype
    if not isinstance(shape, dict):
        return tf.TensorSpec([batch, *shape], dtype, "context")
    return {
        k: tf.TensorSpec(
            [batch, *part], dtype[k], "context_" + re.sub(r"[^A-Za-z0-9]", "_", k)
        )
        for k, part in shape.items()
    }


def parts_of(context: Any, shape: ContextShape) -> list[tuple[Any, tuple[int, ...]]]:
    """Each part of a context with its shape."""
    if isinstance(shape, dict):
        return [(context[name], part) for name, part in shape.items()]
    return [(context, shape)]


def as_context(context: Any, shape: ContextShape, name: str) -> Any:
    """Makes a tensor of a context, or a dict of tensors with one common batch shape.

    Args:
      context: what the user gave.
      shape: its shape, or the shapes of its parts.
      name: name of the flow, for errors.

    Returns:
      The tensor or dict of tensors.

    Raises:
      ValueError: if a shape does not fit, a part is missing or unknown, or the batches
        of parts do not broadcast.
      TypeError: if a part holds anything but real numbers, or masked entries.
    """
    if not isinstance(shape, dict):
        return _as_part(context, shape, f"{name}: context")
    if not isinstance(context, Mapping) or set(context) != set(shape):
        found = sorted(context) if isinstance(context, Mapping) else type(context)
        raise ValueError(
            f"{name}: context must be a dict with the parts {sorted(shape)}, got "
            f"{found}."
        )
    parts = {
        k: _as_part(context[k], part, f"{name}: context[{k!r}]")
        for k, part in shape.items()
    }
    return _with_one_batch(parts, shape, name)


def _as_part(part, shape, what):
    check_real(what, part)
    return check_event_shape(tf.convert_to_tensor(part), shape, len(shape), what)


def _with_one_batch(parts, shape, name):
    batches = {k: x.shape[: x.shape.rank - len(shape[k])] for k, x in parts.items()}
    first, *others = batches.values()
    if first.is_fully_defined() and all(b == first for b in others):
        return parts
    common = tf.constant([], tf.int32)
    for k, x in parts.items():
        try:
            first = tf.broadcast_static_shape(first, batches[k])
        except ValueError:
            found = {k: tuple(b) for k, b in batches.items()}
            raise ValueError(
                f"{name}: the batch shapes of the parts of context do not broadcast: "
                f"{found}."
            ) from None
        common = tf.broadcast_dynamic_shape(common, tf.shape(x)[: batches[k].rank])
    whole = {}
    for k, x in parts.items():
        whole[k] = tf.broadcast_to(x, tf.concat([common, shape[k]], 0))
        whole[k].set_shape([*first, *shape[k]])
    return whole


# A network may turn a NaN into a number: a fused product with ReLU makes 0 of it, and
# of a difference of infinities. So NaN and infinity in a context are replaced by 0
# before the networks, and the results for that context are set to NaN after them.
# Gradients of all other results stay finite.


def without_nan(context: Any, shape: ContextShape) -> tuple[Any, tf.Tensor | None]:
    """Replaces NaN and infinity in a context by 0.

    Args:
      context: tensor `[*batch, *shape]`, or a dict of such tensors.
      shape: its shape, or the shapes of its parts.

    Returns:
      `(context, valid)`: `valid` is a boolean tensor of shape `batch`, true for
      finite contexts, or `None` for integers, which are always finite.
    """
    if isinstance(shape, dict):
        found = {k: without_nan(context[k], part) for k, part in shape.items()}
        valid = None
        for _, ok in found.values():
            valid = both(valid, ok)
        return {k: part for k, (part, _) in found.items()}, valid
    if not context.dtype.is_floating:
        return context, None
    missing = ~tf.math.is_finite(context)
    rank = context.shape.rank
    found = tf.reduce_any(missing, list(range(rank - len(shape), rank)))
    return tf.where(missing, tf.zeros([], context.dtype), context), ~found


def both(a: tf.Tensor | None, b: tf.Tensor | None) -> tf.Tensor | None:
    """The logical and of two masks; `None` stands for a mask that is always true."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def nan_unless(valid: tf.Tensor | None, value: tf.Tensor, ndims: int) -> tf.Tensor:
    """Returns `value` with NaN where `valid` is false.

    Args:
      valid: boolean tensor that broadcasts with `batch`; `None` if all are valid.
      value: tensor `[*batch, *event]`.
      ndims: rank of the event.
    """
    if valid is None:
        return value
    for _ in range(ndims):
        valid = valid[..., None]
    return tf.where(valid, value, tf.constant(float("nan"), value.dtype))
