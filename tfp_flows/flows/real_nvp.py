"""RealNVP (Dinh et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import AffineCoupling, BatchNorm, MultiScale, Permutation
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.flows.layers import count_levels, coupling_layers, squeezed
from tfp_flows.networks import MLP, ResidualConvNet
from tfp_flows.ready.building import ready
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import count_changed, in_turn, masks_in_turn

__all__ = ["real_nvp"]


@ready(takes=("context_mode", "conditioner_dtype"), at_least={"depth": 0})
def real_nvp(
    plan: Plan,
    *,
    layers: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    levels: int | None = None,
    permutation: str | None = None,
    batch_norm: bool | None = None,
    scale: str = "tanh",
    max_log_scale: float | None = None,
) -> Iterator[tfb.Bijector]:
    """Affine couplings, on vectors or on images.

    Dinh et al. 2017, "Density estimation using Real NVP", equations 7 and 8.

    On vectors: affine couplings with small dense networks whose masks take turns, or
    that stand behind random permutations. Outputs of the networks are multiplied by a
    number below 1 where there are many wide ones, as in `glow`.

    On images: the multi-scale architecture of section 3.6 and 4.1. Each level but the
    last has couplings with a checkerboard mask, a squeeze, and couplings with a
    channel mask, after which half of the channels leave; the last level has one more
    checkerboard coupling instead. The networks are residual. 28x28 images have three
    levels (28, 14 and 7 pixels wide), without padding.

    Samples may lie further out than data: every coupling multiplies by up to
    `exp(max_log_scale)`, and where batches are normalised, samples take running
    averages, which lag behind the flow while it changes. Samples stay within `bounds`
    only with a `logit_margin`.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.real_nvp((2,), width=16, context_shape=(3,), seed=0)
      >>> flow.log_prob([0.0, 1.0], context=[1.0, 2.0, 3.0]).shape
      TensorShape([])

    Args:
      layers: int, vectors: number of couplings (8). Images: couplings of each kind and
        level (3).
      width: int, hidden units (256) or hidden channels (64).
      depth: int, hidden layers (2) or residual blocks (8) of each network.
      levels: int, images only: number of levels; by default as many as the size allows,
        at most 3.
      permutation: string, vectors only: `"alternating"` masks (the default) or
        `"random"` permutations.
      batch_norm: bool, whether a `BatchNorm` follows each coupling; by default on
        images only, as in the paper.
      scale: string, map from a network's output to a factor: `"exp"`, `"tanh"` or
        `"sigmoid"`, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: float, bound on the log-scale in nats, see there.

    Raises:
      ValueError: if `levels` does not divide the image's sides, naming the side.
    """
    if depth is None:
        depth = 8 if plan.is_image else 2
    if batch_norm is None:
        batch_norm = plan.is_image
    layers = layers or (3 if plan.is_image else 8)
    width = width or (64 if plan.is_image else 256)
    # A step of Adam moves a network's output in proportion to its width, and the flow's
    # in proportion to the number of networks. Eight of width 256 stand a usual rate.
    output_scale = min(1.0, 8 * 256 / (layers * width))

    def coupling(mask, name, shape=plan.event_shape):
        outputs = 2 * count_changed(mask, shape)
        if plan.is_image:
            network = ResidualConvNet(outputs, width, depth, **plan.network())
        else:
            options = {"output_scale": output_scale, **plan.network()}
            network = MLP(outputs, [width] * depth, **options)
        yield AffineCoupling(
            mask, network, scale, max_log_scale, shape, name=name, **plan.layer
        )
        if batch_norm:
            yield BatchNorm(shape, dtype=plan.dtype, name=f"{name}_norm")

    def permute():
        return Permutation("random", plan.size, seed=plan.seed())

    if not plan.is_image:
        check_unused("for images", levels=levels)
        permutation = "alternating" if permutation is None else permutation
        check_choice("permutation", permutation, ("alternating", "random"))
        before_each = permute if permutation == "random" else None
        yield from coupling_layers(plan, coupling, layers, before_each)
        return
    check_unused("for vectors", permutation=permutation)

    def block(kind, count, shape):
        both = masks_in_turn(plan, shape, by_channel=kind == "channel")
        return in_turn(lambda i: coupling(both[i], f"{kind}_{i}", shape), count, kind)

    shape, stages = plan.event_shape, []
    levels = count_levels(shape, levels, squeezes_last=False)
    for level in range(levels):
        is_last = level == levels - 1
        members = block("checkerboard", layers + is_last, shape)
        if not is_last:
            squeeze, shape = squeezed(shape)
            members += [squeeze, *block("channel", layers, shape)]
        stages.append(plan.chain(members, f"level_{level}"))
        shape = (*shape[:2], shape[2] // 2)
    yield MultiScale(stages, plan.event_shape, **plan.layer)
