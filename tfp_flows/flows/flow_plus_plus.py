"""Flow++ (Ho et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from tfp_flows.bijectors import ActNorm
from tfp_flows.core.arguments import check_integers
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import fast_density, linear, usual_linear
from tfp_flows.ready.levels import check_sides, squeezed
from tfp_flows.ready.mixture_coupling import bounded_mixture, mixture_coupling
from tfp_flows.ready.stacks import coupling_layers

__all__ = ["flow_plus_plus"]


@ready(
    takes=("wavelets", "dropout", "context_mode", "conditioner_dtype"),
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
    those of their 32x32 models, which have a `dropout` of 0.2 on CIFAR-10. On vectors:
    couplings whose masks take turns, by residual networks.

    A rare sample goes far: beyond all components of a mixture, the widest alone counts,
    however small its weight, and the networks of the next couplings have seen nothing
    like the result. Widths are bounded by e deviations of the data, wider than they are
    where data lie; samples stay within `bounds` only with a `logit_margin`.

    The activation normalisation is set from data: by `FlowModel.fit`, or by
    `tfp_flows.training.initialize`.

    Facts:
      suits: the best likelihoods of images by couplings.
      density: one pass.
      sample: one pass, and a root of each entry.
      inverse: numerical; closed form from data to noise.
      data: vectors of two or more features; images of even sides from 4x4.
      context: joined to the networks' input, or FiLM.

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
      heads: int, images: heads of the self-attention (4), which divide `width`, or 0.
    """
    shape = plan.event_shape
    if plan.is_image:
        check_sides(plan, plan.name, divisible_by=2, at_least=4)
    counts = check_integers("layers", layers, 3 if plan.is_image else 1)
    mixture = fast_density(bounded_mixture(components))
    network = {"width": width, "depth": depth, "heads": heads, "layers": sum(counts)}

    def coupling(mask, shape, name):
        yield ActNorm(shape, dtype=plan.dtype, name=f"{name}_actnorm")
        yield from linear(plan, shape, usual_linear(shape), f"{name}_linear")
        yield mixture_coupling(plan, mask, shape, mixture, name, **network)

    yield from coupling_layers(plan, coupling, counts[0], shape, name="coupling_0")
    if plan.is_image:
        squeeze, shape = squeezed(plan, shape)
        yield squeeze
        for i, order in ((1, "channel"), (2, "alternating")):
            name = f"coupling_{i}"
            yield from coupling_layers(plan, coupling, counts[i], shape, order, name)
