"""Neural spline flows (Durkan et al. 2019)."""

from __future__ import annotations

import numpy as np

from tfp_flows.bijectors import PLU, QR, ActNorm, Coupling, Elementwise, Permutation
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.core.seeds import generator
from tfp_flows.flows.layers import LARGEST_MATRIX, autoregression, check_dropout
from tfp_flows.flows.layers import linear as linear_layer
from tfp_flows.networks import ResidualMLP
from tfp_flows.ready import Bijectors, Plan, in_turn, ready
from tfp_flows.ready.stacks import count_changed, masks_in_turn
from tfp_flows.transformers import Cubic, Inverted, LinearRational, RationalQuadratic

__all__ = ["neural_spline_flow"]

_SPLINES = {
    "rational_quadratic": RationalQuadratic,
    "linear_rational": LinearRational,
    "cubic": Cubic,
}


@ready(flatten=True, takes=("context_mode", "conditioner_dtype"))
def neural_spline_flow(
    plan: Plan,
    *,
    kind: str = "coupling",
    layers: int = 5,
    bins: int = 8,
    bound: float = 3.0,
    width: int = 128,
    depth: int = 2,
    linear: str | None = None,
    actnorm: bool = False,
    spline: str = "rational_quadratic",
    marginals: bool = False,
    dropout: float = 0.0,
) -> Bijectors:
    """Rational-quadratic splines, by couplings or autoregressive.

    Durkan et al. 2019, "Neural Spline Flows", section 4: a linear layer, then a spline
    (equation 4) of half of the entries, or of each entry, whose bins residual networks
    compute from the others, or from those before it. Outside `[-bound, bound]` the
    splines are the identity, so data should be of that size, to which `normalize` sees.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.neural_spline_flow((2,), layers=2, width=16, seed=0)
      >>> flow.log_prob([[0.0, 1.0]]).shape
      TensorShape([1])

    Args:
      kind: string, `"coupling"`, fast in both directions, or `"autoregressive"`, the
        more flexible one, which samples entry by entry and takes a single entry, too,
        but no half precision.
      layers: int, number of spline transforms.
      bins: int, pieces of each spline.
      bound: float, the splines act on `[-bound, bound]`.
      width: int, units of each hidden layer.
      depth: int, residual blocks of each network.
      linear: string, what stands before each transform: `"plu"` (the default up to 256
        features) or `"qr"`, a learned matrix that starts as a random rotation; `"lu"`,
        one that starts as a random permutation, as in the authors' code, with one more
        after the last transform; or `"permutation"`, a random one (before every other
        coupling, so that two change every entry), the default for more features.
      actnorm: bool, whether an `ActNorm` stands before that, which keeps the data of
        each spline within its bound and is set from data.
      spline: string, `"rational_quadratic"`, `"linear_rational"` (Dolatabadi et al.
        2020) or `"cubic"` (Durkan et al. 2019, "Cubic-Spline Flows"), whose samples
        find a root.
      marginals: bool, whether a learned spline of each entry, the same for all data,
        follows each coupling; the authors have one for entries that a coupling keeps.
      dropout: float, fraction of hidden activations left out in training, see
        `tfp_flows.networks.ResidualMLP`.
    """
    check_choice("kind", kind, ("coupling", "autoregressive"))
    check_choice("linear", linear, (None, "plu", "qr", "lu", "permutation"))
    check_choice("spline", spline, _SPLINES)
    couples = kind == "coupling"
    check_dropout(plan, dropout)
    if marginals and not couples:
        check_unused("for couplings", marginals=marginals)
    if not couples and plan.conditioner_dtype not in (None, plan.dtype):
        raise ValueError(
            f'conditioner_dtype={plan.conditioner_dtype!r} needs kind="coupling": in '
            "half precision the two directions of an autoregression, which compute the "
            "same in another order, are no inverses of each other."
        )
    if plan.size == 1:
        check_unused("for two or more features", linear=linear)
    if linear is None:
        linear = "plu" if plan.size <= LARGEST_MATRIX else "permutation"
    both = masks_in_turn(plan) if couples else None
    function = _SPLINES[spline](bins, bound)
    if not function.has_direct_inverse:
        function = Inverted(function)
    matrix = QR if linear == "qr" else PLU

    def linear_map():
        start = {}
        if linear == "lu":
            order = generator(plan.seed()).permutation(plan.size)
            start["initial"] = np.eye(plan.size)[order]
        return linear_layer(plan, matrix, plan.size, **start)

    def layer(i):
        if actnorm:
            yield ActNorm([plan.size], dtype=plan.dtype, name=f"actnorm_{i}")
        if linear == "permutation":
            # Masks that take turns reach every entry if nothing moves between the two.
            if not (couples and i):
                yield Permutation("random", plan.size, seed=plan.seed())
        elif plan.size > 1:
            yield linear_map()
        name = f"spline_{i}"
        if couples:
            outputs = function.num_parameters * count_changed(both[i], plan.event_shape)
            network = ResidualMLP(
                outputs, width, depth, dropout=dropout, **plan.network()
            )
            yield Coupling(both[i], network, function, name=name, **plan.layer)
            if marginals:
                size = [plan.size]
                yield Elementwise(
                    function, size, dtype=plan.dtype, name=f"marginals_{i}"
                )
        else:
            made = {"hidden": [width] * depth, "residual": True, "dropout": dropout}
            yield autoregression(plan, function, i, name, **made)

    yield from in_turn(layer, layers)
    if linear == "lu" and plan.size > 1:
        yield linear_map()
