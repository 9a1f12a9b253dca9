"""A radial flow (Rezende & Mohamed 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfp_flows.bijectors import Radial
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.flows.planar import lemma_layers

__all__ = ["radial"]


@ready
def radial(
    event_shape: Sequence[int],
    *,
    layers: int = 16,
    direction: str = "density",
    width: int = 64,
    depth: int = 2,
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
    """Radial layers, each of which moves space towards a point or away from it.

    Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows", section
    4.1. With a context, each example has parameters of its own (amortised inference).
    Both directions are in closed form.

    Args:
      event_shape: `(D,)` or `(H, W, C)`; images are flattened.
      layers: number of radial layers.
      direction: which way is the paper's formula: `"density"` (data to noise, to fit
        data) or `"sampling"` (noise to data, for a variational posterior).
      width: units of each hidden layer of the networks that compute the parameters
        from a context, one for each layer of the flow; unused without a context.
      depth: hidden layers of these networks.
      base: distribution of the noise, see `tfp_flows.flows.real_nvp`.
      bounds: `(low, high)` of the data; they are scaled to [-0.5, 0.5].
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first. Not with `bounds`.
      context_shape: shape of one context `(C,)`, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow.
      recompute_gradients: whether gradients compute activations again instead of
        keeping them, all but the input of each layer. See `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.

    Raises:
      ValueError: on another `direction`.
    """
    next_seed = layer_seeds(seed)
    size = math.prod(event_shape)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    members = preprocess(
        event_shape, bounds, alpha, normalize, 0.5, dtype, flatten=True
    )
    members += lemma_layers(
        Radial,
        Radial.num_parameters(size),
        layers,
        direction,
        context,
        [width] * depth,
        next_seed,
        size=size,
        dtype=dtype,
        name="radial",
    )
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "radial",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
