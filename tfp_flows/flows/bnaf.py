"""BNAF: a block neural autoregressive flow (De Cao et al. 2019)."""

from __future__ import annotations

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import BlockAutoregressive, Permutation
from tfp_flows.ready import Bijectors, Plan, ready, repeat

__all__ = ["bnaf"]


@ready(flatten=True)
def bnaf(
    plan: Plan,
    *,
    layers: int = 5,
    width: int = 10,
    depth: int = 1,
) -> Bijectors:
    """Masked networks that are monotonic themselves, with a fast density.

    De Cao et al. 2019, "Block Neural Autoregressive Flow": where `naf` computes a
    function of each entry by a network of those before it, the network here is that
    function, with few parameters. Each goes through the entries in the other order than
    the one before it. A density takes one pass through each. A sample takes about one
    pass spread over one step for each entry, and in each a root. A single entry is
    fine, too. All layers are gated, see `tfp_flows.bijectors.BlockAutoregressive`.

    Facts:
      suits: densities of few features by few parameters; samples may take longer.
      density: a pass through each masked network.
      sample: entry by entry, in all about the arithmetic of one pass, and a root of
        each.
      inverse: numerical.
      data: vectors of one or more features; images as vectors.
      context: joined to the networks' input.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.bnaf((3,), layers=2, width=4, num_classes=2, seed=0)
      >>> flow.log_prob([[0.0, 1.0, 2.0]], context=[1]).shape
      TensorShape([1])

    Args:
      layers: int, number of networks.
      width: int, units of each entry in each hidden layer.
      depth: int, hidden layers of each network.
    """

    def layer():
        made = BlockAutoregressive(
            plan.size, width, depth, seed=plan.seed(), name="block", **plan.layer
        )
        return [tfb.Invert(made), Permutation("reverse", plan.size, name="reverse")]

    yield from repeat(layer, layers)
