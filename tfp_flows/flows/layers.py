"""Stacks of layers that ready flows share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import BatchNorm, Coupling, Permutation, Repeat
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.networks import MADE, MLP, GatedResidualConvNet, ResidualMLP
from tfp_flows.transformers import Transformer

__all__ = [
    "amortized_layers",
    "autoregressive_layers",
    "count_changed",
    "count_levels",
    "for_a_single_number",
    "in_turn",
    "masks_in_turn",
    "mixture_coupling",
    "repeat",
    "warn_if_affine",
]


def repeat(
    make_unit: Callable[[], list[tfb.Bijector]], count: int, name: str = "layers"
) -> list[tfb.Bijector]:
    """`count` units as one `Repeat`, where there is more than one."""
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
    """
    pairs = repeat(lambda: [*make_layers(0), *make_layers(1)], count // 2, name)
    return pairs + (list(make_layers(0)) if count % 2 else [])


def for_a_single_number(shape: Sequence[int]) -> str:
    """A sentence on what takes one number and learns its density; or none for more."""
    if math.prod(shape) != 1:
        return ""
    call = f'flows.neural_spline_flow({tuple(shape)}, kind="autoregressive")'
    return f"For a single number take {call}."


def masks_in_turn(plan: Any, shape: Sequence[int] | None = None) -> list[np.ndarray]:
    """Two masks, of which the second keeps what the first changes.

    Every other entry of a vector, a checkerboard of an image.

    Args:
      plan: the `Plan` of the flow.
      shape: shape of what is masked; the plan's by default.

    Raises:
      ValueError: if there is a single feature, which leaves nothing to keep.
    """
    shape = plan.event_shape if shape is None else shape
    if np.prod(shape) < 2:
        raise ValueError(
            "event_shape must have two or more features: a coupling keeps some of them "
            f"and changes the others. {for_a_single_number(plan.data_shape)}"
        )
    mask = (
        masks.alternating(shape[0])
        if len(shape) == 1
        else masks.checkerboard(*shape[:2])
    )
    return [mask, ~mask]


def count_changed(mask: np.ndarray, shape: Sequence[int]) -> int:
    """How many numbers change in each position (of a vector: in all)."""
    return shape[-1] if mask.shape[-1] == 1 else int((~mask).sum())


def autoregressive_layers(
    plan: Any,
    bijector: Callable[..., tfb.Bijector],
    transformer: Transformer,
    *,
    layers: int,
    order: str,
    batch_norm: bool = False,
    **network: Any,
) -> list[tfb.Bijector]:
    """Autoregressions whose orders differ.

    Args:
      plan: the `Plan` of the flow.
      bijector: `MaskedAutoregressive` or `InverseAutoregressive`.
      transformer: what each entry goes through.
      layers: number of autoregressions.
      order: `"reverse"`, forwards and backwards in turn, or `"random"`.
      batch_norm: whether a `BatchNorm` follows each.
      **network: arguments of each `MADE`.
    """
    check_choice("order", order, ("reverse", "random"))

    def layer(i):
        if order == "random":
            # In front of the natural order, as a variable: layers stay alike.
            yield Permutation("random", plan.size, seed=plan.seed())
            i = 0
        made = MADE(
            plan.size,
            transformer.num_parameters,
            order=("natural", "reverse")[i],
            **network,
            **plan.network(),
        )
        yield bijector(made, transformer, name=f"autoregressive_{i}", **plan.layer)
        if batch_norm:
            yield BatchNorm([plan.size], dtype=plan.dtype, name=f"batch_norm_{i}")

    return in_turn(layer, layers)


def warn_if_affine(plan: Any) -> None:
    """Warns of affine autoregressions of a single feature."""
    if plan.size == 1:
        warnings.warn(
            f"{plan.name}: affine transforms of a single feature only shift and scale "
            "the base distribution, however many they are. "
            f"{for_a_single_number(plan.data_shape)}",
            stacklevel=2,
        )


def amortized_layers(
    plan: Any,
    bijector: Callable[..., tfb.Bijector],
    *,
    layers: int,
    direction: str,
    width: int | None,
    depth: int | None,
    name: str,
    between: Callable[[], tfb.Bijector] | None = None,
    **options: Any,
) -> list[tfb.Bijector]:
    """Layers whose parameters networks compute from a context, if there is one.

    Args:
      plan: the `Plan` of the flow.
      bijector: `Planar`, `Radial` or `Sylvester`.
      layers: number of layers.
      direction: `"density"` or `"sampling"`, the way that is in closed form.
      width: units of each hidden layer of the networks (64).
      depth: their hidden layers (2).
      name: name of each layer.
      between: makes what stands between two layers.
      **options: arguments of the bijector; the shape of its parameters among them.
    """
    check_choice("direction", direction, ("density", "sampling"))
    if plan.context_shape is None:
        check_unused("for the networks that see a context", width=width, depth=depth)
    elif len(plan.context_shape) != 1:
        raise ValueError(
            f"context_shape must be that of a vector, (C,), got {plan.context_shape}; "
            "let a context_encoder make one."
        )
    shape = {k: v for k, v in options.items() if k != "activation"}
    hidden = [64 if width is None else width] * (2 if depth is None else depth)

    def layer():
        network = (
            None
            if plan.context_shape is None
            else MLP(
                bijector.num_parameters(plan.size, **shape), hidden, **plan.network()
            )
        )
        made = bijector(
            plan.size,
            conditioner=network,
            seed=plan.seed(),
            name=name,
            **options,
            **plan.layer,
        )
        return tfb.Invert(made) if direction == "density" else made

    if between is None:
        return repeat(lambda: [layer()], layers)
    return [layer(), *repeat(lambda: [between(), layer()], layers - 1)]


def mixture_coupling(
    plan: Any,
    mask: np.ndarray,
    shape: Sequence[int],
    transformer: Transformer,
    width: int | None,
    depth: int,
    heads: int | None,
    name: str,
) -> Coupling:
    """A coupling of Flow++ with its network: of attention on images, else residual.

    Args:
      plan: the `Plan` of the flow.
      mask: what is kept.
      shape: shape of an event.
      transformer: what changes.
      width: channels (96) or units (256) of the network.
      depth: its residual blocks.
      heads: images only: heads of the self-attention (4).
      name: name of the coupling.
    """
    outputs = transformer.num_parameters * count_changed(mask, shape)
    if len(shape) == 3:
        network = GatedResidualConvNet(
            outputs,
            96 if width is None else width,
            depth,
            4 if heads is None else heads,
            **plan.network(),
        )
    else:
        check_unused("for the self-attention on images", heads=heads)
        network = ResidualMLP(
            outputs, 256 if width is None else width, depth, **plan.network()
        )
    return Coupling(mask, network, transformer, shape, name=name, **plan.layer)


def count_levels(
    event_shape: Sequence[int], levels: int | None, squeezes_last: bool
) -> int:
    """The number of levels, checked against (or chosen by) an image's sides.

    Args:
      event_shape: `(H, W, C)`.
      levels: the number wanted, or `None` for as many as the sides allow, at most 3.
      squeezes_last: whether the last level squeezes too.
    """
    height, width, _ = event_shape

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
                f"them.{instead} {for_a_single_number(event_shape)}".strip()
            )
        return levels
    by = 2 ** (levels if squeezes_last else levels - 1)
    for side, size in (("height", height), ("width", width)):
        if size % by:
            raise ValueError(
                f"levels={levels} needs a {side} divisible by {by}, got {size}. Use "
                "fewer levels, or pad or crop the images."
            )
    return levels
