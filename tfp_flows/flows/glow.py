"""Glow (Kingma & Dhariwal 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows import masks
from tfp_flows.bijectors import (
    ActNorm,
    AffineCoupling,
    Chain,
    InvertibleConv1x1,
    MultiScale,
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
from tfp_flows.flows.real_nvp import count_levels
from tfp_flows.networks import ConvNet

tfb = tfp.bijectors

__all__ = ["glow"]


@ready
def glow(
    event_shape: Sequence[int],
    *,
    levels: int | None = None,
    steps: int = 32,
    width: int = 512,
    conv1x1: str = "plu",
    scale: str = "sigmoid",
    max_log_scale: float | None = 3.0,
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
    """Levels of squeeze, steps of flow, and a split with a learned prior.

    Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions",
    figure 2 and section 3: each level squeezes, applies `steps` times activation
    normalisation, an invertible 1x1 convolution and an affine coupling, and lets half
    of the channels leave. The defaults are those of their 32x32 models. 28x28 images
    have two levels (14 and 7 pixels wide), without padding.

    The activation normalisation is set from the first batch: by `FlowModel.fit`, or
    by `tfp_flows.training.initialize`.

    Args:
      event_shape: `(H, W, C)`.
      levels: number of levels; by default as many as the size allows, at most 3.
      steps: steps of flow in each level.
      width: hidden channels of the networks.
      conv1x1: parametrisation of the 1x1 convolutions, `"plu"` or `"dense"`.
      scale: scale map, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: bound on the log-scale in nats, see there. The paper has none
        (`None`); an unbounded scale lets one sample in a hundred of a small model
        overflow.
      base: `"normal"`, `"logistic"`, `"diagonal"` (learned mean and deviation),
        `"student_t"` (heavy tails), `"mixture"` (of Gaussians), `"resampled"` (a
        network rejects samples) or `"class_conditional"` (a Gaussian for each of
        `num_classes`); or a mapping with that `"name"` and arguments of the base, such
        as `{"name": "mixture", "components": 20}`, see `tfp_flows.distributions`.
      bounds: `(low, high)` of the data, scaled to [-0.5, 0.5]; for dequantised 8-bit
        pixels `(0, 256)`.
      alpha: if given, the logit of the scaled data with this margin is modelled.
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
      seed: integer seed of the initial weights and rotations.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.

    Raises:
      ValueError: if `event_shape` is not an image's, or `levels` does not divide its
        sides, naming the side.
    """
    if len(event_shape) != 3:
        raise ValueError(
            f"glow needs images, event_shape (H, W, C); got {event_shape}. For vectors "
            "use real_nvp."
        )
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    levels = count_levels(event_shape, levels, squeezes_last=True)
    next_seed = layer_seeds(seed)
    policy = network_dtype(dtype, conditioner_dtype)

    def network(outputs, kernels=(3, 1), mode=context_mode):
        return ConvNet(
            outputs, width, kernels, seed=next_seed(), context_mode=mode, dtype=policy
        )

    stages, priors, shape = [], [], tuple(event_shape)
    for level in range(levels):
        height, columns, channels = shape
        shape = (height // 2, columns // 2, 4 * channels)
        mask = masks.channel(shape[2])
        layers = [tfb.Invert(Squeeze(2))]
        for step in range(steps):
            layers += [
                ActNorm(shape, dtype=dtype, name=f"actnorm_{level}_{step}"),
                InvertibleConv1x1(
                    shape,
                    conv1x1,
                    seed=next_seed(),
                    dtype=dtype,
                    name=f"conv1x1_{level}_{step}",
                ),
                AffineCoupling(
                    mask,
                    network(2 * int((~mask).sum())),
                    scale=scale,
                    max_log_scale=max_log_scale,
                    event_shape=shape,
                    context_shape=context,
                    dtype=dtype,
                    name=f"coupling_{level}_{step}",
                ),
            ]
        stages.append(
            Chain(
                layers, name=f"level_{level}", recompute_gradients=recompute_gradients
            )
        )
        if level < levels - 1:
            shape = (*shape[:2], shape[2] // 2)
            # A single convolution has no hidden layer for FiLM to modulate.
            priors.append(network(2 * shape[2], kernels=(), mode="concat"))
    multiscale = MultiScale(
        stages, event_shape, priors, context_shape=context, dtype=dtype
    )
    members = [
        *preprocess(event_shape, bounds, alpha, normalize, center=0.5, dtype=dtype),
        multiscale,
    ]
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "glow",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
