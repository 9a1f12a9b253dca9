"""Jet: couplings by vision transformers (Kolesnikov et al. 2024)."""

from __future__ import annotations

import numpy as np

from tfp_flows import masks
from tfp_flows.bijectors import AffineCoupling, Permutation
from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import generator
from tfp_flows.networks import VisionTransformer
from tfp_flows.ready import Bijectors, Plan, ready
from tfp_flows.ready.levels import check_sides, patches
from tfp_flows.ready.stacks import repeat

__all__ = ["jet"]


@ready(
    shapes=(3,),
    takes=("scale", "max_log_scale", "dropout", "context_mode", "conditioner_dtype"),
    at_least={"spatial_every": 0},
)
def jet(
    plan: Plan,
    *,
    layers: int = 32,
    depth: int = 2,
    width: int = 512,
    heads: int | None = None,
    patch: int | None = None,
    spatial_every: int = 5,
) -> Bijectors:
    """Affine couplings of patches, by transformers that see all of them.

    Kolesnikov et al. 2024, "Jet: A Modern Transformer-Based Normalizing Flow": an image
    is a row of patches. Four couplings divide the entries of each patch at random; each
    fifth divides the patches: by a checkerboard, by columns, by rows, and each again
    with the halves exchanged. A `tfp_flows.networks.VisionTransformer` of the half that
    is kept shifts and scales the other one. There is nothing else: no normalisation, no
    levels, no learned mixing of channels. Densities and samples take one pass. The
    defaults are those of their smaller model of 64x64 images, whose couplings multiply
    by twice a sigmoid.

    Facts:
      suits: likelihoods of many images, on a GPU, fast both ways.
      density: one pass.
      sample: one pass.
      inverse: exact.
      data: images whose sides `2 * patch` divides.
      context: joined to each patch, or FiLM.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.jet((8, 8, 1), layers=2, depth=1, width=8, bounds=(0, 16))
      >>> flow.sample(2, seed=0).shape
      TensorShape([2, 8, 8, 1])

    Args:
      layers: int, number of couplings.
      depth: int, layers of each transformer.
      width: int, size of the vectors that stand for patches.
      heads: int, heads of the attention, which divide `width`; by default of 64 each.
      patch: int, side of patches: twice as much divides the sides of images. By default
        4 if these are 16 or more and divisible by 8, else 2.
      spatial_every: int, each so manieth coupling divides the patches; 0 for none.
    """
    shape, side = plan.event_shape, patch
    if side is None:
        side = 4 if all(n >= 16 and n % 8 == 0 for n in shape[:2]) else 2
    check_sides(plan, f"patch={side}", 2 * check_integer("patch", side))
    if side * shape[2] % 2:
        raise ValueError(
            f"patch={side} must be even for {shape[2]} channel(s): couplings halve the "
            "entries of a patch."
        )
    in_a_row, shape = patches(plan, side)
    yield from in_a_row
    draw = generator(plan.seed())
    permutations = _permutations(shape, layers, spatial_every, draw)

    def coupling():
        order = next(permutations)
        yield Permutation(order, as_variable=True, dtype=plan.dtype, name="split")
        network = VisionTransformer(
            *(shape[0] * shape[1], shape[2] // 2, 2, width, depth, heads),
            **plan.network(),
        )
        options = {**plan.layer, "name": "coupling"}
        yield AffineCoupling(masks.half(plan.size), network, *plan.affine, **options)

    yield from repeat(lambda: list(coupling()), layers)


def _permutations(shape, count, spatial_every, draw):
    """For each coupling, what puts the half that it keeps first, from noise to data."""
    entries = np.arange(np.prod(shape)).reshape(shape)
    rows, columns = np.indices(shape[:2])
    patterns = [(rows + columns) % 2, columns % 2, rows % 2]
    patterns = [kept for p in patterns for kept in (p == 0, p == 1)]
    before = entries.reshape(-1)
    for i in range(count):
        turn, rest = divmod(i + 1, spatial_every) if spatial_every else (0, 1)
        if rest:
            order = draw.permutation(shape[2])
            halves = np.split(entries[..., order], 2, -1)
        else:
            kept = patterns[(turn - 1) % len(patterns)]
            halves = entries[kept], entries[~kept]
        split = np.concatenate([half.reshape(-1) for half in halves])
        # From the order of the coupling before.
        yield np.argsort(split)[before]
        before = split
