"""Base distributions of ready flows by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows import distributions
from tfp_flows.networks import MLP
from tfp_flows.ready.contexts import OneHot

__all__ = ["make_base"]


def _resampled(shape, dtype, seed, width=128, depth=2, **options):
    network = MLP(1, [width] * depth, seed=seed, dtype=dtype)
    return distributions.ResampledBase(network, shape, dtype, **options)


_BASES: dict[str, Callable[..., tfp.distributions.Distribution]] = {
    "normal": distributions.standard_normal,
    "logistic": distributions.standard_logistic,
    "diagonal": distributions.diagonal_normal,
    "student_t": distributions.student_t,
    "mixture": distributions.gaussian_mixture,
    "class_conditional": distributions.ClassConditionalNormal,
    "fitted_mixture": distributions.FittedMixture,
    "resampled": _resampled,
}
_SEEDED = ("mixture", "fitted_mixture", "class_conditional", "resampled")


def make_base(
    base: str | Mapping[str, Any],
    shape: Sequence[int],
    encoder: Any,
    dtype: Any,
    seed: int,
) -> tfp.distributions.Distribution:
    """The base distribution of a ready flow.

    Args:
      base: its name, or a mapping with its `"name"` and arguments of the function of
        `tfp_flows.distributions` that makes it; `"resampled"` takes `width` and `depth`
        of the `MLP` that accepts or rejects.
      shape: shape of its events.
      encoder: what contexts go through, for `"class_conditional"`.
      dtype: dtype of the flow.
      seed: int, for bases that start at random.

    Raises:
      ValueError: on an unknown base or argument of it, or `"class_conditional"` without
        labels.
    """
    options: dict[str, Any] = {"name": base} if isinstance(base, str) else dict(base)
    name = options.pop("name", None)
    if name not in _BASES:
        raise ValueError(f"base must be one of {sorted(_BASES)}, got {name!r}.")
    options = {"dtype": dtype, **options}
    if name in _SEEDED:
        options.setdefault("seed", seed)
    if name == "class_conditional":
        if not isinstance(encoder, OneHot):
            raise ValueError('base="class_conditional" needs num_classes.')
        options.setdefault("num_classes", encoder.num_classes)
    try:
        return _BASES[name](shape, **options)
    except TypeError as error:
        raise ValueError(f"base {name!r} is not understood: {error}") from error
