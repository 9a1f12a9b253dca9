"""The coupling of Flow++, which its flows and flows of noise are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_flows.bijectors import Coupling
from tfp_flows.core.arguments import check_unused
from tfp_flows.networks import GatedResidualConvNet, ResidualMLP
from tfp_flows.ready.stacks import count_changed
from tfp_flows.transformers import Transformer

__all__ = ["mixture_coupling"]


def mixture_coupling(
    plan: Any,
    mask: np.ndarray,
    shape: Sequence[int],
    transformer: Transformer,
    width: int | None,
    depth: int,
    heads: int | None,
    name: str,
    layers: int,
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
      layers: how many such couplings a flow of vectors has.
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
        width = 256 if width is None else width
        # As in `flows.real_nvp`, but mixtures stand a quarter of what scales do.
        damped = {"output_scale": min(1.0, 2 * 256 / (layers * width))}
        network = ResidualMLP(outputs, width, depth, **damped, **plan.network())
    return Coupling(mask, network, transformer, shape, name=name, **plan.layer)
