"""A flow of shares, neural splines behind log-ratios (Durkan et al. 2019)."""

from __future__ import annotations

import inspect

from tfp_flows.bijectors import Simplex, Standardize
from tfp_flows.flows.neural_spline_flow import neural_spline_flow
from tfp_flows.ready import Bijectors, Plan, ready

__all__ = ["simplex"]


@ready(
    shapes=(1,),
    takes=("dropout", "context_mode", "conditioner_dtype"),
    without=("bounds", "logit_margin", "normalize", "dequantize"),
    normalize=False,
)
def simplex(
    plan: Plan,
    *,
    layers: int = 5,
    bins: int = 8,
    bound: float = 3.0,
    width: int = 128,
    depth: int = 2,
) -> Bijectors:
    r"""Positive numbers that add up to one, by neural splines of their log-ratios.

    The logarithms of the ratios of all shares to the last one (Aitchison 1982) are
    brought to mean 0 and deviation 1 by the data, and go through `neural_spline_flow`
    (Durkan et al. 2019); those of two shares, a single one, through its autoregressive
    form. Densities are per unit of the surface of the simplex, $\sqrt{K} / (K - 1)!$ in
    all; per unit of the first $K - 1$ shares, as that of `tfd.Dirichlet`, they are
    larger by the factor $\sqrt{K}$.

    Facts:
      suits: shares and compositions, none of them zero.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of two or more positive numbers that add up to one.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.simplex((3,), layers=2, width=8, seed=0)
      >>> shares = flow.sample(4, seed=0)
      >>> shares.numpy().sum(1).round(3)
      array([1., 1., 1., 1.], dtype=float32)

    Args:
      layers: int, number of spline transforms.
      bins: int, pieces of each spline.
      bound: float, the splines act on `[-bound, bound]`.
      width: int, units of each hidden layer.
      depth: int, residual blocks of each network.
    """
    yield Simplex(plan.size, dtype=plan.dtype)
    ratios = plan.behind((plan.size - 1,))
    yield Standardize(ratios.event_shape, dtype=plan.dtype, name="normalize")
    yield from inspect.unwrap(neural_spline_flow)(
        ratios,
        autoregressive=ratios.size == 1,
        layers=layers,
        bins=bins,
        bound=bound,
        width=width,
        depth=depth,
    )
