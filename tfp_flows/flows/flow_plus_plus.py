"""Flow++ (Ho et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import PLU, ActNorm, InvertibleConv1x1
from tfp_flows.core.arguments import check_integer
from tfp_flows.flows.layers import squeezed
from tfp_flows.ready.building import ready
from tfp_flows.ready.mixture_coupling import mixture_coupling
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import for_a_single_number, in_turn, masks_in_turn
from tfp_flows.transformers import Inverted, LogisticMixture

__all__ = ["flow_plus_plus"]


@ready(takes=("context_mode", "conditioner_dtype"), at_least={"depth": 0, "heads": 0})
def flow_plus_plus(
    plan: Plan,
    *,
    layers: int | Sequence[int] | None = None,
    components: int = 32,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
) -> Iterator[tfb.Bijector]:
    """Couplings by mixtures of logistics, attention, and learned dequantisation.

    Ho et al. 2019, "Flow++: Improving Flow-Based Generative Models with Variational
    Dequantization and Architecture Design". Each coupling stands behind an activation
    normalisation and a linear layer, and moves an entry by the cumulative distribution
    function of a mixture of logistics (equations 7 and 8). The learned dequantisation
    of section 3.1 is `dequantize="variational"`.

    On images: couplings with a checkerboard mask, a squeeze, couplings with a channel
    mask and again with a checkerboard, by networks of gated residual blocks with
    self-attention. Nothing leaves on the way. The defaults are those of their 32x32
    models. On vectors: couplings whose masks take turns, by residual networks.

    A rare sample goes far: beyond all components of a mixture, the widest alone counts,
    however small its weight, and the networks of the next couplings have seen nothing
    like the result. Widths are bounded by e deviations of the data, wider than they are
    where data lie; samples stay within `bounds` only with a `logit_margin`.

    The activation normalisation is set from data: by `FlowModel.fit`, or by
    `tfp_flows.training.initialize`.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.flow_plus_plus(
      ...     (4,), layers=2, width=8, bounds=(0, 10), dequantize="uniform", seed=0)
      >>> flow.log_prob([0, 3, 9, 9], seed=1).shape
      TensorShape([])

    Args:
      layers: int, or three of them, vectors: number of couplings (8). Images: how many
        with a checkerboard, with a channel mask, and again with a checkerboard (4, 2,
        3); or one number for each.
      components: int, logistics in each mixture.
      width: int, hidden channels (96) or units (256) of the networks.
      depth: int, residual blocks (10 on images, 2 on vectors) of each network.
      heads: int, images only: heads of the self-attention (4), which divide `width`; 0
        for none.

    Raises:
      ValueError: if the sides of images are not even, or below 4.
    """
    if depth is None:
        depth = 10 if plan.is_image else 2

    def coupling(shape, mask, name):
        yield ActNorm(shape, dtype=plan.dtype, name=f"actnorm_{name}")
        if shape[-1] > 1:
            linear = InvertibleConv1x1 if plan.is_image else PLU
            matrix = {"seed": plan.seed(), "dtype": plan.dtype}
            yield tfb.Invert(linear(shape, name=f"linear_{name}", **matrix))
        # Densities take the closed form, samples find a root.
        # Wider components would hold no data behind the activation normalisation; but
        # a wide one of small weight throws rare samples as far as it is wide.
        mixture = LogisticMixture(
            components, max_component_log_scale=1.0, min_component_log_scale=-5.0
        )
        transformer = Inverted(mixture)
        yield mixture_coupling(
            plan, mask, shape, transformer, width, depth, heads, f"coupling_{name}"
        )

    def block(shape, name, count, by_channel=False):
        both = masks_in_turn(plan, shape, by_channel)
        return in_turn(lambda i: coupling(shape, both[i], f"{name}{i}"), count)

    shape, counts = plan.event_shape, _counts(plan, layers)
    yield from block(shape, "0_" if plan.is_image else "", counts[0])
    if plan.is_image:
        squeeze, shape = squeezed(shape)
        yield squeeze
        yield from block(shape, "1_", counts[1], by_channel=True)
        yield from block(shape, "2_", counts[2])


def _counts(plan, layers):
    """Numbers of couplings: one on vectors, three on images."""
    if not plan.is_image:
        if isinstance(layers, list):
            raise TypeError(f"layers must be an integer for vectors, got {layers}.")
        return [check_integer("layers", 8 if layers is None else layers)]
    for side, size in zip(("height", "width"), plan.event_shape, strict=False):
        if size % 2 or size < 4:
            raise ValueError(
                f"flow_plus_plus needs a {side} that is even and at least 4, got "
                f"{size}. Pad or crop the images. "
                + for_a_single_number(plan.data_shape)
            )
    if layers is None:
        return [4, 2, 3]
    if not isinstance(layers, list):
        return [check_integer("layers", layers)] * 3
    if len(layers) != 3 or not any(layers):
        raise ValueError(
            "layers must be three numbers of couplings for images (checkerboard, "
            f"channels, checkerboard), or one for each, got {layers}."
        )
    return [check_integer(f"layers[{i}]", n, 0) for i, n in enumerate(layers)]
