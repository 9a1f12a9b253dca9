"""NAF: a neural autoregressive flow (Huang et al. 2018), with any transformer."""

from __future__ import annotations

from collections.abc import Callable

from tfp_flows import transformers as T
from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.core.arguments import check_choice
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import autoregressive_layers, fast_density
from tfp_flows.ready.mixture_coupling import bounded_mixture

__all__ = ["naf"]


def _sigmoids(components: int) -> T.LogisticMixture:
    mixture = bounded_mixture(components)
    mixture.papers = (*mixture.papers, "huang2018naf")
    return mixture


# What `transformer` may be, by its `components`.
_TRANSFORMERS: dict[str, Callable[[int], T.Transformer]] = {
    "sigmoids": _sigmoids,
    "sigmoid_network": lambda n: T.SigmoidNetwork(n, max_log_scale=1.0),
    "sum_of_squares": lambda n: T.SumOfSquares(2, n),
    "bernstein": T.Bernstein,
    "analytic": lambda n: T.Analytic("sinh", n),
    "rational_quadratic": T.RationalQuadratic,
    "linear_rational": T.LinearRational,
    "cubic": T.Cubic,
}


@ready(flatten=True, takes=("context_mode",))
def naf(
    plan: Plan,
    *,
    transformer: str = "sigmoids",
    components: int = 8,
    layers: int = 3,
    width: int = 256,
    depth: int = 2,
    residual: bool = False,
    order: str = "reverse",
) -> Bijectors:
    """Autoregressive transforms of any monotonic function, with a fast density.

    Huang et al. 2018, "Neural Autoregressive Flows": each entry goes through a
    monotonic function whose parameters a masked network computes from those before it.
    By default it is their deep sigmoidal flow, the log-odds of a mixture of logistics.
    A density takes one pass through each network. A sample takes about one pass spread
    over one step for each entry, and in each a root, but for `"analytic"` and the
    rational splines. A single entry is fine, too.

    Splines and polynomials bend within three deviations of the data and go on as
    straight lines beyond.

    Facts:
      suits: densities of tables with sharp features; samples may take longer.
      density: one pass.
      sample: entry by entry, in all about the arithmetic of one pass, and a root of
        each.
      inverse: numerical; exact for `"analytic"` and rational splines.
      data: vectors of one or more features; images as vectors.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.naf((3,), transformer="bernstein", layers=2, width=16, seed=0)
      >>> flow.log_prob([[0.0, 1.0, 2.0]]).shape
      TensorShape([1])

    Args:
      transformer: string, the function of each entry, see `tfp_flows.transformers`:
        `"sigmoids"` (`LogisticMixture`), `"sigmoid_network"`, `"sum_of_squares"`,
        `"bernstein"`, `"analytic"`, `"rational_quadratic"`, `"linear_rational"` or
        `"cubic"`.
      components: int, its size: the number of logistics, units, functions or bins (2 or
        more), or the degree of its polynomials.
      layers: int, number of autoregressive transforms.
      width: int, units of each hidden layer.
      depth: int, hidden layers of each network, or residual blocks.
      residual: bool, whether the networks are residual, see `tfp_flows.networks.MADE`.
      order: string, `"reverse"` (every other transform goes through the entries
        backwards) or `"random"`.
    """
    check_choice("transformer", transformer, _TRANSFORMERS)
    function = fast_density(_TRANSFORMERS[transformer](components))
    yield from autoregressive_layers(
        plan,
        MaskedAutoregressive,
        function,
        layers=layers,
        order=order,
        hidden_units=[width] * depth,
        residual=residual,
    )
