"""Stacks of layers that ready flows share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import BatchNorm, Permutation, Squeeze
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.networks import MADE, MLP
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import for_a_single_number, in_turn, masks_in_turn, repeat
from tfp_flows.transformers import Transformer

__all__ = [
    "amortized_layers",
    "autoregression",
    "autoregressive_layers",
    "count_levels",
    "coupling_layers",
    "squeezed",
    "warn_if_affine",
]


def coupling_layers(
    plan: Plan,
    coupling: Callable[[np.ndarray, str], Iterable[tfb.Bijector]],
    layers: int,
    permute: Callable[[], tfb.Bijector] | None = None,
) -> list[tfb.Bijector]:
    """Couplings of vectors: their masks take turns, or permutations stand before them.

    Args:
      plan: the `Plan` of the flow.
      coupling: given a mask and a name, yields a coupling and what follows it.
      layers: number of couplings.
      permute: makes what stands before each; all then keep the first half.
    """
    both = masks_in_turn(plan)
    if permute is None:
        return in_turn(lambda i: coupling(both[i], f"coupling_{i}"), layers)
    half = masks.half(plan.size)
    return repeat(lambda: [permute(), *coupling(half, "coupling")], layers)


def squeezed(shape: Sequence[int]) -> tuple[tfb.Bijector, tuple[int, ...]]:
    """What trades the sides of an image for channels, and the shape behind it."""
    height, width, channels = shape
    return tfb.Invert(Squeeze(2)), (height // 2, width // 2, 4 * channels)


def autoregression(
    plan: Plan,
    bijector: Callable[..., tfb.Bijector],
    transformer: Transformer,
    i: int,
    name: str,
    **network: Any,
) -> tfb.Bijector:
    """An autoregression with its network.

    Args:
      plan: the `Plan` of the flow.
      bijector: `MaskedAutoregressive` or `InverseAutoregressive`.
      transformer: what each entry goes through.
      i: 0 for the natural order, 1 for the reverse.
      name: name of the autoregression.
      **network: arguments of the `MADE`.
    """
    made = MADE(
        plan.size,
        transformer.num_parameters,
        order=("natural", "reverse")[i],
        **{**plan.network(), **network},
    )
    return bijector(made, transformer, name=name, **plan.layer)


def autoregressive_layers(
    plan: Plan,
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
      bijector: see `autoregression`.
      transformer: see there.
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
        name = f"autoregressive_{i}"
        yield autoregression(plan, bijector, transformer, i, name, **network)
        if batch_norm:
            yield BatchNorm([plan.size], dtype=plan.dtype, name=f"batch_norm_{i}")

    return in_turn(layer, layers)


def warn_if_affine(plan: Plan) -> None:
    """Warns of affine autoregressions of a single feature."""
    if plan.size == 1:
        warnings.warn(
            f"{plan.name}: affine transforms of a single feature only shift and scale "
            "the base distribution, however many they are. "
            f"{for_a_single_number(plan.data_shape)}",
            stacklevel=2,
        )


def amortized_layers(
    plan: Plan,
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
