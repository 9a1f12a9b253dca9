"""A flow of directions (Rezende et al. 2020)."""

from __future__ import annotations

import math

from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import Coupling, Permutation, Sphere
from tfp_flows.distributions import uniform
from tfp_flows.networks import MLP, PeriodicMLP
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.stacks import repeat
from tfp_flows.transformers import RationalQuadratic

__all__ = ["sphere"]


@ready(
    shapes=(1,),
    takes=("context_mode",),
    without=("base", "bounds", "logit_margin", "normalize", "dequantize"),
    at_least={"depth": 0},
    normalize=False,
)
def sphere(
    plan: Plan,
    *,
    layers: int = 3,
    bins: int = 8,
    width: int = 64,
    depth: int = 2,
) -> Bijectors:
    r"""Splines of heights and angles about one axis after the other.

    Rezende et al. 2020, "Normalizing Flows on Tori and Spheres", section 2.2: about an
    axis, a circular spline of the angle and a spline of the height, each given the
    other one. Then the axes change places, as all angles meet at a pole. The noise is
    uniform on the sphere, and densities are per unit of its surface, $4\pi$ in all.

    Facts:
      suits: directions in three dimensions; places on the earth or in the sky.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of three numbers, of length one.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.sphere((3,), layers=2, width=8, seed=0)
      >>> flow.log_prob([[0.6, 0.0, 0.8], [1.0, 1.0, 1.0]]).numpy().round(3)
      array([-2.531,   -inf], dtype=float32)

    Args:
      layers: int, number of axes, in turn the three, with a pair of splines each.
      bins: int, pieces of each spline.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network.

    Raises:
      ValueError: if `event_shape` is not `(3,)`.
    """
    if plan.event_shape != (3,):
        raise ValueError(
            f"sphere needs event_shape (3,), unit vectors; got {plan.event_shape}."
        )
    plan.noise = uniform([-1.0, -math.pi], [1.0, math.pi], plan.dtype)
    circle, line = RationalQuadratic(bins, circular=True), RationalQuadratic(bins, 1.0)
    hidden, height = [width] * depth, masks.half(2)

    def about_an_axis():
        of_height = MLP(circle.num_parameters, hidden, **plan.network())
        of_angle = PeriodicMLP(line.num_parameters, hidden, **plan.network())
        yield Sphere(dtype=plan.dtype)
        yield Coupling(height, of_height, circle, name="angle", **plan.layer)
        yield Coupling(~height, of_angle, line, name="height", **plan.layer)

    def about_the_next():
        yield tfb.Invert(Sphere(dtype=plan.dtype))
        yield Permutation([1, 2, 0], name="axes")
        yield from about_an_axis()

    yield from about_an_axis()
    yield from repeat(lambda: list(about_the_next()), layers - 1)
