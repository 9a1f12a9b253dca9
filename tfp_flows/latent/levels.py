"""Levels of multi-scale flows: where their noise is, and new noise for some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import Chain, MultiScale
from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.seeds import new_seed, stateless_seed
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_data, base_keywords

__all__ = ["level_slices", "resample_levels"]


def level_slices(flow: Flow) -> list[slice]:
    """Returns the slice of a code that holds the noise of each level.

    Levels are in the order in which data pass them: the first holds the finest details,
    the last the coarsest scale. The noise of level `i` is
    `z[..., level_slices(flow)[i]]`.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.glow((4, 4, 1), levels=2, steps=1, width=4, seed=0)
      >>> tfp_flows.latent.level_slices(flow)
      [slice(0, 8, None), slice(8, 16, None)]

    Args:
      flow: a flow whose bijector ends, on the side of the noise, in a
        `tfp_flows.bijectors.MultiScale`.

    Returns:
      A slice for each level.

    Raises:
      ValueError: if the flow is not of that kind.
    """
    bijector = flow.bijector
    while isinstance(bijector, Chain) and bijector.bijectors:
        bijector = bijector.bijectors[-1]
    if not isinstance(bijector, MultiScale):
        raise ValueError(
            f"{flow.name} has no levels: its noise meets {type(bijector).__name__} "
            "first, not a MultiScale."
        )
    ends = np.cumsum([math.prod(shape) for shape in bijector.part_shapes]).tolist()
    return [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]


def resample_levels(
    flow: Flow,
    x: Any,
    keep: Sequence[int],
    *,
    temperature: float = 1.0,
    seed: int | None = None,
    **keywords: Any,
) -> tf.Tensor:
    """Keeps the noise of some levels of data and draws that of the others anew.

    Only what the other levels hold changes. Keeping the last levels alone keeps most of
    an image in few numbers (Dinh et al. 2017, appendix; "conceptual compression" in
    Gregor et al. 2016).

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.glow((4, 4, 1), levels=2, steps=1, width=4, seed=0)
      >>> x = flow.sample(3, seed=0)
      >>> resample_levels(flow, x, keep=[-1], seed=1).shape
      TensorShape([3, 4, 4, 1])

    Args:
      flow: a multi-scale flow, see `level_slices`.
      x: data `[*batch, *event_shape]`.
      keep: indices of levels to keep; 0 is the finest, -1 the coarsest.
      temperature: by which the new noise is scaled about its mean, 0 or more.
      seed: integer seed of the new noise.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor `[*batch, *event_shape]`.

    Raises:
      TypeError: if a level is not an integer, or `temperature` not a number.
      ValueError: if the flow has no levels, `keep` names one that does not exist, or
        `temperature` is negative, NaN or infinite.
    """
    slices = level_slices(flow)
    count = len(slices)
    keep = [check_integer("keep", level, at_least=-count) for level in keep]
    if any(level >= count for level in keep):
        raise ValueError(f"keep must hold levels in [{-count}, {count}), got {keep}.")
    if not tf.is_tensor(temperature):
        check_number("temperature", temperature, at_least=0)
    z = flow.encode(as_data(flow, x, "x"), **keywords)
    kept = np.zeros(z.shape[-1], bool)
    for level in keep:
        kept[slices[level]] = True
    base, given = flow.distribution, base_keywords(flow, z, keywords)
    noise = base.sample(
        () if given else tf.shape(z)[:-1], seed=stateless_seed(new_seed(seed)), **given
    )
    mean = base.mean(**given)
    noise = mean + tf.cast(temperature, z.dtype) * (noise - mean)
    return flow.decode(tf.where(kept, z, noise), **keywords)
