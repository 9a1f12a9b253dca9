"""A Gaussianization flow (Meng et al. 2020)."""

from __future__ import annotations

from tfp_flows.bijectors import MarginalGaussianization
from tfp_flows.ready import Bijectors, Plan, ready, repeat
from tfp_flows.ready.layers import context_network, linear

__all__ = ["gaussianization"]


@ready(flatten=True, at_least={"depth": 0})
def gaussianization(
    plan: Plan,
    *,
    layers: int = 6,
    components: int = 16,
    width: int | None = None,
    depth: int | None = None,
) -> Bijectors:
    """Learned distributions of each entry and rotations in turn.

    Meng et al. 2020, "Gaussianization Flows": each layer makes every entry normal by
    itself, and a rotation then mixes them, until no direction is left in which data are
    not normal. Without a network, densities and samples take one pass, samples with a
    root of each entry. Initialised from data, it starts as an estimate by kernels in
    rotated axes. With a context, networks compute the distributions from it.

    Facts:
      suits: densities of tables without a network; a start that is an estimate by
        kernels.
      density: a formula in each layer, no network.
      sample: a root of each entry in each layer.
      inverse: numerical.
      data: vectors of one or more features; images as vectors.
      context: a vector, of which networks make all parameters.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.gaussianization((3,), layers=2, components=4, seed=0)
      >>> flow.sample(5, seed=0).shape
      TensorShape([5, 3])

    Args:
      layers: int, number of `tfp_flows.bijectors.MarginalGaussianization`s, with a
        rotation, a `tfp_flows.bijectors.QR`, between two.
      components: int, logistics of each entry's mixture.
      width: int, with a context: units of each hidden layer of the networks that
        compute the parameters from it, one for each layer of the flow (64).
      depth: int, with a context: hidden layers of these networks (2).
    """

    def marginals():
        outputs = (3 * components + 2) * plan.size
        return MarginalGaussianization(
            plan.event_shape,
            components,
            context_network(plan, outputs, width, depth),
            name="marginals",
            **plan.layer,
        )

    def layer():
        return [*linear(plan, plan.event_shape, "qr"), marginals()]

    yield from [marginals(), *repeat(layer, layers - 1)]
