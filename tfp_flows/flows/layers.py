"""Stacks of layers that ready flows share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import (
    BatchNorm,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    Squeeze,
)
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.networks import MADE, MLP
from tfp_flows.ready import Plan, couplings_in_turn, in_turn, repeat
from tfp_flows.ready.stacks import for_a_single_number, masks_in_turn
from tfp_flows.transformers import Transformer

__all__ = [
    "amortized_layers",
    "autoregression",
    "autoregressive_layers",
    "check_dropout",
    "check_sides",
    "count_levels",
    "coupling_layers",
    "linear",
    "multi_scale",
    "squeezed",
    "warn_if_affine",
]


def coupling_layers(
    plan: Plan,
    coupling: Callable[..., Iterable[tfb.Bijector]],
    layers: Any,
    permutation: str = "alternating",
) -> list[tfb.Bijector]:
    """Couplings of vectors: their masks take turns, or permutations stand before them.

    Args:
      plan: the `Plan` of the flow.
      coupling: given a mask, a shape and a name, yields a coupling and what follows it.
      layers: int, number of couplings.
      permutation: `"alternating"` masks; or what stands before each, which then all
        keep the first half: see `tfp_flows.bijectors.Permutation`.
    """
    if permutation == "alternating":
        return couplings_in_turn(plan, coupling, layers)
    masks_in_turn(plan)  # Refuses a single feature.
    half, shape = masks.half(plan.size), plan.event_shape

    def permute():
        seed = plan.seed() if permutation == "random" else None
        return Permutation(permutation, plan.size, seed=seed)

    return repeat(lambda: [permute(), *coupling(half, shape, "coupling")], layers)


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


def squeezed(shape: Sequence[int]) -> tuple[tfb.Bijector, tuple[int, ...]]:
    """What trades the sides of an image for channels, and the shape behind it."""
    height, width, channels = shape
    return tfb.Invert(Squeeze(2)), (height // 2, width // 2, 4 * channels)


# A step of Adam moves each entry of a product in proportion to the size of the matrix:
# with thousands of features it throws data far off, and permutations stand instead.
LARGEST_MATRIX = 256


def linear(
    plan: Plan, matrix: Callable[..., tfb.Bijector], *args: Any, **options: Any
) -> tfb.Bijector:
    """A learned linear layer: data meet its inverse.

    Args:
      plan: the `Plan` of the flow.
      matrix: `PLU`, `QR` or `InvertibleConv1x1`.
      *args: its arguments, with `**options`.
      **options: but for `seed` and `dtype`.
    """
    return tfb.Invert(matrix(*args, seed=plan.seed(), dtype=plan.dtype, **options))


def autoregression(
    plan: Plan,
    transformer: Transformer,
    i: int,
    name: str,
    bijector: Callable[..., tfb.Bijector] = MaskedAutoregressive,
    **network: Any,
) -> tfb.Bijector:
    """An autoregression with its network.

    Args:
      plan: the `Plan` of the flow.
      transformer: what each entry goes through.
      i: 0 for the natural order, 1 for the reverse.
      name: name of the autoregression.
      bijector: `MaskedAutoregressive` or `InverseAutoregressive`.
      **network: arguments of the `MADE`.
    """
    made = MADE(
        plan.size,
        transformer.num_parameters,
        order=("natural", "reverse")[i],
        # In half precision both directions, which compute the same in another order,
        # would be no inverses of each other.
        **{**plan.network(), "dtype": plan.dtype, **network},
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
        yield autoregression(plan, transformer, i, name, bijector, **network)
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


def check_dropout(plan: Plan, dropout: float) -> None:
    """Raises an error if gradients run networks again, which leave out other numbers.

    Args:
      plan: the `Plan` of the flow.
      dropout: fraction of hidden activations left out in training.
    """
    if dropout and plan.recompute_gradients:
        raise ValueError(
            f"dropout={dropout} needs recompute_gradients=False: a network that is run "
            "again would leave out other activations."
        )


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
