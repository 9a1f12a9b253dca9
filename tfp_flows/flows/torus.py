"""A flow of angles (Rezende et al. 2020)."""

from __future__ import annotations

import math

from tfp_flows.bijectors import Coupling, Elementwise, Torus
from tfp_flows.distributions import uniform
from tfp_flows.networks import MLP, PeriodicMLP
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.stacks import count_changed, coupling_layers
from tfp_flows.transformers import RationalQuadratic

__all__ = ["torus"]


@ready(
    shapes=(1,),
    takes=("context_mode",),
    without=("base", "bounds", "logit_margin", "normalize", "dequantize"),
    at_least={"depth": 0},
    normalize=False,
)
def torus(
    plan: Plan,
    *,
    layers: int = 6,
    bins: int = 8,
    width: int = 64,
    depth: int = 2,
    period: float | None = None,
) -> Bijectors:
    """Couplings of circular splines, from uniform angles.

    Rezende et al. 2020, "Normalizing Flows on Tori and Spheres", section 2.1.2: the
    circle of each angle is bent by a spline without ends, and turned, as the sines and
    cosines of other angles say. Densities are per unit of the angles as given, and an
    angle is the same a turn later. A single angle has one spline, of the context if
    there is one.

    Facts:
      suits: angles, also a single one; times of the day, of the year.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of one or more angles, of which `period` is a full turn.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.torus((2,), layers=2, width=8, period=360, seed=0)
      >>> flow.log_prob([[359.0, 1.0], [-1.0, 361.0]]).numpy().round(3)
      array([-11.772,    -inf], dtype=float32)

    Args:
      layers: int, number of couplings; a single angle has none.
      bins: int, pieces of each spline.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network.
      period: float, a full turn, such as 360 for degrees or 24 for hours; by default
        that of radians. Angles lie between minus and plus one turn.
    """
    plan.noise = uniform([-math.pi] * plan.size, [math.pi] * plan.size, plan.dtype)
    circle = RationalQuadratic(bins, circular=True)
    hidden = [width] * depth
    turn = 2 * math.pi if period is None else period
    yield Torus(plan.size, turn, dtype=plan.dtype)

    def coupling(mask, shape, name):
        outputs = circle.num_parameters * count_changed(mask, shape)
        network = PeriodicMLP(outputs, hidden, **plan.network())
        yield Coupling(mask, network, circle, name=name, **plan.layer)

    if plan.size > 1:
        yield from coupling_layers(plan, coupling, layers)
        return
    network = None
    if plan.context_shape is not None:
        options = {**plan.network(), "context_mode": "concat"}
        network = MLP(circle.num_parameters, hidden, **options)
    yield Elementwise(circle, [1], network, name="spline", **plan.layer)
