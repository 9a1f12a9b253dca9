"""MAF: a masked autoregressive flow (Papamakarios et al. 2017)."""

from __future__ import annotations

from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import autoregressive_layers, warn_if_affine
from tfp_flows.transformers import Affine

__all__ = ["maf"]


@ready(flatten=True, takes=("scale", "max_log_scale", "context_mode"))
def maf(
    plan: Plan,
    *,
    layers: int = 5,
    width: int = 256,
    depth: int = 2,
    residual: bool = False,
    order: str = "reverse",
    batch_norm: bool = False,
) -> Bijectors:
    """Affine autoregressive transforms with a fast density.

    Papamakarios et al. 2017, "Masked Autoregressive Flow for Density Estimation",
    equations 3 to 5. A density takes one pass through each network, a sample about one
    pass spread over one step for each entry.

    Facts:
      suits: densities of tables; samples may take longer.
      density: one pass.
      sample: entry by entry, in all about the arithmetic of one pass.
      inverse: exact.
      data: vectors of two or more features; images as vectors.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.maf((3,), layers=2, width=16, num_classes=4, seed=0)
      >>> flow.log_prob([[0.0, 1.0, 2.0]], context=[3]).shape
      TensorShape([1])

    Args:
      layers: int, number of autoregressive transforms.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network, or residual blocks.
      residual: bool, whether the networks are residual, see `tfp_flows.networks.MADE`.
      order: string, `"reverse"` (every other transform goes through the entries
        backwards) or `"random"`.
      batch_norm: bool, whether a `BatchNorm` follows each transform, as in the paper.
    """
    warn_if_affine(plan)
    yield from autoregressive_layers(
        plan,
        MaskedAutoregressive,
        Affine(*plan.affine),
        layers=layers,
        order=order,
        batch_norm=batch_norm,
        hidden_units=[width] * depth,
        residual=residual,
    )
