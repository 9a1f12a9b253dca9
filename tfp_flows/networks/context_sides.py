"""Contexts that are images, on the sides of a network's input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from keras import ops

__all__ = ["at_sides", "context_channels"]


def context_channels(
    name: str, context_shape: Sequence[int], x_shape: Sequence[int]
) -> int:
    """The size of the last axis of what `at_sides` returns.

    Args:
      name: of the network, for the error.
      context_shape: shape of a context, with batch: a vector, or of the input's rank.
      x_shape: shape of the input, with batch.

    Raises:
      ValueError: if the context has another rank; or a side that is no multiple and no
        fraction of the input's.
    """
    if len(context_shape) not in (2, len(x_shape)):
        raise ValueError(
            f"{name}: context must be a vector or have the rank of the input; got "
            f"shapes {tuple(context_shape)} and {tuple(x_shape)} (with batch). The "
            "context_encoder of a ready flow makes a vector of it."
        )
    if len(context_shape) == 2:
        return context_shape[-1]
    squeezed, repeated = _factors(context_shape, x_shape)
    sides, wanted = tuple(context_shape[1:-1]), tuple(x_shape[1:-1])
    for side, to, down, up in zip(sides, wanted, squeezed, repeated, strict=True):
        if None not in (side, to) and side * up != to * down:
            raise ValueError(
                f"{name}: the sides of a context must be multiples or fractions of "
                f"those of the input, {wanted}; got {sides}."
            )
    return math.prod(squeezed) * context_shape[-1]


def at_sides(context: Any, x_shape: Sequence[int]) -> Any:
    """A context of the input's rank with the input's sides.

    Where it has more pixels they become channels, as `tfp_flows.bijectors.Squeeze` does
    it; where it has fewer they are repeated.

    Args:
      context: `[batch, *sides, channels]`.
      x_shape: shape of the input, with batch.
    """
    squeezed, repeated = _factors(context.shape, x_shape)
    if math.prod(squeezed) > 1:
        count, channels = len(squeezed), context.shape[-1]
        sides = [n // k for n, k in zip(context.shape[1:-1], squeezed, strict=True)]
        apart = itertools.chain(*zip(sides, squeezed, strict=True))
        context = ops.reshape(context, (-1, *apart, channels))
        outer, inner = range(1, 2 * count, 2), range(2, 2 * count + 1, 2)
        context = ops.transpose(context, (0, *outer, *inner, 2 * count + 1))
        context = ops.reshape(context, (-1, *sides, math.prod(squeezed) * channels))
    for axis, times in enumerate(repeated, 1):
        if times > 1:
            context = ops.repeat(context, times, axis)
    return context


def _factors(context_shape, x_shape):
    """By what each side of a context is squeezed, and by what it is repeated."""
    pairs = zip(context_shape[1:-1], x_shape[1:-1], strict=True)
    # Sides that are not known must be equal.
    known = [pair if None not in pair else (1, 1) for pair in pairs]
    squeezed = [max(side // to, 1) for side, to in known]
    return squeezed, [max(to // side, 1) for side, to in known]
