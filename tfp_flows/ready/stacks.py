"""Stacks of layers that are alike, or of two kinds in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import Permutation, Repeat
from tfp_flows.core.arguments import check_choice

__all__ = [
    "count_changed",
    "coupling_layers",
    "damping",
    "for_a_single_number",
    "in_turn",
    "masks_in_turn",
    "repeat",
]


def repeat(
    make_unit: Callable[[], list[tfb.Bijector]], count: Any, name: str = "layers"
) -> list[tfb.Bijector]:
    """Repeats a unit, as one `Repeat` where there is more than one.

    Example:
      >>> from tfp_flows import bijectors, ready
      >>> make_unit = lambda: [bijectors.ActNorm([3]), bijectors.PLU(3)]
      >>> [type(b).__name__ for b in ready.repeat(make_unit, 8)]
      ['Repeat']
      >>> [type(b).__name__ for b in ready.repeat(make_unit, 1)]
      ['ActNorm', 'PLU']

    Args:
      make_unit: makes the bijectors of one unit, in the order in which data meet them.
      count: number of units, 0 or more.
      name: name of the `Repeat`.

    Returns:
      A list of bijectors, in the order in which data meet them: the `Repeat`, or those
      of the single unit; empty for a `count` of 0.
    """
    if count > 1:
        return [Repeat(make_unit, count, name=name)]
    return make_unit() if count else []


def in_turn(
    make_layers: Callable[[int], Iterable[tfb.Bijector]],
    count: int,
    name: str = "layers",
) -> list[tfb.Bijector]:
    """`count` layers of two kinds in turn, pairs of which repeat.

    Args:
      make_layers: given 0 or 1, yields the bijectors of a layer of that kind.
      count: number of layers.
      name: name of what repeats.

    Returns:
      A list of bijectors, in the order in which data meet them.
    """
    pairs = repeat(lambda: [*make_layers(0), *make_layers(1)], count // 2, name)
    return pairs + (list(make_layers(0)) if count % 2 else [])


def for_a_single_number(shape: Sequence[int]) -> str:
    """A sentence on what takes one number and learns its density; or none for more."""
    if math.prod(shape) != 1:
        return ""
    call = f"flows.neural_spline_flow({tuple(shape)}, autoregressive=True)"
    return f"For a single number take {call}."


def masks_in_turn(
    plan: Any, shape: Sequence[int] | None = None, by_channel: bool = False
) -> list[np.ndarray]:
    """Two masks, of which the second keeps what the first changes.

    Every other entry of a vector, a checkerboard of an image.

    Args:
      plan: the `Plan` of the flow.
      shape: shape of what is masked; the plan's by default.
      by_channel: of an image, half of its channels instead.

    Returns:
      A list of two boolean arrays, see `tfp_flows.masks`.

    Raises:
      ValueError: if there is a single feature, which leaves nothing to keep.
    """
    shape = plan.event_shape if shape is None else shape
    if np.prod(shape) < 2:
        raise ValueError(
            "event_shape must have two or more features: a coupling keeps some of them "
            f"and changes the others. {for_a_single_number(plan.data_shape)}"
        )
    if len(shape) == 1:
        mask = masks.alternating(shape[0])
    else:
        mask = masks.channel(shape[2]) if by_channel else masks.checkerboard(*shape[:2])
    return [mask, ~mask]


def coupling_layers(
    plan: Any,
    coupling: Callable[..., Iterable[tfb.Bijector]],
    count: Any,
    shape: Sequence[int] | None = None,
    order: Any = "alternating",
    name: str | None = None,
) -> list[tfb.Bijector]:
    """Couplings of which each changes what the one before it keeps.

    Args:
      plan: the `Plan` of the flow.
      coupling: given a mask, the shape of what is masked and a name, yields a coupling
        and what stands around it.
      count: number of couplings.
      shape: see `masks_in_turn`.
      order: `"alternating"` or `"channel"`, masks that take turns, see there; or, of
        vectors, what stands before each coupling, which then all keep the first half:
        a `"random"` permutation, or `"reverse"`.
      name: what names of couplings begin with; by default that of their mask.

    Returns:
      A list of bijectors, in the order in which data meet them.

    Raises:
      ValueError: if there is a single feature, which leaves nothing to keep; or on
        another `order`.
    """
    shape = plan.event_shape if shape is None else shape
    others = ("reverse", "random") if len(shape) == 1 else ("channel",)
    check_choice("order", order, ("alternating", *others))
    if name is None:
        name = "channel" if order == "channel" else "coupling"
    both = masks_in_turn(plan, shape, by_channel=order == "channel")
    if order in ("alternating", "channel"):
        return in_turn(lambda i: coupling(both[i], shape, f"{name}_{i}"), count, name)

    def layer():
        seed = plan.seed() if order == "random" else None
        permutation = Permutation(order, plan.size, seed=seed)
        return [permutation, *coupling(masks.half(plan.size), shape, name)]

    return repeat(layer, count)


def damping(stands: int, networks: int, width: int) -> float:
    """Returns the factor on outputs of a flow's networks: 1, or less for many.

    A step of Adam moves a network's output in proportion to its width, and the flow's
    in proportion to the number of networks.

    Args:
      stands: the widths, added up, that stand a usual rate.
      networks: how many there are.
      width: hidden units or channels of each.
    """
    return min(1.0, stands / (networks * width))


def count_changed(mask: np.ndarray, shape: Sequence[int]) -> int:
    """Counts the numbers that a coupling changes in each position of an image.

    Of a vector, these are all that change.

    Example:
      >>> from tfp_flows import masks, ready
      >>> ready.count_changed(masks.half(5), [5])
      2
      >>> ready.count_changed(masks.checkerboard(4, 4), [4, 4, 3])
      3

    Args:
      mask: the mask of the coupling, true for what is kept.
      shape: shape of what is masked, `[D]` or `[H, W, C]`.

    Returns:
      An integer: the numbers that a network gives parameters for, in each position.
    """
    return shape[-1] if mask.shape[-1] == 1 else int((~mask).sum())
