"""The density that inference aims at: of a model, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.core.seeds import stateless_seed

__all__ = ["PINNED", "as_target", "check_target", "draw"]

_ADVICE = (
    "A joint distribution gives one number for each if its parts are events: "
    "tfd.Independent or tfd.Sample makes one of a batch; in an AutoBatched model every "
    "part is one."
)

PINNED = tfp.experimental.distributions.JointDistributionPinned


class _NoDensity(ValueError):
    """A target has no density."""


def as_target(target: Any, name: str = "target") -> Callable[[Any], tf.Tensor]:
    """The unnormalised log-density as a function of one argument, a whole sample.

    Args:
      target: a pinned joint distribution, another TFP distribution, or a function that
        is called as `tfp.vi` calls it: the parts of a list, tuple or dict are its
        arguments; a tensor, or a named tuple, is its only one.
      name: the argument that an error of the function names.

    Returns:
      A function of a sample (a tensor or a structure), in nats. It raises a ValueError
      if the target has no density.

    Raises:
      TypeError: if `target` is none of these.
    """
    function = _as_function(target)

    def evaluate(x):
        try:
            return function(x)
        except NotImplementedError as error:
            raise _NoDensity(
                f"{name} has no density, got: {error}. It must be a distribution of "
                "which all parts implement log_prob, or a function of log-densities. "
                "For a simulator without one: tfp_flows.inference.NeuralPosterior."
            ) from error

    return evaluate


def _as_function(target):
    if isinstance(target, PINNED):
        return lambda x: _call(target.unnormalized_log_prob, x)
    if isinstance(target, tfd.Distribution):
        return target.log_prob
    if not callable(target):
        raise TypeError(
            "target must be a pinned joint distribution, a TFP distribution or a "
            f"function of log-densities, got {type(target).__name__}."
        )
    return lambda x: _call(target, x)


def _call(function, x):
    """Calls a function with a sample as `tfp.vi` does."""
    if isinstance(x, Mapping):
        return function(**x)
    if isinstance(x, (list, tuple)) and not hasattr(x, "_fields"):
        return function(*x)
    return function(x)


def draw(surrogate: tfd.Distribution, shape: Any, seed: Any) -> tuple[Any, tf.Tensor]:
    """Samples and their log-densities, without the inverse of the flow."""
    return surrogate.experimental_sample_and_log_prob(shape, seed=stateless_seed(seed))


def check_target(
    target: Callable[[Any], tf.Tensor],
    surrogate: tfd.Distribution,
    everywhere: bool = False,
    draws: int = 64,
    name: str = "target",
) -> None:
    """Raises an error unless the target is a number at each sample of the surrogate.

    Args:
      target: function of a sample, see `as_target`.
      surrogate: a distribution over samples of the target's structure.
      everywhere: whether the target must be finite at all samples, not just at some.
      draws: number of samples.
      name: the argument that an error names.

    Raises:
      ValueError: if the target has no density or fails, its values have another shape
        than `[draws]`, or they are NaN or infinite.
    """
    sample, log_q = draw(surrogate, draws, 0)
    try:
        values = tf.convert_to_tensor(target(sample))
    except _NoDensity:
        raise
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        shapes = tf.nest.map_structure(lambda part: tuple(part.shape), sample)
        raise ValueError(
            f"{name} fails at {draws} samples of the surrogate, of shapes {shapes}: "
            f"{error} {_ADVICE}"
        ) from error
    if log_q.shape != [draws]:
        raise ValueError(
            f"surrogate must have an empty batch shape; {draws} samples have "
            f"log-densities of shape {log_q.shape}."
        )
    if values.shape != [draws]:
        raise ValueError(
            f"{name} must be one number for each sample of the surrogate: "
            f"[{draws}], got shape {values.shape}. {_ADVICE}"
        )
    if not values.dtype.is_compatible_with(log_q.dtype):
        raise ValueError(
            f"{name} is of dtype {values.dtype.name}, surrogate of {log_q.dtype.name}: "
            "they must be the same."
        )
    finite = np.isfinite(values.numpy())
    bad = draws - int(finite.sum())
    if bad == draws or (bad and (everywhere or np.isnan(values.numpy()).any())):
        found = values.numpy()[~finite][0]
        raise ValueError(
            f"{name} is not finite ({found}) at {bad} of {draws} samples of the "
            "surrogate: the surrogate's support must lie within that of the target. "
            "The bijector of its parts decides on it (surrogate_posterior(bijector=))."
        )
