"""Levels of images: squeezes, splits, and the sides that these need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import Haar, MultiScale, Squeeze
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import for_a_single_number

__all__ = ["check_sides", "count_levels", "multi_scale", "patches", "squeezed"]


def multi_scale(
    plan: Plan,
    levels: int,
    level: Callable[[tuple[int, ...], bool], Iterable[tfb.Bijector]],
    prior: Callable[[tuple[int, ...]], Any] | None = None,
) -> MultiScale:
    """Levels of images: half of the channels leave after each but the last.

    Args:
      plan: the `Plan` of the flow.
      levels: number of levels.
      level: given the shape of an image, and whether this level is the last, yields the
        bijectors of the level, one `squeezed` among them.
      prior: given the shape of what stays, makes the network that sees it and gives the
        density of what leaves.
    """
    shape, stages, priors = plan.event_shape, [], []
    for i in range(levels):
        is_last = i == levels - 1
        stages.append(plan.chain(level(shape, is_last), f"level_{i}"))
        if not is_last:
            height, width, channels = shape
            shape = height // 2, width // 2, 2 * channels
            priors.append(None if prior is None else prior(shape))
    return MultiScale(stages, plan.event_shape, priors, **plan.layer)


def squeezed(plan: Plan, shape: Sequence[int]) -> tuple[tfb.Bijector, tuple[int, ...]]:
    """The bijector that trades sides of an image for channels; the shape behind it.

    Args:
      plan: the `Plan` of the flow, which says whether by wavelets.
      shape: of the image.
    """
    height, width, channels = shape
    squeeze = Haar() if plan.wavelets else Squeeze(2)
    return tfb.Invert(squeeze), (height // 2, width // 2, 4 * channels)


def patches(plan: Plan, side: int) -> tuple[list[tfb.Bijector], tuple[int, ...]]:
    """What makes a row of numbers of an image, patch by patch.

    Args:
      plan: the `Plan` of the flow.
      side: of a patch, which divides those of the image.

    Returns:
      The bijectors, as data meet them, and the shape before the numbers are in a row:
      rows and columns of patches, and numbers of each.
    """
    height, width, channels = plan.event_shape
    shape = height // side, width // side, side**2 * channels
    squeezes = [tfb.Invert(Squeeze(side))] if side > 1 else []
    return [*squeezes, tfb.Reshape(shape, [plan.size])], shape


def count_levels(plan: Plan, squeezes_last: bool = False) -> int:
    """The number of levels, checked against (or chosen by) an image's sides.

    Args:
      plan: the `Plan` of the flow.
      squeezes_last: whether the last level squeezes too.
    """
    levels = plan.levels
    height, width, _ = plan.event_shape

    def fits(levels):
        by = 2 ** (levels if squeezes_last else levels - 1)
        # A last level of one pixel would leave its couplings nothing to look at.
        return height % by == 0 and width % by == 0 and min(height, width) // by > 1

    if levels is None:
        levels = max((n for n in (1, 2, 3) if fits(n)), default=0)
        if not levels:
            wanted = (
                "4x4 pixels and sides divisible by 2" if squeezes_last else "2x2 pixels"
            )
            instead = " real_nvp takes any size from 2x2." if squeezes_last else ""
            raise ValueError(
                f"images need at least {wanted}, got {height}x{width}: pad or crop "
                f"them.{instead} {for_a_single_number(plan.event_shape)}".strip()
            )
        return levels
    by = 2 ** (levels if squeezes_last else levels - 1)
    check_sides(plan, f"levels={levels}", by, or_else="Use fewer levels, or pad")
    return levels


def check_sides(
    plan: Plan, what: str, divisible_by: int, at_least: int = 1, or_else: str = "Pad"
) -> None:
    """Raises an error if an image's sides do not suit.

    Args:
      plan: the `Plan` of the flow.
      what: what needs these sides.
      divisible_by: a number that divides them.
      at_least: the lowest.
      or_else: what to do instead, as far as "... or crop the images".
    """
    for side, size in zip(("height", "width"), plan.event_shape, strict=False):
        if size % divisible_by or size < at_least:
            wanted = f"divisible by {divisible_by}"
            if at_least > 1:
                wanted += f", at least {at_least}"
            raise ValueError(
                f"{what} needs a {side} {wanted}; got {size}. {or_else} or crop the "
                f"images. {for_a_single_number(plan.data_shape)}".strip()
            )
