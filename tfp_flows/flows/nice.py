"""NICE (Dinh et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows import masks
from tfp_flows.bijectors import AdditiveCoupling, Permutation, Scaling
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    network_dtype,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import MLP

tfb = tfp.bijectors

__all__ = ["nice"]


@ready
def nice(
    event_shape: Sequence[int],
    *,
    couplings: int = 4,
    hidden_layers: int = 5,
    width: int = 1000,
    partition: str = "alternating",
    base: str | Mapping[str, Any] = "logistic",
    bounds: Sequence[float] | None = None,
    alpha: float | None = None,
    normalize: bool = False,
    context_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    context_encoder: keras.layers.Layer | None = None,
    conditioner_dtype: str | None = None,
    recompute_gradients: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> Flow:
    """Additive couplings and one learned scaling.

    The defaults are the network for MNIST of Dinh et al. 2014, "NICE: Non-linear
    Independent Components Estimation", section 5.1: four additive couplings, each
    with five hidden layers of 1000 rectified linear units, the even and the odd
    dimensions taking turns, a diagonal scaling, and a standard logistic prior. Images
    are flattened; 28x28 needs no padding. The scaling is set from the first batch, by
    `FlowModel.fit` or `tfp_flows.training.initialize`; its factor lets it move 30 times
    as fast as the networks, which makes a difference of thousands of steps.

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      couplings: number of additive couplings.
      hidden_layers: hidden layers of each network.
      width: units of each hidden layer.
      partition: `"alternating"` (even and odd dimensions take turns) or `"reverse"`
        (the dimensions are reversed before each coupling, whose first half moves the
        second).
      base: `"normal"`, `"logistic"`, `"diagonal"` (learned mean and deviation),
        `"student_t"` (heavy tails), `"mixture"` (of Gaussians), `"resampled"` (a
        network rejects samples) or `"class_conditional"` (a Gaussian for each of
        `num_classes`); or a mapping with that `"name"` and arguments of the base, such
        as `{"name": "mixture", "components": 20}`, see `tfp_flows.distributions`.
      bounds: `(low, high)` of the data; they are scaled to [0, 1]. For dequantised
        8-bit pixels `(0, 256)`.
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first: each feature (of images,
        each channel) is standardised by the first batch. Not with `bounds`.
      context_shape: shape of one context, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow: a convolutional network for images, an
        `Embedding` for integer labels (`context_shape=()`).
      conditioner_dtype: `"bfloat16"` or `"float16"` for networks that compute in half
        precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: whether gradients rebuild activations instead of keeping
        them: memory does not grow with depth, a step takes about a third longer. See
        `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.
    """
    size = math.prod(event_shape)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    if partition not in ("alternating", "reverse"):
        raise ValueError(
            f'partition must be "alternating" or "reverse", got {partition!r}.'
        )
    next_seed = layer_seeds(seed)
    policy = network_dtype(dtype, conditioner_dtype)
    members = preprocess(
        event_shape, bounds, alpha, normalize, 0.0, dtype, flatten=True
    )
    for i in range(couplings):
        if partition == "reverse":
            members.append(Permutation("reverse", size, name=f"reverse_{i}"))
            mask = masks.half(size)
        else:
            mask = masks.alternating(size)
            mask = mask if i % 2 == 0 else ~mask
        network = MLP(
            int((~mask).sum()), [width] * hidden_layers, seed=next_seed(), dtype=policy
        )
        members.append(
            AdditiveCoupling(
                mask, network, context_shape=context, dtype=dtype, name=f"coupling_{i}"
            )
        )
    members.append(Scaling([size], from_data=True, factor=30.0, dtype=dtype))
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "nice",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
