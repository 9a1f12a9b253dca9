"""RealNVP (Dinh et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows import masks
from tfp_flows.bijectors import (
    AffineCoupling,
    BatchNorm,
    Chain,
    MultiScale,
    Permutation,
    Squeeze,
)
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    network_dtype,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import MLP, ResidualConvNet

tfb = tfp.bijectors

__all__ = ["real_nvp"]


@ready
def real_nvp(
    event_shape: Sequence[int],
    *,
    couplings: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    levels: int | None = None,
    permutation: str = "alternating",
    batch_norm: bool | None = None,
    scale: str = "tanh",
    max_log_scale: float | None = None,
    base: str | Mapping[str, Any] = "normal",
    bounds: Sequence[float] | None = None,
    alpha: float | None = None,
    normalize: bool = False,
    context_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    context_encoder: keras.layers.Layer | None = None,
    context_mode: str = "concat",
    conditioner_dtype: str | None = None,
    recompute_gradients: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> Flow:
    """Affine couplings, on vectors or on images.

    Dinh et al. 2017, "Density estimation using Real NVP".

    On vectors: affine couplings with small dense networks whose masks take turns, or
    that stand behind random permutations.

    On images: the multi-scale architecture of section 3.6 and 4.1. Each level but the
    last has couplings with a checkerboard mask, a squeeze, and couplings with a
    channel mask, after which half of the channels leave; the last level has one more
    checkerboard coupling instead. The networks are residual. 28x28 images have three
    levels (28, 14 and 7 pixels wide), without padding.

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      couplings: vectors: number of couplings (8). Images: couplings of each kind and
        level (3).
      width: hidden units (256) or hidden channels (64).
      depth: hidden layers (2) or residual blocks (8) of each network.
      levels: images only: number of levels; by default as many as the size allows, at
        most 3.
      permutation: vectors only: `"alternating"` masks or `"random"` permutations.
      batch_norm: whether a `BatchNorm` follows each coupling; by default on images
        only, as in the paper.
      scale: scale map, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: bound on the log-scale in nats, see there.
      base: `"normal"`, `"logistic"`, `"diagonal"` (learned mean and deviation),
        `"student_t"` (heavy tails), `"mixture"` (of Gaussians), `"resampled"` (a
        network rejects samples) or `"class_conditional"` (a Gaussian for each of
        `num_classes`); or a mapping with that `"name"` and arguments of the base, such
        as `{"name": "mixture", "components": 20}`, see `tfp_flows.distributions`.
      bounds: `(low, high)` of the data, scaled to [-0.5, 0.5]; for dequantised 8-bit
        pixels `(0, 256)`.
      alpha: if given, the logit of the scaled data with this margin is modelled
        (0.05 in the paper).
      normalize: whether an `ActNorm` meets the data first: each feature (of images,
        each channel) is standardised by the first batch. Not with `bounds`.
      context_shape: shape of one context, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow: a convolutional network for images, an
        `Embedding` for integer labels (`context_shape=()`).
      context_mode: how networks take the context, `"concat"` or `"film"`.
      conditioner_dtype: `"bfloat16"` or `"float16"` for networks that compute in half
        precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: whether gradients rebuild activations instead of keeping
        them: memory does not grow with depth, a step takes about a third longer. See
        `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights and permutations.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.

    Raises:
      ValueError: if `levels` does not divide the image's sides, naming the side.
    """
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    next_seed = layer_seeds(seed)
    options = {
        "context_mode": context_mode,
        "dtype": network_dtype(dtype, conditioner_dtype),
    }
    coupling = {
        "scale": scale,
        "max_log_scale": max_log_scale,
        "context_shape": context,
        "dtype": dtype,
    }
    members = preprocess(event_shape, bounds, alpha, normalize, center=0.5, dtype=dtype)
    if len(event_shape) == 1:
        if levels is not None:
            raise ValueError("levels is for images; event_shape is a vector's.")
        if permutation not in ("alternating", "random"):
            raise ValueError(
                f'permutation must be "alternating" or "random", got {permutation!r}.'
            )
        hidden = [width or 256] * (2 if depth is None else depth)
        members += _vector_layers(
            event_shape[0],
            8 if couplings is None else couplings,
            permutation,
            bool(batch_norm),
            lambda n: MLP(n, hidden, seed=next_seed(), **options),
            coupling,
            next_seed,
        )
    else:
        members.append(
            _image_layers(
                event_shape,
                count_levels(event_shape, levels, squeezes_last=False),
                3 if couplings is None else couplings,
                batch_norm is not False,
                lambda n: ResidualConvNet(
                    n,
                    width or 64,
                    8 if depth is None else depth,
                    seed=next_seed(),
                    **options,
                ),
                coupling,
                recompute_gradients,
            )
        )
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "real_nvp",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )


def _vector_layers(
    size, couplings, permutation, batch_norm, network, options, next_seed
):
    layers = []
    for i in range(couplings):
        if permutation == "random":
            layers.append(
                Permutation("random", size, seed=next_seed(), name=f"permutation_{i}")
            )
            mask = masks.half(size)
        else:
            mask = masks.alternating(size)
            mask = mask if i % 2 == 0 else ~mask
        layers.append(
            AffineCoupling(
                mask, network(2 * int((~mask).sum())), name=f"coupling_{i}", **options
            )
        )
        if batch_norm:
            layers.append(
                BatchNorm([size], dtype=options["dtype"], name=f"batch_norm_{i}")
            )
    return layers


def _image_layers(
    event_shape, levels, couplings, batch_norm, network, options, recompute_gradients
):
    def block(kind, count, shape, level):
        height, width, channels = shape
        layers = []
        for i in range(count):
            if kind == "checkerboard":
                mask, changed = masks.checkerboard(height, width), channels
            else:
                mask, changed = masks.channel(channels), None
            mask = mask if i % 2 == 0 else ~mask
            if changed is None:
                changed = int((~mask).sum())
            layers.append(
                AffineCoupling(
                    mask,
                    network(2 * changed),
                    event_shape=shape,
                    name=f"{kind}_{level}_{i}",
                    **options,
                )
            )
            if batch_norm:
                layers.append(
                    BatchNorm(
                        shape, dtype=options["dtype"], name=f"{kind}_norm_{level}_{i}"
                    )
                )
        return layers

    stages, priors, shape = [], [], tuple(event_shape)
    for level in range(levels - 1):
        layers = block("checkerboard", couplings, shape, level)
        height, width, channels = shape
        shape = (height // 2, width // 2, 4 * channels)
        layers.append(tfb.Invert(Squeeze(2)))
        layers += block("channel", couplings, shape, level)
        stages.append(
            Chain(
                layers, name=f"level_{level}", recompute_gradients=recompute_gradients
            )
        )
        priors.append(None)
        shape = (*shape[:2], shape[2] // 2)
    last = block("checkerboard", couplings + 1, shape, levels - 1)
    stages.append(
        Chain(last, name=f"level_{levels - 1}", recompute_gradients=recompute_gradients)
    )
    return MultiScale(
        stages,
        event_shape,
        priors,
        context_shape=options["context_shape"],
        dtype=options["dtype"],
    )


def count_levels(event_shape, levels: int | None, squeezes_last: bool) -> int:
    """The number of levels, checked against (or chosen by) an image's sides.

    Args:
      event_shape: `(H, W, C)`.
      levels: the number wanted, or `None` for as many as the sides allow, at most 3.
      squeezes_last: whether the last level squeezes too.
    """
    height, width, _ = event_shape

    def fits(levels):
        by = 2 ** (levels if squeezes_last else levels - 1)
        # A last level of one pixel would leave its couplings nothing to look at.
        return height % by == 0 and width % by == 0 and min(height, width) // by > 1

    if levels is None:
        levels = max((n for n in (1, 2, 3) if fits(n)), default=0)
        if not levels:
            raise ValueError(
                f"images of {height}x{width} cannot be squeezed: height and width must "
                "be divisible by 2. Pad or crop them."
            )
        return levels
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}.")
    by = 2 ** (levels if squeezes_last else levels - 1)
    for side, size in (("height", height), ("width", width)):
        if size % by:
            raise ValueError(
                f"levels={levels} needs a {side} divisible by {by}, got {size}. Use "
                "fewer levels, or pad or crop the images."
            )
    return levels
