"""NICE (Dinh et al. 2014)."""

from __future__ import annotations

from tfp_flows.bijectors import AdditiveCoupling, Scaling
from tfp_flows.networks import MLP
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.stacks import count_changed, coupling_layers

__all__ = ["nice"]


@ready(
    flatten=True,
    center=0.0,
    takes=("context_mode", "conditioner_dtype"),
    at_least={"depth": 0},
    base="logistic",
)
def nice(
    plan: Plan,
    *,
    layers: int = 4,
    width: int = 1000,
    depth: int = 5,
    order: str = "alternating",
) -> Bijectors:
    """Additive couplings and one learned scaling.

    The defaults are the network for MNIST of Dinh et al. 2014, "NICE: Non-linear
    Independent Components Estimation", section 5.1 (the couplings are equation 5, the
    scaling that of section 3.3): four additive couplings, each with five hidden layers
    of 1000 rectified linear units, the even and the odd dimensions taking turns, a
    diagonal scaling, and a standard logistic prior. 28x28 images need no padding. The
    scaling is set from data, by `FlowModel.fit` or `tfp_flows.training.initialize`; its
    factor lets it move 30 times as fast as the networks, which makes a difference of
    thousands of steps. With `bounds`, data are scaled to [0, 1].

    Facts:
      suits: a first flow to understand; coarse densities, fast both ways.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of two or more features; images as vectors.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.nice((28, 28, 1), width=16, bounds=(0, 256), seed=0)
      >>> flow.sample(2, seed=0).shape
      TensorShape([2, 28, 28, 1])

    Args:
      layers: int, number of additive couplings.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network.
      order: string, `"alternating"` (even and odd dimensions take turns), or
        `"reverse"` or `"random"` (they are permuted before each coupling, whose first
        half moves the second).
    """

    def coupling(mask, shape, name):
        network = MLP(count_changed(mask, shape), [width] * depth, **plan.network())
        yield AdditiveCoupling(mask, network, name=name, **plan.layer)

    yield from coupling_layers(plan, coupling, layers, order=order)
    yield Scaling(
        [plan.size],
        data_dependent=True,
        learning_rate_multiplier=30.0,
        dtype=plan.dtype,
    )
