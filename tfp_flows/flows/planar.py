"""A planar flow (Rezende & Mohamed 2015)."""

from __future__ import annotations

from tfp_flows.bijectors import Planar
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import amortized_layers

__all__ = ["planar"]


@ready(flatten=True, at_least={"depth": 0})
def planar(
    plan: Plan,
    *,
    layers: int = 16,
    activation: str = "tanh",
    explicit: str = "density",
    width: int | None = None,
    depth: int | None = None,
) -> Bijectors:
    """Planar layers, each of which bends space along one direction.

    Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows", section 4.1,
    equation 10. With a context, each example has parameters of its own (amortised
    inference).

    Facts:
      suits: very few parameters, or parameters that a network makes; few features.
      density: a formula in each layer, no network; with `explicit="sampling"` a root.
      sample: a root in each layer; with `explicit="sampling"` a formula.
      inverse: numerical.
      data: vectors of one or more features; images as vectors.
      context: a vector, of which networks make all parameters.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.planar((2,), layers=4, explicit="sampling", seed=0)
      >>> flow.sample(3, seed=0).shape
      TensorShape([3, 2])

    Args:
      layers: int, number of planar layers.
      activation: string, `"tanh"` or `"leaky_relu"`.
      explicit: string, which way is in closed form and fast, the other being found by
        an iteration: `"density"` (data to noise, to fit data) or `"sampling"` (noise to
        data, for a variational posterior).
      width: int, with a context: units of each hidden layer of the networks that
        compute the parameters from it, one for each layer of the flow (64).
      depth: int, with a context: hidden layers of these networks (2).
    """
    yield from amortized_layers(
        plan,
        Planar,
        layers=layers,
        explicit=explicit,
        width=width,
        depth=depth,
        name="planar",
        activation=activation,
    )
