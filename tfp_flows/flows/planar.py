"""A planar flow (Rezende & Mohamed 2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.bijectors import Planar
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    check_counts,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import MLP

tfb = tfp.bijectors

__all__ = ["planar"]


@ready
def planar(
    event_shape: Sequence[int],
    *,
    layers: int = 16,
    activation: str = "tanh",
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
    """Planar layers, each of which bends space along one direction.

    Rezende & Mohamed 2015, "Variational Inference with Normalizing Flows", section
    4.1. With a context, each example has parameters of its own (amortised inference).

    Args:
      event_shape: `(D,)` or `(H, W, C)`; images are flattened.
      layers: number of planar layers.
      activation: `"tanh"` or `"leaky_relu"`.
      direction: which way is explicit and fast, the other being found by an iteration:
        `"density"` (data to noise, to fit data) or `"sampling"` (noise to data, for a
        variational posterior).
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
      ValueError: on another `direction` or `activation`.
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
        Planar,
        Planar.num_parameters(size),
        layers,
        direction,
        context,
        [width] * depth,
        next_seed,
        size=size,
        activation=activation,
        dtype=dtype,
        name="planar",
    )
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "planar",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )


def lemma_layers(
    bijector: Callable[..., tfb.Bijector],
    num_parameters: int,
    layers: int,
    direction: str,
    context: tuple[int, ...] | None,
    hidden: Sequence[int],
    next_seed: Callable[[], int],
    name: str,
    dtype: Any,
    **options: Any,
) -> list[tfb.Bijector]:
    """Layers whose parameters a network computes, if there is a context."""
    check_counts(layers=layers)
    if direction not in ("density", "sampling"):
        raise ValueError(
            f'direction must be "density" or "sampling", got {direction!r}.'
        )
    if context is not None and len(context) != 1:
        raise ValueError(
            f"context_shape must be that of a vector, (C,), got {context}; let a "
            "context_encoder make one."
        )
    members = []
    for i in range(layers):
        network = (
            None
            if context is None
            else MLP(num_parameters, hidden, seed=next_seed(), dtype=dtype)
        )
        layer = bijector(
            conditioner=network,
            context_shape=context,
            seed=next_seed(),
            dtype=dtype,
            name=f"{name}_{i}",
            **options,
        )
        members.append(tfb.Invert(layer) if direction == "density" else layer)
    return members
