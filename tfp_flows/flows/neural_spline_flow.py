"""Neural spline flows (Durkan et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfp_flows import masks
from tfp_flows.bijectors import (
    PLU,
    QR,
    ActNorm,
    Coupling,
    MaskedAutoregressive,
    Permutation,
)
from tfp_flows.distributions import Flow
from tfp_flows.flows.building import (
    assemble,
    check_counts,
    layer_seeds,
    network_dtype,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import MADE, ResidualMLP
from tfp_flows.transformers import RationalQuadratic

__all__ = ["neural_spline_flow"]


@ready
def neural_spline_flow(
    event_shape: Sequence[int],
    *,
    kind: str = "coupling",
    transforms: int = 5,
    bins: int = 8,
    bound: float = 3.0,
    width: int = 128,
    depth: int = 2,
    linear: str = "plu",
    actnorm: bool = False,
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
    """Rational-quadratic splines, by couplings or autoregressive.

    Durkan et al. 2019, "Neural Spline Flows", section 4: a linear layer, then a spline
    of half of the entries (or of each entry) whose bins residual networks compute from
    the others (from those before it). Outside `[-bound, bound]` the splines are the
    identity, so data should be of that size: `normalize=True` sees to it. Images are
    flattened.

    Args:
      event_shape: `(D,)` or `(H, W, C)`. A single entry needs `"autoregressive"`.
      kind: `"coupling"`, fast in both directions, or `"autoregressive"`, the more
        flexible one, which samples entry by entry.
      transforms: number of spline transforms.
      bins: pieces of each spline.
      bound: the splines act on `[-bound, bound]`.
      width: units of each hidden layer.
      depth: residual blocks of each network.
      linear: what stands before each transform: `"plu"` or `"qr"`, a learned matrix
        that starts as a random rotation, or `"permutation"`, a random one (before
        every other coupling, so that two change every entry).
      actnorm: whether an `ActNorm` stands before that, which keeps the data of each
        spline within its bound and is set from the first batch.
      base: distribution of the noise, see `tfp_flows.flows.real_nvp`.
      bounds: `(low, high)` of the data; they are scaled to [-0.5, 0.5].
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first. Not with `bounds`.
      context_shape: shape of one context, or `None`.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow.
      context_mode: how networks take the context, `"concat"` or `"film"`.
      conditioner_dtype: `"bfloat16"` or `"float16"` for networks that compute in half
        precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: whether gradients rebuild activations instead of keeping
        them: memory does not grow with depth, a step takes about a third longer. See
        `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights, rotations and orders.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`; densities are those of the data as given.

    Raises:
      ValueError: if `transforms` or `depth` is not positive, on another `kind` or
        `linear`, on bins that do not fit (see `RationalQuadratic`), or on half
        precision in an autoregression.
    """
    check_counts(transforms=transforms, depth=depth)
    if kind not in ("coupling", "autoregressive"):
        raise ValueError(f'kind must be "coupling" or "autoregressive", got {kind!r}.')
    if linear not in ("plu", "qr", "permutation"):
        raise ValueError(
            f'linear must be "plu", "qr" or "permutation", got {linear!r}.'
        )
    policy = network_dtype(dtype, conditioner_dtype)
    if kind == "autoregressive":
        if conditioner_dtype not in (None, dtype):
            raise ValueError(
                f'conditioner_dtype={conditioner_dtype!r} needs kind="coupling": in '
                "half precision the two directions of an autoregression, which compute "
                "the same in another order, are no inverses of each other."
            )
        policy = dtype
    next_seed = layer_seeds(seed)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    size = math.prod(event_shape)
    spline = RationalQuadratic(bins, bound)
    network = {"context_mode": context_mode, "dtype": policy}
    options = {"context_shape": context, "dtype": dtype}

    def mix(i):
        name = f"{linear}_{i}"
        if linear == "permutation":
            return Permutation("random", size, seed=next_seed(), name=name)
        matrix = PLU if linear == "plu" else QR
        return matrix(size, seed=next_seed(), dtype=dtype, name=name)

    def transform(i):
        name = f"spline_{i}"
        if kind == "autoregressive":
            made = MADE(
                size,
                spline.num_parameters,
                [width] * depth,
                residual=True,
                order=("natural", "reverse")[i % 2],
                seed=next_seed(),
                **network,
            )
            return MaskedAutoregressive(made, spline, name=name, **options)
        mask = masks.alternating(size)
        mask = mask if i % 2 == 0 else ~mask
        conditioner = ResidualMLP(
            spline.num_parameters * int((~mask).sum()),
            width,
            depth,
            seed=next_seed(),
            **network,
        )
        return Coupling(mask, conditioner, spline, name=name, **options)

    members = preprocess(
        event_shape, bounds, alpha, normalize, 0.5, dtype, flatten=True
    )
    for i in range(transforms):
        if actnorm:
            members.append(ActNorm([size], dtype=dtype, name=f"actnorm_{i}"))
        # Masks that take turns reach every entry if nothing moves between the two.
        if size > 1 and not (linear == "permutation" and kind == "coupling" and i % 2):
            members.append(mix(i))
        members.append(transform(i))
    return assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "neural_spline_flow",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
