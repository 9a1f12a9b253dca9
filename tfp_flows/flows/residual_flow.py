"""Contractive residual flows (Chen et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.bijectors import ActNorm, ResidualFlow, Squeeze
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    check_counts,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.flows.real_nvp import count_levels
from tfp_flows.networks import LipschitzConvNet, LipschitzMLP

tfb = tfp.bijectors

__all__ = ["residual_flow"]


@ready
def residual_flow(
    event_shape: Sequence[int],
    *,
    blocks: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    levels: int | None = None,
    coefficient: float = 0.97,
    activation: str = "lipswish",
    log_det: str = "auto",
    terms: int | None = None,
    probes: int = 1,
    evaluation_terms: int = 20,
    actnorm: bool = True,
    base: str | Mapping[str, Any] = "normal",
    bounds: Sequence[float] | None = None,
    alpha: float | None = None,
    normalize: bool = False,
    context_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    context_encoder: keras.layers.Layer | None = None,
    recompute_gradients: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> Flow:
    """Residual blocks that can be inverted because they are contractions.

    Behrmann et al. 2019, "Invertible Residual Networks", and Chen et al. 2019,
    "Residual Flows for Invertible Generative Modeling". No part of the data is kept
    from being changed, as in a coupling. Density is the explicit direction; a sample
    takes a fixed-point iteration in each block.

    On images: levels of blocks with a squeeze between them, as in Chen et al. 2019,
    appendix E (without the factoring out that the paper leaves optional). The noise has
    the shape of the last level, `(H', W', C')`, so that `encode` gives feature maps.
    28x28 images have three levels (28, 14 and 7 pixels wide).

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      blocks: number of residual blocks (10), on images in each level (16).
      width: hidden units (128) or hidden channels (512) of each network.
      depth: hidden layers of each network: 3 on vectors; 2 on images, the first a 3x3
        convolution and the others 1x1.
      levels: images only: number of levels; by default as many as the size allows, at
        most 3.
      coefficient: bound on each network's Lipschitz constant, below 1.
      activation: `"lipswish"`, `"elu"` or `"sine"`, see
        `tfp_flows.networks.LipschitzNetwork`.
      log_det: `"auto"`, `"exact"`, `"series"` or `"roulette"`, see
        `tfp_flows.bijectors.ResidualFlow`, as for the next three.
      terms: terms of the series that are always computed in training.
      probes: vectors for each estimate of a trace.
      evaluation_terms: terms of the series when not training.
      actnorm: whether an `ActNorm`, set by the first batch, stands before each block
        and after the last.
      base: distribution of the noise, see `tfp_flows.flows.real_nvp`.
      bounds: `(low, high)` of the data, scaled to [-0.5, 0.5]; for dequantised 8-bit
        pixels `(0, 256)`.
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first: each feature (of images,
        each channel) is standardised by the first batch. Not with `bounds`.
      context_shape: shape of one context, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow.
      recompute_gradients: whether gradients compute activations again instead of
        keeping them, all but the input of each layer. See `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given. If the
      log-determinant is estimated, `distributions.log_prob_and_standard_error` says how
      far off they may be.

    Raises:
      ValueError: if `levels` does not divide the image's sides, naming the side; on
        `blocks` or `depth` below 1, or an argument that bijector or network refuse.
    """
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    next_seed = layer_seeds(seed)
    is_image = len(event_shape) == 3
    if levels is not None and not is_image:
        raise ValueError("levels is for images; event_shape is a vector's.")
    blocks = (16 if is_image else 10) if blocks is None else blocks
    depth = (2 if is_image else 3) if depth is None else depth
    check_counts(blocks=blocks, depth=depth)

    def network(channels):
        options = {
            "coefficient": coefficient,
            "activation": activation,
            "seed": next_seed(),
            "dtype": dtype,
        }
        if is_image:
            kernels = (3, *[1] * (depth - 1))
            return LipschitzConvNet(channels, width or 512, kernels, **options)
        return LipschitzMLP(channels, [width or 128] * depth, **options)

    members = preprocess(event_shape, bounds, alpha, normalize, center=0.5, dtype=dtype)
    shape = tuple(event_shape)
    count = count_levels(shape, levels, squeezes_last=False) if is_image else 1
    for level in range(count):
        if level > 0:
            members.append(tfb.Invert(Squeeze(2)))
            height, columns, channels = shape
            shape = (height // 2, columns // 2, 4 * channels)
        for i in range(blocks):
            name = f"{level}_{i}" if is_image else str(i)
            if actnorm:
                members.append(ActNorm(shape, dtype=dtype, name=f"actnorm_{name}"))
            block = ResidualFlow(
                network(shape[-1]),
                shape,
                log_det=log_det,
                terms=terms,
                probes=probes,
                evaluation_terms=evaluation_terms,
                context_shape=context,
                seed=next_seed(),
                dtype=dtype,
                name=f"block_{name}",
            )
            members.append(tfb.Invert(block))
    if actnorm:
        members.append(ActNorm(shape, dtype=dtype, name="actnorm_last"))
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "residual_flow",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
