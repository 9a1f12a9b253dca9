"""IAF: an inverse autoregressive flow (Kingma et al. 2016)."""

from __future__ import annotations

from tfp_flows.bijectors import InverseAutoregressive
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import autoregressive_layers, warn_if_affine
from tfp_flows.transformers import Affine

__all__ = ["iaf"]


@ready(flatten=True, takes=("scale", "max_log_scale", "context_mode"))
def iaf(
    plan: Plan,
    *,
    layers: int = 5,
    width: int = 256,
    depth: int = 2,
    residual: bool = False,
    order: str = "reverse",
) -> Bijectors:
    """Affine autoregressive transforms with fast samples.

    Kingma et al. 2016, "Improved Variational Inference with Inverse Autoregressive
    Flow", equations 9 and 10. A sample and its density take one pass through each
    network, which is what a variational posterior needs; the density of data from
    elsewhere takes about one pass spread over one step for each entry.

    Facts:
      suits: posteriors to draw from, as samples know their densities.
      density: entry by entry, in all about the arithmetic of one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of two or more features; images as vectors.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.iaf((3,), layers=2, width=16, normalize=False, seed=0)
      >>> x, log_prob = flow.sample_and_log_prob(5, seed=0)
      >>> x.shape, log_prob.shape
      (TensorShape([5, 3]), TensorShape([5]))

    Args:
      layers: int, number of autoregressive transforms.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network, or residual blocks.
      residual: bool, whether the networks are residual, see `tfp_flows.networks.MADE`.
      order: string, `"reverse"` (every other transform goes through the entries
        backwards) or `"random"`.
    """
    warn_if_affine(plan)
    yield from autoregressive_layers(
        plan,
        InverseAutoregressive,
        Affine(*plan.affine),
        layers=layers,
        order=order,
        hidden_units=[width] * depth,
        residual=residual,
    )
