"""Glow (Kingma & Dhariwal 2018)."""

from __future__ import annotations

from collections.abc import Iterator

from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import ActNorm, AffineCoupling, InvertibleConv1x1, MultiScale
from tfp_flows.flows.layers import count_levels, squeezed
from tfp_flows.networks import ConvNet
from tfp_flows.ready.building import ready
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import count_changed, repeat

__all__ = ["glow"]


@ready(shapes=(3,), takes=("context_mode", "conditioner_dtype"))
def glow(
    plan: Plan,
    *,
    levels: int | None = None,
    steps: int = 32,
    width: int = 512,
    conv1x1: str = "plu",
    scale: str = "sigmoid",
    max_log_scale: float | None = 1.0,
) -> Iterator[tfb.Bijector]:
    """Levels of squeeze, steps of flow, and a split with a learned prior.

    Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions",
    figure 2 and section 3: each level squeezes, applies `steps` times activation
    normalisation, an invertible 1x1 convolution and an affine coupling (table 1), and
    lets half of the channels leave. The defaults are those of their 32x32 models. 28x28
    images have two levels (14 and 7 pixels wide), without padding.

    The activation normalisation is set from data: by `FlowModel.fit`, or by
    `tfp_flows.training.initialize`. Outputs of the networks are multiplied by a number
    below 1 where there are many wide ones, which would diverge in the first steps of an
    optimizer at a usual rate; the paper raises its rate slowly instead.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.glow((8, 8, 1), steps=2, width=8, bounds=(0, 16), seed=0)
      >>> flow.sample(3, seed=0, temperature=0.7).shape
      TensorShape([3, 8, 8, 1])

    Args:
      levels: int, number of levels; by default as many as the size allows, at most 3.
      steps: int, steps of flow in each level.
      width: int, hidden channels of the networks.
      conv1x1: string, parametrisation of the 1x1 convolutions, `"plu"` or `"dense"`.
      scale: string, map from a network's output to a factor: `"exp"`, `"tanh"` or
        `"sigmoid"`, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: float, bound on the log-scale in nats, see there. The paper has
        none (`None`), and a sample now and then overflows: all couplings together can
        multiply by `exp(levels * steps * max_log_scale)`.

    Raises:
      ValueError: if `levels` does not divide the image's sides, naming the side.
    """
    shape, stages, priors = plan.event_shape, [], []
    levels = count_levels(shape, levels, squeezes_last=True)
    # A step of Adam moves a network's output in proportion to its width, and the flow's
    # in proportion to the number of networks. Sixteen of width 64 stand a usual rate.
    output_scale = min(1.0, 16 * 64 / (levels * steps * width))

    def step():
        mask, dtype = masks.channel(shape[2]), plan.dtype
        yield ActNorm(shape, dtype=dtype, name="actnorm")
        matrix = {"seed": plan.seed(), "dtype": dtype, "name": "conv1x1"}
        yield tfb.Invert(InvertibleConv1x1(shape, conv1x1, **matrix))
        options = {"output_scale": output_scale, **plan.network()}
        network = ConvNet(2 * count_changed(mask, shape), width, **options)
        yield AffineCoupling(
            mask, network, scale, max_log_scale, shape, name="coupling", **plan.layer
        )

    for level in range(levels):
        squeeze, shape = squeezed(shape)
        layers = [squeeze, *repeat(lambda: list(step()), steps, "steps")]
        stages.append(plan.chain(layers, f"level_{level}"))
        if level < levels - 1:
            shape = (*shape[:2], shape[2] // 2)
            # A single convolution has no hidden layer for FiLM to modulate.
            options = {**plan.network(), "context_mode": "concat"}
            priors.append(ConvNet(2 * shape[2], width, (), **options))
    yield MultiScale(stages, plan.event_shape, priors, **plan.layer)
