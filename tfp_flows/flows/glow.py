"""Glow (Kingma & Dhariwal 2018)."""

from __future__ import annotations

from tfp_flows import masks
from tfp_flows.bijectors import ActNorm, AffineCoupling
from tfp_flows.core.arguments import check_choice
from tfp_flows.networks import ConvNet
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import linear
from tfp_flows.ready.levels import count_levels, multi_scale, squeezed
from tfp_flows.ready.stacks import count_changed, damping, repeat

__all__ = ["glow"]


@ready(
    shapes=(3,),
    takes=(
        "levels",
        "wavelets",
        "scale",
        "max_log_scale",
        "context_mode",
        "conditioner_dtype",
    ),
    scale="sigmoid",
    max_log_scale=1.0,
)
def glow(
    plan: Plan,
    *,
    steps: int = 32,
    width: int = 512,
    conv1x1: str = "plu",
) -> Bijectors:
    """Levels of squeeze, steps of flow, and a split with a learned prior.

    Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions",
    figure 2 and section 3: each level squeezes, applies `steps` times activation
    normalisation, an invertible 1x1 convolution and an affine coupling (table 1), and
    lets half of the channels leave. The defaults are those of their 32x32 models. 28x28
    images have two levels (14 and 7 pixels wide), without padding.

    The activation normalisation is set from data: by `FlowModel.fit`, or by
    `tfp_flows.training.initialize`. The optimizer's rate must rise slowly, as the
    paper's does: `compile()` of a `FlowModel` sees to that, for another optimizer give
    it a schedule. Outputs of the networks are multiplied by a number below 1 where
    there are many wide ones. The paper bounds no log-scales (`max_log_scale=None`), and
    then a sample now and then overflows: all couplings together can multiply by
    `exp(levels * steps * max_log_scale)`.

    Facts:
      suits: images to look at, fast both ways.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: images of even sides from 4x4.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.glow((8, 8, 1), steps=2, width=8, bounds=(0, 16), seed=0)
      >>> flow.sample(3, seed=0, temperature=0.7).shape
      TensorShape([3, 8, 8, 1])

    Args:
      steps: int, steps of flow in each level.
      width: int, hidden channels of the networks.
      conv1x1: string, parametrisation of the 1x1 convolutions, `"plu"` or `"dense"`.
    """
    check_choice("conv1x1", conv1x1, ("plu", "dense"))
    levels = count_levels(plan, squeezes_last=True)
    output_scale = damping(16 * 64, levels * steps, width)

    def step(shape):
        yield ActNorm(shape, dtype=plan.dtype, name="actnorm")
        yield from linear(plan, shape, conv1x1, "conv1x1")
        mask = masks.channel(shape[2])
        options = {"output_scale": output_scale, **plan.network()}
        network = ConvNet(2 * count_changed(mask, shape), width, **options)
        yield AffineCoupling(
            mask, network, *plan.affine, shape, name="coupling", **plan.layer
        )

    def level(shape, _):
        squeeze, shape = squeezed(plan, shape)
        return [squeeze, *repeat(lambda: list(step(shape)), steps, "steps")]

    def prior(shape):
        # A single convolution has no hidden layer for FiLM to modulate.
        options = {**plan.network(), "context_mode": "concat"}
        return ConvNet(2 * shape[2], width, (), **options)

    yield multi_scale(plan, levels, level, prior)
