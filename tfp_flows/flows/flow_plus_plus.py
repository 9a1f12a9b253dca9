"""Flow++ (Ho et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from tfp_flows.bijectors import PLU, ActNorm, InvertibleConv1x1, Permutation
from tfp_flows.core.arguments import check_integer
from tfp_flows.flows.layers import (
    LARGEST_MATRIX,
    check_dropout,
    check_sides,
    linear,
    squeezed,
)
from tfp_flows.ready import Bijectors, Plan, couplings_in_turn, ready
from tfp_flows.ready.mixture_coupling import bounded_mixture, mixture_coupling
from tfp_flows.transformers import Inverted

__all__ = ["flow_plus_plus"]


@ready(
    takes=("context_mode", "conditioner_dtype"),
    at_least={"depth": 0, "heads": 0},
    vectors={"layers": 8, "width": 256, "depth": 2},
    images={"layers": [4, 2, 3], "width": 96, "depth": 10, "heads": 4},
)
def flow_plus_plus(
    plan: Plan,
    *,
    layers: int | Sequence[int] | None = None,
    components: int = 32,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    dropout: float = 0.0,
) -> Bijectors:
    """Couplings by mixtures of logistics, attention, and learned dequantisation.

    Ho et al. 2019, "Flow++: Improving Flow-Based Generative Models with Variational
    Dequantization and Architecture Design". Each coupling stands behind an activation
    normalisation and a linear layer (a permutation, of more than 256 features), and
    moves an entry by the cumulative distribution function of a mixture of logistics
    (equations 7 and 8). The learned dequantisation of section 3.1 is
    `dequantize="variational"`.

    On images, of even sides from 4: couplings with a checkerboard mask, a squeeze,
    couplings with a channel mask and again with a checkerboard, by networks of gated
    residual blocks with self-attention. Nothing leaves on the way. The defaults are
    those of their 32x32 models. On vectors: couplings whose masks take turns, by
    residual networks.

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
      dropout: float, fraction of hidden activations left out in training (0.2 on
        CIFAR-10 in the paper).
    """
    check_dropout(plan, dropout)
    mixture = bounded_mixture(components)
    matrix = InvertibleConv1x1 if plan.is_image else PLU
    network = (width, depth, heads)

    def coupling(mask, shape, name):
        yield ActNorm(shape, dtype=plan.dtype, name=f"actnorm_{name}")
        if not plan.is_image and plan.size > LARGEST_MATRIX:
            yield Permutation("random", plan.size, seed=plan.seed())
        elif shape[-1] > 1:
            yield linear(plan, matrix, shape, name=f"linear_{name}")
        # Densities take the closed form, samples find a root.
        inverted = Inverted(mixture)
        yield mixture_coupling(
            plan,
            mask,
            shape,
            inverted,
            *network,
            f"coupling_{name}",
            sum(counts),
            dropout,
        )

    def block(shape, prefix, count, by_channel=False):
        return couplings_in_turn(
            plan, coupling, count, shape, by_channel, prefix=prefix
        )

    shape, counts = plan.event_shape, _counts(plan, layers)
    yield from block(shape, "0_" if plan.is_image else "", counts[0])
    if plan.is_image:
        squeeze, shape = squeezed(shape)
        yield squeeze
        yield from block(shape, "1_", counts[1], by_channel=True)
        yield from block(shape, "2_", counts[2])


def _counts(plan, layers):
    """Numbers of couplings: the first on vectors, three on images."""
    if plan.is_image:
        check_sides(plan, plan.name, divisible_by=2, at_least=4)
    if not (plan.is_image and isinstance(layers, list)):
        return [check_integer("layers", layers)] * (3 if plan.is_image else 1)
    if len(layers) != 3 or not any(layers):
        raise ValueError(
            "layers must be three numbers of couplings for images (checkerboard, "
            f"channels, checkerboard), or one for each, got {layers}."
        )
    return [check_integer(f"layers[{i}]", n, 0) for i, n in enumerate(layers)]
