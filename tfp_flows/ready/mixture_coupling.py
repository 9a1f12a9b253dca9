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
