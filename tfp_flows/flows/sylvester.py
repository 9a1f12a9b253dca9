"""A Sylvester flow (van den Berg et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfp_flows.bijectors import Permutation, Sylvester
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.flows.planar import lemma_layers

__all__ = ["sylvester"]


@ready
def sylvester(
    event_shape: Sequence[int],
    *,
    layers: int = 4,
    columns: int | None = None,
    form: str = "orthogonal",
    reflections: int | None = None,
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
    """Sylvester layers: planar ones with several hidden units.

    Van den Berg et al. 2018, "Sylvester Normalizing Flows for Variational Inference",
    with four layers as there. With a context, each example has parameters of its own
    (amortised inference). Between triangular layers the dimensions are reversed.

    Args:
      event_shape: `(D,)` or `(H, W, C)`; images are flattened.
      layers: number of Sylvester layers.
      columns: hidden units of each, at most D; by default D, but no more than 32.
        `"triangular"` has D.
      form: `"orthogonal"`, `"householder"` or `"triangular"`, see
        `tfp_flows.bijectors.Sylvester`.
      reflections: number of reflections of `"householder"`, see there.
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
      ValueError: on another `direction`, `form` or `activation`, or `columns`
        or `reflections` out of range.
    """
    next_seed = layer_seeds(seed)
    size = math.prod(event_shape)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    members = preprocess(
        event_shape, bounds, alpha, normalize, 0.5, dtype, flatten=True
    )
    if columns is None and form != "triangular":
        columns = min(size, 32)
    shape = {"columns": columns, "form": form, "reflections": reflections}
    stack = lemma_layers(
        Sylvester,
        Sylvester.num_parameters(size, **shape),
        layers,
        direction,
        context,
        [width] * depth,
        next_seed,
        size=size,
        activation=activation,
        dtype=dtype,
        name="sylvester",
        **shape,
    )
    for i, layer in enumerate(stack):
        if i and form == "triangular":
            members.append(Permutation("reverse", size, name=f"reverse_{i}"))
        members.append(layer)
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "sylvester",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
