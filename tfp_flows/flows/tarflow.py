"""TarFlow: autoregressive transformers over patches (Zhai et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.core.arguments import check_integers
from tfp_flows.networks import CausalTransformer
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.layers import warn_if_affine
from tfp_flows.ready.levels import check_sides, patches
from tfp_flows.ready.stacks import in_turn
from tfp_flows.transformers import Affine

__all__ = ["tarflow"]


@ready(
    takes=("scale", "max_log_scale", "dropout", "context_mode", "class_drop"),
    vectors={"depth": 2, "width": 64},
    images={"depth": 4, "width": 128},
)
def tarflow(
    plan: Plan,
    *,
    layers: int = 4,
    depth: int | Sequence[int] | None = None,
    width: int | None = None,
    heads: int | None = None,
    patch: int | None = None,
    jacobi_tolerance: float | None = None,
) -> Bijectors:
    """Affine autoregressions over patches, by causal transformers.

    Zhai et al. 2024, "Normalizing Flows are Capable Generative Models": an image is a
    row of patches, read forwards and backwards in turn, and each is shifted and scaled
    by what a `tfp_flows.networks.CausalTransformer` makes of those before it. A density
    takes one pass through each. A sample goes token by token and keeps keys and values.
    The defaults are those of their model of MNIST, but for scales, which they do not
    bound (`scale="exp"`). Vectors are rows of features, each of them a token.

    For good samples they add Gaussian noise in training, `FlowModel(flow, noise=...)`,
    which `tfp_flows.latent.denoise` takes off again; and of a flow of labels that some
    examples lack (`class_drop=0.1`) `tfp_flows.latent.guided_sample` draws samples that
    are more like their class.

    Facts:
      suits: the best likelihoods of images, on a GPU.
      density: one pass.
      sample: token by token, in all about the arithmetic of one pass.
      inverse: exact; numerical with `jacobi_tolerance`.
      data: vectors of two or more features; images whose sides `patch` divides.
      context: joined to each token, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.tarflow((4, 4, 1), layers=2, depth=1, width=8, bounds=(0, 16))
      >>> flow.sample(2, seed=0).shape
      TensorShape([2, 4, 4, 1])

    Args:
      layers: int, number of autoregressions, the transformers.
      depth: int, layers of each transformer (4; of vectors 2); or a number for each, of
        which the last one, beside the noise, may be deep where others are shallow (Gu
        et al. 2025, "STARFlow").
      width: int, size of the vectors that stand for tokens (128; of vectors 64).
      heads: int, heads of the attention, which divide `width`; by default of 64 each.
      patch: int, side of patches, which divides those of images; by default 4, and 2
        below 16 pixels. Of vectors: number of features of a token (1).
      jacobi_tolerance: float, for samples by passes over all tokens until no entry
        changes by more, see `tfp_flows.bijectors.MaskedAutoregressive`.
    """
    warn_if_affine(plan)
    size = 1 if patch is None else patch
    if plan.is_image:
        side = patch or (4 if min(plan.event_shape[:2]) >= 16 else 2)
        check_sides(plan, f"patch={side}", side)
        in_a_row, (_, _, size) = patches(plan, side)
        yield from in_a_row
    elif plan.size % size:
        raise ValueError(f"patch={patch} does not divide {plan.size} features.")
    depths, affine = check_integers("depth", depth, layers, 1), Affine(*plan.affine)

    def layer(i, depth=depths[0]):
        sizes = plan.size // size, size, 2, width, depth, heads
        order = ("natural", "reverse")[i]
        network = CausalTransformer(*sizes, order=order, **plan.network())
        options = {"jacobi_tolerance": jacobi_tolerance, "name": f"block_{i}"}
        yield MaskedAutoregressive(network, affine, **options, **plan.layer)

    if len(set(depths)) == 1:
        yield from in_turn(layer, layers)
    else:
        for i, depth in enumerate(depths):
            yield from layer(i % 2, depth)
