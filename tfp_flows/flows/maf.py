"""MAF: a masked autoregressive flow (Papamakarios et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.bijectors import BatchNorm, MaskedAutoregressive
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    check_counts,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import MADE
from tfp_flows.transformers import Affine, Transformer

tfb = tfp.bijectors

__all__ = ["maf"]


@ready
def maf(
    event_shape: Sequence[int],
    *,
    transforms: int = 5,
    width: int = 256,
    depth: int = 2,
    residual: bool = False,
    order: str = "reverse",
    batch_norm: bool = False,
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
    recompute_gradients: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> Flow:
    """Affine autoregressive transforms with a fast density.

    Papamakarios et al. 2017, "Masked Autoregressive Flow for Density Estimation". A
    density takes one pass through each network, a sample about one pass spread over
    one step for each entry. Images are flattened.

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      transforms: number of autoregressive transforms.
      width: units of each hidden layer.
      depth: hidden layers of each network, or residual blocks.
      residual: whether the networks are residual, see `tfp_flows.networks.MADE`.
      order: `"reverse"` (every other transform goes through the entries backwards) or
        `"random"`.
      batch_norm: whether a `BatchNorm` follows each transform, as in the paper.
      scale: scale map, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: bound on the log-scale in nats, see there.
      base: distribution of the noise, see `tfp_flows.flows.real_nvp`.
      bounds: `(low, high)` of the data; they are scaled to [-0.5, 0.5].
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first. Not with `bounds`.
      context_shape: shape of one context, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow.
      context_mode: how networks take the context, `"concat"` or `"film"`.
      recompute_gradients: whether gradients compute activations again instead of
        keeping them, all but the input of each layer. See `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights and orders.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.

    Raises:
      ValueError: if `transforms` or `depth` is not positive, or on another `order`.
    """
    next_seed = layer_seeds(seed)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    members = preprocess(
        event_shape, bounds, alpha, normalize, 0.5, dtype, flatten=True
    )
    members += autoregressive_layers(
        MaskedAutoregressive,
        Affine(scale, max_log_scale),
        math.prod(event_shape),
        transforms=transforms,
        order=order,
        batch_norm=batch_norm,
        context=context,
        next_seed=next_seed,
        dtype=dtype,
        hidden=[width] * depth,
        residual=residual,
        context_mode=context_mode,
    )
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "maf",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )


def autoregressive_layers(
    bijector: Callable[..., tfb.Bijector],
    transformer: Transformer,
    size: int,
    *,
    transforms: int,
    order: str,
    batch_norm: bool,
    context: tuple[int, ...] | None,
    next_seed: Callable[[], int],
    dtype: Any,
    hidden: Sequence[int],
    **network: Any,
) -> list[tfb.Bijector]:
    """Autoregressive transforms whose orders differ."""
    check_counts(transforms=transforms, depth=len(hidden))
    if order not in ("reverse", "random"):
        raise ValueError(f'order must be "reverse" or "random", got {order!r}.')
    layers = []
    for i in range(transforms):
        made = MADE(
            size,
            transformer.num_parameters,
            hidden,
            order=order if order == "random" else ("natural", "reverse")[i % 2],
            seed=next_seed(),
            dtype=dtype,
            **network,
        )
        layers.append(
            bijector(
                made,
                transformer,
                context_shape=context,
                dtype=dtype,
                name=f"autoregressive_{i}",
            )
        )
        if batch_norm:
            layers.append(BatchNorm([size], dtype=dtype, name=f"batch_norm_{i}"))
    return layers
