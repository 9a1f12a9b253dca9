"""RealNVP (Dinh et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator

from tensorflow_probability import bijectors as tfb

from tfp_flows import masks
from tfp_flows.bijectors import (
    AffineCoupling,
    BatchNorm,
    MultiScale,
    Permutation,
    Squeeze,
)
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.flows.layers import count_levels
from tfp_flows.networks import MLP, ResidualConvNet
from tfp_flows.ready.building import ready
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import count_changed, in_turn, masks_in_turn, repeat

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
    that stand behind random permutations.

    On images: the multi-scale architecture of section 3.6 and 4.1. Each level but the
    last has couplings with a checkerboard mask, a squeeze, and couplings with a
    channel mask, after which half of the channels leave; the last level has one more
    checkerboard coupling instead. The networks are residual. 28x28 images have three
    levels (28, 14 and 7 pixels wide), without padding.

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
    if batch_norm is None:
        batch_norm = plan.is_image

    def coupling(mask, shape, name):
        outputs = 2 * count_changed(mask, shape)
        if plan.is_image:
            network = ResidualConvNet(
                outputs,
                64 if width is None else width,
                8 if depth is None else depth,
                **plan.network(),
            )
        else:
            hidden = [256 if width is None else width] * (2 if depth is None else depth)
            network = MLP(outputs, hidden, **plan.network())
        yield AffineCoupling(
            mask, network, scale, max_log_scale, shape, name=name, **plan.layer
        )
        if batch_norm:
            yield BatchNorm(shape, dtype=plan.dtype, name=f"{name}_norm")

    if not plan.is_image:
        check_unused("for images", levels=levels)
        yield from _vector_layers(plan, layers, permutation, coupling)
        return
    check_unused("for vectors", permutation=permutation)
    layers = 3 if layers is None else layers

    def block(kind, count, shape):
        both = masks_in_turn(plan, shape)
        if kind == "channel":
            both = [masks.channel(shape[2]), ~masks.channel(shape[2])]
        return in_turn(lambda i: coupling(both[i], shape, f"{kind}_{i}"), count, kind)

    shape, stages = plan.event_shape, []
    count = count_levels(shape, levels, squeezes_last=False)
    for level in range(count - 1):
        members = [*block("checkerboard", layers, shape), tfb.Invert(Squeeze(2))]
        shape = (shape[0] // 2, shape[1] // 2, 4 * shape[2])
        members += block("channel", layers, shape)
        stages.append(plan.chain(members, f"level_{level}"))
        shape = (*shape[:2], shape[2] // 2)
    members = block("checkerboard", layers + 1, shape)
    stages.append(plan.chain(members, f"level_{count - 1}"))
    yield MultiScale(stages, plan.event_shape, **plan.layer)


def _vector_layers(plan, layers, permutation, coupling):
    layers = 8 if layers is None else layers
    permutation = "alternating" if permutation is None else permutation
    check_choice("permutation", permutation, ("alternating", "random"))
    both, shape = masks_in_turn(plan), plan.event_shape
    half = masks.half(plan.size)
    if permutation == "alternating":
        return in_turn(lambda i: coupling(both[i], shape, f"coupling_{i}"), layers)
    return repeat(
        lambda: [
            Permutation("random", plan.size, seed=plan.seed(), name="permutation"),
            *coupling(half, shape, "coupling"),
        ],
        layers,
    )
