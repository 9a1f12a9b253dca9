"""IAF: an inverse autoregressive flow (Kingma et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfp_flows.bijectors import InverseAutoregressive
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.flows.maf import autoregressive_layers
from tfp_flows.transformers import Affine

__all__ = ["iaf"]


@ready
def iaf(
    event_shape: Sequence[int],
    *,
    transforms: int = 5,
    width: int = 256,
    depth: int = 2,
    residual: bool = False,
    order: str = "reverse",
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
    """Affine autoregressive transforms with fast samples.

    Kingma et al. 2016, "Improved Variational Inference with Inverse Autoregressive
    Flow". A sample and its density take one pass through each network, which is what a
    variational posterior needs; the density of data from elsewhere takes about one
    pass spread over one step for each entry. Images are flattened.

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      transforms: number of autoregressive transforms.
      width: units of each hidden layer.
      depth: hidden layers of each network, or residual blocks.
      residual: whether the networks are residual, see `tfp_flows.networks.MADE`.
      order: `"reverse"` (every other transform goes through the entries backwards) or
        `"random"`.
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
        InverseAutoregressive,
        Affine(scale, max_log_scale),
        math.prod(event_shape),
        transforms=transforms,
        order=order,
        batch_norm=False,
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
        "iaf",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
