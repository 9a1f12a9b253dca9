"""Neural spline flows (Durkan et al. 2019)."""

from __future__ import annotations

from tfp_flows.bijectors import ActNorm, Coupling, Elementwise
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.networks import ResidualMLP
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import autoregression, spline_of, usual_linear
from tfp_flows.ready.layers import linear as linear_layer
from tfp_flows.ready.stacks import count_changed, in_turn, masks_in_turn

__all__ = ["neural_spline_flow"]


@ready(flatten=True, takes=("dropout", "context_mode", "conditioner_dtype"))
def neural_spline_flow(
    plan: Plan,
    *,
    autoregressive: bool = False,
    layers: int = 5,
    bins: int = 8,
    bound: float = 3.0,
    width: int = 128,
    depth: int = 2,
    linear: str | None = None,
    actnorm: bool = False,
    spline: str = "rational_quadratic",
    marginals: bool = False,
) -> Bijectors:
    """Rational-quadratic splines, by couplings or autoregressive.

    Durkan et al. 2019, "Neural Spline Flows", section 4: a linear layer, then a spline
    (equation 4) of half of the entries, or of each entry, whose bins residual networks
    compute from the others, or from those before it. Outside `[-bound, bound]` the
    splines are the identity, so data should be of that size, to which `normalize` sees.

    Facts:
      suits: a few or dozens of continuous columns: the first flow to try.
      density: one pass.
      sample: one pass; entry by entry with `autoregressive`.
      inverse: exact; numerical with `spline="cubic"`.
      data: vectors of two or more features, with `autoregressive` of one; images as
        vectors.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.neural_spline_flow((2,), layers=2, width=16, seed=0)
      >>> flow.log_prob([[0.0, 1.0]]).shape
      TensorShape([1])

    Args:
      autoregressive: bool, whether the splines are autoregressive, which are more
        flexible, sample entry by entry, take a single entry, and no half precision;
        couplings are fast both ways.
      layers: int, number of spline transforms.
      bins: int, pieces of each spline.
      bound: float, the splines act on `[-bound, bound]`.
      width: int, units of each hidden layer.
      depth: int, residual blocks of each network.
      linear: string, what stands before each transform: `"plu"` (the default up to 256
        features) or `"qr"`, a matrix that starts as a random rotation; `"lu"`, one that
        starts as a random permutation, with one more at the end, as in the authors'
        code; or `"permutation"` (before every other coupling: two change all entries).
      actnorm: bool, whether an `ActNorm`, set from data, stands before that and keeps
        the data of each spline within its bound.
      spline: string, `"rational_quadratic"`, `"linear_rational"` (Dolatabadi et al.
        2020) or `"cubic"` (Durkan et al. 2019b), whose samples find a root.
      marginals: bool, whether a learned spline of each entry, the same for all data,
        follows each coupling; the authors have one for entries that a coupling keeps.
    """
    check_choice("linear", linear, (None, "plu", "qr", "lu", "permutation"))
    couples, shape = not autoregressive, plan.event_shape
    check_unused("for couplings", marginals=(marginals and not couples) or None)
    check_unused("for two or more features", linear=linear if plan.size == 1 else None)
    linear = linear or usual_linear(shape)
    both = masks_in_turn(plan) if couples else None
    function = spline_of(spline, bins, bound)
    made = {"hidden_units": [width] * depth, "residual": True}

    def layer(i):
        if actnorm:
            yield ActNorm(shape, dtype=plan.dtype, name=f"actnorm_{i}")
        # Masks that take turns reach every entry if nothing moves between the two.
        if not (couples and i and linear == "permutation"):
            yield from linear_layer(plan, shape, linear)
        if not couples:
            yield autoregression(plan, function, i, f"spline_{i}", **made)
            return
        outputs = function.num_parameters * count_changed(both[i], shape)
        network = ResidualMLP(outputs, width, depth, **plan.network())
        yield Coupling(both[i], network, function, name=f"spline_{i}", **plan.layer)
        if marginals:
            yield Elementwise(function, shape, dtype=plan.dtype, name=f"marginals_{i}")

    yield from in_turn(layer, layers)
    if linear == "lu":
        yield from linear_layer(plan, shape, linear)
