"""Layers that several flows have: linear ones, autoregressions, amortized ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import (
    PLU,
    QR,
    BatchNorm,
    InvertibleConv1x1,
    MaskedAutoregressive,
    Permutation,
)
from tfp_flows.core.arguments import check_choice, check_unused
from tfp_flows.core.seeds import generator
from tfp_flows.networks import MADE, MLP
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import for_a_single_number, in_turn, repeat
from tfp_flows.transformers import (
    Cubic,
    Inverted,
    LinearRational,
    RationalQuadratic,
    Transformer,
)

__all__ = [
    "amortized_layers",
    "autoregression",
    "autoregressive_layers",
    "context_network",
    "fast_density",
    "linear",
    "spline_of",
    "usual_linear",
    "warn_if_affine",
]

# A step of Adam moves each entry of a product in proportion to the size of the matrix:
# with thousands of features it throws data far off, and permutations stand instead.
_LARGEST_MATRIX = 256


def usual_linear(shape: Sequence[int]) -> str:
    """The kind of `linear` that suits a shape: no matrix of very many features."""
    is_large = len(shape) == 1 and shape[0] > _LARGEST_MATRIX
    return "permutation" if is_large else "plu"


def linear(
    plan: Plan, shape: Sequence[int], kind: str, name: str | None = None
) -> list[tfb.Bijector]:
    """A linear layer of a vector, or of channels; nothing where there is one entry.

    Data meet the inverse of a learned matrix, or a permutation.

    Args:
      plan: the `Plan` of the flow.
      shape: shape of an event.
      kind: `"plu"`; of a vector `"qr"` or `"lu"`, a PLU that starts as a random
        permutation; of an image `"dense"`; or `"permutation"`, a random one.
      name: name of the matrix.
    """
    size = shape[-1]
    if size == 1:
        return []
    if kind == "permutation":
        return [Permutation("random", size, seed=plan.seed())]
    options: dict[str, Any] = {} if name is None else {"name": name}
    if kind == "lu":
        order = generator(plan.seed()).permutation(size)
        options["initial"] = np.eye(size)[order]
    options |= {"seed": plan.seed(), "dtype": plan.dtype}
    if len(shape) == 3:
        return [tfb.Invert(InvertibleConv1x1(shape, kind, **options))]
    return [tfb.Invert((QR if kind == "qr" else PLU)(size, **options))]


_SPLINES = {
    "rational_quadratic": RationalQuadratic,
    "linear_rational": LinearRational,
    "cubic": Cubic,
}


def spline_of(kind: str, bins: int, bound: float) -> Transformer:
    """A spline, as data meet it.

    Args:
      kind: `"rational_quadratic"`, `"linear_rational"` or `"cubic"`.
      bins: its pieces.
      bound: where they end.
    """
    return fast_density(_SPLINES[check_choice("spline", kind, _SPLINES)](bins, bound))


def fast_density(transformer: Transformer) -> Transformer:
    """A transformer as data meet it: densities take a closed form, samples a root."""
    return transformer if transformer.has_direct_inverse else Inverted(transformer)


def autoregression(
    plan: Plan,
    transformer: Transformer,
    i: int,
    name: str,
    bijector: Callable[..., tfb.Bijector] = MaskedAutoregressive,
    **network: Any,
) -> tfb.Bijector:
    """An autoregression with its network.

    Args:
      plan: the `Plan` of the flow.
      transformer: what each entry goes through.
      i: 0 for the natural order, 1 for the reverse.
      name: name of the autoregression.
      bijector: `MaskedAutoregressive` or `InverseAutoregressive`.
      **network: arguments of the `MADE`.
    """
    if plan.conditioner_dtype not in (None, plan.dtype):
        raise ValueError(
            f"conditioner_dtype={plan.conditioner_dtype!r} is not for autoregressions, "
            "only for couplings: in half precision the two directions, which compute "
            "the same in another order, would be no inverses of each other."
        )
    made = MADE(
        plan.size,
        transformer.num_parameters,
        order=("natural", "reverse")[i],
        **{**plan.network(), "dtype": plan.dtype, **network},
    )
    return bijector(made, transformer, name=name, **plan.layer)


def autoregressive_layers(
    plan: Plan,
    bijector: Callable[..., tfb.Bijector],
    transformer: Transformer,
    *,
    layers: int,
    order: str,
    batch_norm: bool = False,
    **network: Any,
) -> list[tfb.Bijector]:
    """Autoregressions whose orders differ.

    Args:
      plan: the `Plan` of the flow.
      bijector: see `autoregression`.
      transformer: see there.
      layers: number of autoregressions.
      order: `"reverse"`, forwards and backwards in turn, or `"random"`.
      batch_norm: whether a `BatchNorm` follows each.
      **network: arguments of each `MADE`.
    """
    check_choice("order", order, ("reverse", "random"))

    def layer(i):
        if order == "random":
            # In front of the natural order, as a variable: layers stay alike.
            yield Permutation("random", plan.size, seed=plan.seed())
            i = 0
        name = f"autoregressive_{i}"
        yield autoregression(plan, transformer, i, name, bijector, **network)
        if batch_norm:
            yield BatchNorm([plan.size], dtype=plan.dtype, name=f"batch_norm_{i}")

    return in_turn(layer, layers)


def warn_if_affine(plan: Plan) -> None:
    """Warns of affine autoregressions of a single feature."""
    if plan.size == 1:
        warnings.warn(
            f"{plan.name}: affine transforms of a single feature only shift and scale "
            "the base distribution, however many they are. "
            f"{for_a_single_number(plan.data_shape)}",
            stacklevel=2,
        )


def context_network(
    plan: Plan, outputs: int, width: int | None, depth: int | None
) -> MLP | None:
    """A network that computes parameters from a context, if there is one.

    Args:
      plan: the `Plan` of the flow.
      outputs: number of parameters.
      width: units of each hidden layer (64).
      depth: hidden layers (2).
    """
    if plan.context_shape is None:
        check_unused("for the networks that see a context", width=width, depth=depth)
        return None
    if len(plan.context_shape) != 1:
        raise ValueError(
            f"context_shape must be that of a vector, (C,), got {plan.context_shape}; "
            "let a context_encoder make one."
        )
    hidden = [64 if width is None else width] * (2 if depth is None else depth)
    return MLP(outputs, hidden, **plan.network())


def amortized_layers(
    plan: Plan,
    bijector: Callable[..., tfb.Bijector],
    *,
    layers: int,
    explicit: str,
    width: int | None,
    depth: int | None,
    name: str,
    between: Callable[[], tfb.Bijector] | None = None,
    **options: Any,
) -> list[tfb.Bijector]:
    """Layers whose parameters networks compute from a context, if there is one.

    Args:
      plan: the `Plan` of the flow.
      bijector: `Planar`, `Radial` or `Sylvester`.
      layers: number of layers.
      explicit: `"density"` or `"sampling"`, the way that is in closed form.
      width: units of each hidden layer of the networks (64).
      depth: their hidden layers (2).
      name: name of each layer.
      between: makes what stands between two layers.
      **options: arguments of the bijector; the shape of its parameters among them.
    """
    check_choice("explicit", explicit, ("density", "sampling"))
    shape = {k: v for k, v in options.items() if k != "activation"}

    def layer():
        outputs = bijector.num_parameters(plan.size, **shape)
        network = context_network(plan, outputs, width, depth)
        made = bijector(
            plan.size,
            conditioner=network,
            seed=plan.seed(),
            name=name,
            **options,
            **plan.layer,
        )
        return tfb.Invert(made) if explicit == "density" else made

    if between is None:
        return repeat(lambda: [layer()], layers)
    return [layer(), *repeat(lambda: [between(), layer()], layers - 1)]
