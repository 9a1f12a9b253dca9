"""A Sylvester flow (van den Berg et al. 2018)."""

from __future__ import annotations

from tfp_flows.bijectors import Permutation, Sylvester
from tfp_flows.core.arguments import check_unused
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import amortized_layers

__all__ = ["sylvester"]


@ready(flatten=True, at_least={"depth": 0})
def sylvester(
    plan: Plan,
    *,
    layers: int = 4,
    columns: int | None = None,
    parametrization: str = "orthogonal",
    reflections: int | None = None,
    activation: str = "tanh",
    explicit: str = "density",
    width: int | None = None,
    depth: int | None = None,
) -> Bijectors:
    """Sylvester layers: planar ones with several hidden units.

    Van den Berg et al. 2018, "Sylvester Normalizing Flows for Variational Inference",
    equation 8 and section 3, with four layers as there. With a context, each example
    has parameters of its own (amortised inference). Between triangular layers the
    dimensions are reversed.

    Facts:
      suits: few parameters, or parameters that a network makes; more features than
        `planar`.
      density: a formula in each layer, no network; with `explicit="sampling"` a root.
      sample: a root in each layer; with `explicit="sampling"` a formula.
      inverse: numerical.
      data: vectors of one or more features; images as vectors.
      context: a vector, of which networks make all parameters.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.sylvester((3,), layers=2, columns=2, seed=0)
      >>> flow.log_prob([0.0, 1.0, 2.0]).shape
      TensorShape([])

    Args:
      layers: int, number of Sylvester layers.
      columns: int, hidden units of each, at most D; by default D, but no more than 32.
        `"triangular"` has D.
      parametrization: string, `"orthogonal"`, `"householder"` or `"triangular"`, see
        `tfp_flows.bijectors.Sylvester`.
      reflections: int, number of reflections of `"householder"`, see there.
      activation: string, `"tanh"` or `"leaky_relu"`.
      explicit: string, which way is in closed form and fast, the other being found by
        an iteration: `"density"` (data to noise, to fit data) or `"sampling"` (noise to
        data, for a variational posterior).
      width: int, with a context: units of each hidden layer of the networks that
        compute the parameters from it, one for each layer of the flow (64).
      depth: int, with a context: hidden layers of these networks (2).
    """
    is_triangular = parametrization == "triangular"
    if is_triangular:
        check_unused('for others; "triangular" has D columns', columns=columns)
    elif columns is None:
        columns = min(plan.size, 32)

    def reverse():
        return Permutation("reverse", plan.size, name="reverse")

    yield from amortized_layers(
        plan,
        Sylvester,
        layers=layers,
        explicit=explicit,
        width=width,
        depth=depth,
        name="sylvester",
        between=reverse if is_triangular else None,
        columns=columns,
        parametrization=parametrization,
        reflections=reflections,
        activation=activation,
    )
