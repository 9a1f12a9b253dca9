"""Contractive residual flows (Chen et al. 2019)."""

from __future__ import annotations

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import ActNorm, ResidualFlow
from tfp_flows.core.arguments import check_unused
from tfp_flows.networks import LipschitzConvNet, LipschitzMLP
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.levels import count_levels, squeezed
from tfp_flows.ready.stacks import repeat

__all__ = ["residual_flow"]


@ready(
    takes=("levels", "wavelets"),
    vectors={"layers": 10, "width": 128, "depth": 3},
    images={"layers": 16, "width": 512, "depth": 2},
)
def residual_flow(
    plan: Plan,
    *,
    layers: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    coefficient: float = 0.97,
    activation: str = "lipswish",
    log_det: str = "auto",
    terms: int | None = None,
    probes: int | None = None,
    evaluation_terms: int | None = None,
    actnorm: bool = True,
) -> Bijectors:
    """Residual blocks that can be inverted because they are contractions.

    Behrmann et al. 2019, "Invertible Residual Networks", and Chen et al. 2019,
    "Residual Flows for Invertible Generative Modeling", equations 1 and 6. Every entry
    changes in every block. A density is explicit; a sample takes a fixed-point
    iteration in each block. Images go through levels with a squeeze between them, as in
    Chen et al. 2019, appendix E (without factoring out; three levels for 28x28), and
    the noise has the shape of the last, so that `encode` gives feature maps.

    Facts:
      suits: features for a classifier, as every entry changes in every block.
      density: as many products with Jacobians as entries up to 16, else an estimate,
        beside one pass.
      sample: a fixed point in each block, tens of passes.
      inverse: numerical.
      data: vectors of one or more features; images.
      context: joined to the networks' input.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.residual_flow((2,), layers=2, width=16, seed=0)
      >>> flow.log_prob([0.0, 1.0]).shape
      TensorShape([])

    Args:
      layers: int, number of residual blocks (10), on images in each level (16).
      width: int, hidden units (128) or hidden channels (512) of each network.
      depth: int, hidden layers of each (3); of images 2, a 3x3 and a 1x1 convolution.
      coefficient: float, bound on each network's Lipschitz constant, below 1.
      activation: string, `"lipswish"`, `"elu"` or `"sine"`, see `LipschitzNetwork`.
      log_det: string, `"auto"`, `"exact"`, `"series"` or `"roulette"`: `ResidualFlow`
        explains, `distributions.log_prob_and_standard_error` says how far off it is.
      terms: int, terms of an estimate that are always computed in training.
      probes: int, vectors for each estimate of a trace (1).
      evaluation_terms: int, terms of an estimate when not training (20).
      actnorm: bool, whether an `ActNorm`, set from data, is before each block and last.
    """
    shape = plan.event_shape
    lipschitz = {"coefficient": coefficient, "activation": activation}
    estimate = {"terms": terms, "probes": probes, "evaluation_terms": evaluation_terms}
    options = {"log_det": log_det, **plan.layer}
    options |= {k: v for k, v in estimate.items() if v is not None}

    def block():
        if actnorm:
            yield ActNorm(shape, dtype=plan.dtype, name="actnorm")
        given = {**lipschitz, **plan.network()}
        if plan.is_image:
            kernels = (3, *[1] * (depth - 1))
            network = LipschitzConvNet(shape[-1], width, kernels, **given)
        else:
            network = LipschitzMLP(shape[-1], [width] * depth, **given)
        inner = ResidualFlow(network, shape, seed=plan.seed(), name="block", **options)
        if inner.log_det == "exact":
            check_unused("for a log_det that is estimated, not exact", **estimate)
        yield tfb.Invert(inner)

    for level in range(count_levels(plan) if plan.is_image else 1):
        if level > 0:
            squeeze, shape = squeezed(plan, shape)
            yield squeeze
        yield from repeat(lambda: list(block()), layers, "blocks")
    if actnorm:
        yield ActNorm(shape, dtype=plan.dtype, name="actnorm_last")
