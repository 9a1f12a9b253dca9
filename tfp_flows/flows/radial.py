"""A radial flow (Rezende & Mohamed 2015)."""

from __future__ import annotations

from tfp_flows.bijectors import Radial
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import amortized_layers

__all__ = ["radial"]


@ready(flatten=True, at_least={"depth": 0})
def radial(
    plan: Plan,
    *,
    layers: int = 16,
    explicit: str = "density",
    width: int | None = None,
    depth: int | None = None,
) -> Bijectors:
    """Radial layers, each of which moves space towards a point or away from it.

    Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows", section 4.1,
    equation 14. With a context, each example has parameters of its own (amortised
    inference). Both directions are in closed form.

    Facts:
      suits: very few parameters, or parameters that a network makes; round bumps and
        gaps.
      density: a formula in each layer, no network.
      sample: a formula in each layer, no network.
      inverse: exact.
      data: vectors of one or more features; images as vectors.
      context: a vector, of which networks make all parameters.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.radial((2,), layers=4, seed=0)
      >>> flow.log_prob([0.0, 1.0]).shape
      TensorShape([])

    Args:
      layers: int, number of radial layers.
      explicit: string, which way is the paper's formula: `"density"` (data to noise,
        to fit data) or `"sampling"` (noise to data, for a variational posterior).
      width: int, with a context: units of each hidden layer of the networks that
        compute the parameters from it, one for each layer of the flow (64).
      depth: int, with a context: hidden layers of these networks (2).
    """
    yield from amortized_layers(
        plan,
        Radial,
        layers=layers,
        explicit=explicit,
        width=width,
        depth=depth,
        name="radial",
    )
