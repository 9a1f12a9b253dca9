"""What a flow is made of, from data to noise: the blocks of its diagram, and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import (
    Chain,
    Coupling,
    InverseAutoregressive,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    Repeat,
)
from tfp_flows.core.arguments import check_shape
from tfp_flows.core.tfp_internals import CHAINS, INVERTS
from tfp_flows.distributions import LowerBound
from tfp_flows.plots._blocks import GIVEN, Block, Box, Lanes
from tfp_flows.plots._icons import mask_icon, order_icon, permutation_icon
from tfp_flows.plots._layout import Repeated, Shape, Stack, Step
from tfp_flows.plots._levels import Level, Levels
from tfp_flows.plots._values import data_shape

__all__ = ["steps_of"]


def steps_of(flow: Any, event_shape: Sequence[int] | None) -> list[Step]:
    """The blocks of a flow, those of data and of noise at the ends.

    Args:
      flow: a distribution with `bijector` and `distribution`, or a bijector.
      event_shape: shape of the data, if the flow shall not say.

    Returns:
      The blocks, each with the shape behind it.

    Raises:
      TypeError: if `flow` is neither.
    """
    block, base = Box("data", pill=True), None
    steps = []
    if isinstance(flow, LowerBound):
        steps.append(Step(block, tuple(flow.event_shape)))
        block = Box("add noise", [flow._noise_in_words])
        flow, event_shape = flow.flow, None
    bijector = flow
    if not isinstance(flow, tfb.Bijector):
        bijector, base = (getattr(flow, k, None) for k in ("bijector", "distribution"))
        if not isinstance(bijector, tfb.Bijector):
            raise TypeError(
                "flow must be a bijector, or a distribution with one, such as a Flow; "
                f"got {type(flow).__name__}."
            )
        if event_shape is None:
            event_shape = flow.event_shape
    shape = (
        data_shape(bijector)
        if event_shape is None
        else check_shape("event_shape", event_shape)
    )
    steps += [Step(block, shape), *_steps(bijector, shape, inverted=False)]
    lines = [] if base is None else [base.name]
    if getattr(base, "context_shape", None) is not None:
        lines.append(GIVEN)
    return [*steps, Step(Box("noise", lines, pill=True))]


def _steps(bijector: tfb.Bijector, shape: Shape, inverted: bool) -> list[Step]:
    """One block, or those of the members of a chain, as data meet them."""
    if type(bijector) in INVERTS:
        return _steps(bijector.bijector, shape, not inverted)
    if not isinstance(bijector, Chain) and type(bijector) not in CHAINS:
        block = _block(bijector, shape, inverted)
        return [Step(block, _shape_behind(bijector, shape, inverted))]
    members = list(bijector.bijectors)
    count = bijector.count if isinstance(bijector, Repeat) else 1
    members = members[: len(members) // count]
    steps: list[Step] = []
    for member in members[::-1] if inverted else members:
        steps += _steps(member, shape, inverted)
        shape = steps[-1].shape if steps else shape
    if count == 1 or not steps:
        return steps
    return [Step(Repeated(Stack(steps), count), shape)]


def _block(bijector: tfb.Bijector, shape: Shape, inverted: bool) -> Block:
    """What stands for one bijector that is no composition."""
    name = type(bijector).__name__.lstrip("_")
    given = getattr(bijector, "context_shape", None) is not None
    arguments = bijector.parameters or {}
    network = _name_of(arguments.get("conditioner", arguments.get("network")))
    transformer = _name_of_transformer(getattr(bijector, "transformer", None))
    if isinstance(bijector, Coupling):
        icon = mask_icon(bijector.mask)
        return Lanes(name, icon, ("kept", "changed"), network, transformer, given)
    if isinstance(bijector, MultiScale) and not inverted:
        return _levels(bijector, shape)
    lines = [" ".join(filter(None, (transformer, network and f"by {network}")))]
    squares: np.ndarray | None = None
    if isinstance(bijector, MaskedAutoregressive):
        seen = isinstance(bijector, InverseAutoregressive) == inverted
        lines.append(f"each sees {'data' if seen else 'noise'} before it")
        squares = order_icon(bijector.conditioner, shape)
    elif isinstance(bijector, Permutation):
        squares = permutation_icon(bijector.permutation, inverted)
    elif not type(bijector).__module__.startswith("tfp_flows."):
        own = bijector.name.rstrip("_0123456789")
        if own.replace("_", "") != name.replace("_", "").lower():
            lines.append(own)
    return Box(name, [*filter(None, lines), *[GIVEN] * given], squares)


def _levels(bijector: MultiScale, shape: Shape) -> Levels:
    """The levels of a `MultiScale`, and what stays and leaves behind each."""
    given = bijector.context_shape is not None
    parts = bijector.part_shapes
    levels, shapes = [], []
    for i, (level, prior) in enumerate(
        zip(bijector.levels, [*bijector.priors, None], strict=True)
    ):
        steps = _steps(level, shape, inverted=False)
        if not steps:  # an empty chain
            steps = [Step(Box("Identity"), shape)]
        split = None
        if i < len(parts) - 1:
            network = _name_of(prior)
            what = ("stays", "leaves"), network, "mean, scale" if network else ""
            split = Lanes("split", None, *what, given, mirrored=True)
            behind = steps[-1].shape
            shape = None if behind is None else (*behind[:2], behind[2] - parts[i][2])
            shapes.append(shape)
        levels.append(Level(f"level {i}", steps, split))
    return Levels(levels, shapes, parts)


def _shape_behind(bijector: tfb.Bijector, shape: Shape, inverted: bool) -> Shape:
    """The event shape behind a bijector on the way from data to noise, if known."""
    if shape is None:
        return None
    after = bijector.forward_event_shape if inverted else bijector.inverse_event_shape
    try:
        found = after(tf.TensorShape(shape))
    except Exception:  # whatever a user's bijector raises: it does not say
        return None
    return tuple(found) if found.is_fully_defined() else None


def _name_of(function: Callable | None) -> str:
    """What to call a network: its class, or the name of a function."""
    if function is None:
        return ""
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else name


def _name_of_transformer(transformer: Any) -> str:
    while hasattr(transformer, "transformer"):  # an inverted one
        transformer = transformer.transformer
    return "" if transformer is None else type(transformer).__name__
