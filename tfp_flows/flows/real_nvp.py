"""RealNVP (Dinh et al. 2017)."""

from __future__ import annotations

from tfp_flows.bijectors import AffineCoupling, BatchNorm
from tfp_flows.networks import MLP, ResidualConvNet
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.levels import count_levels, multi_scale, squeezed
from tfp_flows.ready.stacks import count_changed, coupling_layers, damping

__all__ = ["real_nvp"]


@ready(
    takes=(
        "levels",
        "wavelets",
        "scale",
        "max_log_scale",
        "context_mode",
        "conditioner_dtype",
    ),
    at_least={"depth": 0},
    vectors={
        "layers": 8,
        "width": 256,
        "depth": 2,
        "order": "alternating",
        "batch_norm": False,
    },
    images={"layers": 3, "width": 64, "depth": 8, "batch_norm": True},
)
def real_nvp(
    plan: Plan,
    *,
    layers: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    order: str | None = None,
    batch_norm: bool | None = None,
) -> Bijectors:
    """Affine couplings, on vectors or on images.

    Dinh et al. 2017, "Density estimation using Real NVP", equations 7 and 8. On
    vectors: couplings with small dense networks, whose outputs are damped as those of
    `glow`; their masks take turns, or random permutations stand before them.

    On images: the multi-scale architecture of sections 3.6 and 4.1, by residual
    networks. Each level but the last has couplings with a checkerboard mask, a squeeze,
    and couplings with a channel mask, after which half of the channels leave; the last
    has one more checkerboard coupling instead. 28x28 images have three levels (28, 14
    and 7 pixels wide), without padding.

    Samples may lie further out than data: a coupling multiplies by up to
    `exp(max_log_scale)`, and samples take running averages of batches, which lag
    behind. They stay within `bounds` only with a `logit_margin`.

    Facts:
      suits: vectors, and images of any size from 2x2, fast both ways.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: vectors of two or more features; images.
      context: joined to the networks' input, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.real_nvp((2,), width=16, context_shape=(3,), seed=0)
      >>> flow.log_prob([0.0, 1.0], context=[1.0, 2.0, 3.0]).shape
      TensorShape([])

    Args:
      layers: int, couplings of a vector (8), or of each kind and level of images (3).
      width: int, hidden units (256) or hidden channels (64).
      depth: int, hidden layers (2) or residual blocks (8) of each network.
      order: string, of vectors: `"alternating"` (masks take turns), or what stands
        before each coupling: a `"random"` permutation, or `"reverse"`.
      batch_norm: bool, whether a `BatchNorm` follows each; by default on images alone.
    """

    def coupling(mask, shape, name):
        outputs = 2 * count_changed(mask, shape)
        if plan.is_image:
            network = ResidualConvNet(outputs, width, depth, **plan.network())
        else:
            options = {"output_scale": damping(8 * 256, layers, width)}
            network = MLP(outputs, [width] * depth, **options, **plan.network())
        yield AffineCoupling(
            mask, network, *plan.affine, shape, name=name, **plan.layer
        )
        if batch_norm:
            yield BatchNorm(shape, dtype=plan.dtype, name=f"{name}_norm")

    def level(shape, is_last):
        yield from coupling_layers(plan, coupling, layers + is_last, shape)
        if not is_last:
            squeeze, shape = squeezed(plan, shape)
            yield squeeze
            yield from coupling_layers(plan, coupling, layers, shape, "channel")

    if plan.is_image:
        yield multi_scale(plan, count_levels(plan), level)
    else:
        yield from coupling_layers(plan, coupling, layers, order=order)
