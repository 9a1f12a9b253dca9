"""The coupling of Flow++, which its flows and flows of noise are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_flows.bijectors import Coupling
from tfp_flows.core.arguments import check_unused
from tfp_flows.networks import GatedResidualConvNet, Network, ResidualMLP
from tfp_flows.ready.stacks import count_changed, damping
from tfp_flows.transformers import LogisticMixture, Transformer

__all__ = ["bounded_mixture", "mixture_coupling"]


def bounded_mixture(components: int) -> LogisticMixture:
    """The mixture of flows of data behind an activation normalisation.

    Wider components would hold no data there; but a wide one of small weight throws
    rare samples as far as it is wide.
    """
    return LogisticMixture(
        components, max_component_log_scale=1.0, min_component_log_scale=-5.0
    )


def mixture_coupling(
    plan: Any,
    mask: np.ndarray,
    shape: Sequence[int],
    transformer: Transformer,
    name: str,
    *,
    width: int | None,
    depth: int,
    heads: int | None,
    layers: int,
) -> Coupling:
    """A coupling of Flow++ with its network: of attention on images, else residual.

    Args:
      plan: the `Plan` of the flow.
      mask: what is kept.
      shape: shape of an event.
      transformer: what changes.
      name: name of the coupling.
      width: channels (96) or units (256) of the network.
      depth: its residual blocks.
      heads: images only: heads of the self-attention (4).
      layers: how many such couplings the flow has.
    """
    outputs = transformer.num_parameters * count_changed(mask, shape)
    is_image = len(shape) == 3
    if width is None:
        width = 96 if is_image else 256
    # Less than affine couplings stand: a mixture moves an entry by many parameters, and
    # the last layer of an image's network takes 3x3 positions.
    scale = damping(160 if is_image else 2 * 256, layers, width)
    options = {"output_scale": scale, **plan.network()}
    network: Network
    if is_image:
        heads = 4 if heads is None else heads
        network = GatedResidualConvNet(outputs, width, depth, heads, **options)
    else:
        check_unused("for the self-attention on images", heads=heads)
        network = ResidualMLP(outputs, width, depth, **options)
    return Coupling(mask, network, transformer, shape, name=name, **plan.layer)
