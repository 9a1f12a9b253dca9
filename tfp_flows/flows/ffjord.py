"""A continuous flow (Grathwohl et al. 2019)."""

from __future__ import annotations

from tfp_flows.bijectors import ContinuousFlow
from tfp_flows.core.arguments import check_unused
from tfp_flows.networks import MLP
from tfp_flows.ready import Bijectors, Plan, ready

__all__ = ["ffjord"]


@ready(flatten=True, takes=("context_mode",))
def ffjord(
    plan: Plan,
    *,
    layers: int = 1,
    width: int = 64,
    depth: int = 3,
    activation: str = "tanh",
    solver: str = "rk4",
    steps: int | None = None,
    tolerance: float | None = None,
    log_det: str = "auto",
    probes: int | None = None,
    gradients: str | None = None,
    kinetic_energy: float = 0.0,
    jacobian_norm: float = 0.0,
) -> Bijectors:
    """A velocity that moves noise to data, by an ordinary differential equation.

    Chen et al. 2018, "Neural Ordinary Differential Equations", and Grathwohl et al.
    2019, "FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative
    Models". The velocity is a multilayer perceptron of the event and the time. Density
    and sample both take `4 * steps` passes of it, and are each other's inverses up to
    the error of the solver. `tfp_flows.training.FlowMatching` trains it without solving
    the equation.

    Facts:
      suits: any network as the map, and training without likelihoods.
      density: `4 * steps` passes, and products with their Jacobians, as of
        `residual_flow`.
      sample: `4 * steps` passes.
      inverse: numerical, up to the error of the solver.
      data: vectors of one or more features; images as vectors.
      context: joined to the network's input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.ffjord((2,), width=16, steps=4, seed=0)
      >>> flow.log_prob([0.0, 1.0]).shape
      TensorShape([])

    Args:
      layers: int, number of such maps, each with a network of its own.
      width: int, units of each hidden layer.
      depth: int, hidden layers.
      activation: string, name of a smooth Keras activation.
      solver: string, `"rk4"` or `"dormand_prince"`, see
        `tfp_flows.bijectors.ContinuousFlow`, as for all that follow.
      steps: int, `"rk4"` only: steps from noise to data (8).
      tolerance: float, `"dormand_prince"` only: error of a step.
      log_det: string, `"auto"`, `"exact"` or `"hutchinson"`. If it is estimated,
        `distributions.log_prob_and_standard_error` says how far off densities may be.
      probes: int, if estimated: vectors for each estimate of a trace (1).
      gradients: string, `"autodiff"` or `"adjoint"`, whose memory does not grow with
        `steps`.
      kinetic_energy: float, weight of the mean squared velocity in the loss.
      jacobian_norm: float, weight of the squared norm of the velocity's Jacobian.
    """
    for i in range(layers):
        network = {"activation": activation, **plan.network()}
        flow = ContinuousFlow(
            MLP(plan.size, [width] * depth, **network),
            plan.event_shape,
            solver=solver,
            steps=steps,
            tolerance=tolerance,
            log_det=log_det,
            probes=1 if probes is None else probes,
            gradients=gradients,
            kinetic_energy=kinetic_energy,
            jacobian_norm=jacobian_norm,
            seed=plan.seed(),
            name=f"continuous_{i}",
            **plan.layer,
        )
        if flow.log_det == "exact":
            check_unused("for a log_det that is estimated, not exact", probes=probes)
        yield flow
