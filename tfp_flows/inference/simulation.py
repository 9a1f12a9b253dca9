"""Parameters from a prior, and data that a simulator makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_choice, check_integer, check_real
from tfp_flows.core.seeds import generator
from tfp_flows.inference.parameters import check_no_batch, named

__all__ = ["check_prior", "simulate"]


def simulate(
    prior: tfd.Distribution,
    simulator: Callable[..., Any],
    count: int,
    *,
    batch_size: int = 1000,
    compiled: bool = False,
    invalid: str = "error",
    seed: int | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Pairs $\theta_i \sim p(\theta)$, $x_i \sim p(x \mid \theta_i)$ of a simulator.

    They are what `NeuralPosterior` and `NeuralLikelihood` are fitted to, and what
    `tfp_flows.diagnostics` tests a posterior with.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> prior = tfd.MultivariateNormalDiag([0.0, 0.0])
      >>> def simulator(parameters, seed):
      ...     noise = np.random.default_rng(seed).normal(size=parameters.shape)
      ...     return parameters + noise
      >>> parameters, data = simulate(prior, simulator, 100, seed=0)
      >>> parameters.shape, data.shape
      ((100, 2), (100, 2))

    Args:
      prior: distribution of the parameters, joint or not, without a batch.
      simulator: maps `n` sets of parameters to an array `[n, *data_shape]` with one
        axis at least beside the first. They come in the structure of the prior, each
        part `[n, *shape]`: as NumPy arrays, or as tensors if `compiled`. If it has an
        argument `seed`, it gets two non-negative int32 numbers `[2]`: a stateless seed
        of TensorFlow's, which `numpy.random.default_rng` takes too.
      count: number of pairs.
      batch_size: number of pairs at a time.
      compiled: whether the simulator consists of TensorFlow's operations, so that it
        is traced once, with the prior, in a `tf.function`.
      invalid: what to do about data that are NaN or infinite: `"error"`, or `"drop"`
        these pairs. Without them, $p(\theta \mid x)$ at valid data stays the same, but
        $p(x \mid \theta)$ becomes that of valid data alone.
      seed: an integer of any size, or `None` for a new one.

    Returns:
      `(parameters, data)`: NumPy arrays `[count, *shape]` in the structure of the
      prior, and `[count, *data_shape]` in the dtype of its first part (float32 if that
      is an integer). With `invalid="drop"`, there may be fewer.

    Raises:
      TypeError: if `prior` is no TFP distribution, `simulator` is not callable, or it
        returns no array of real numbers.
      ValueError: if the prior has a batch, the data have another shape, or some are
        NaN or infinite.
    """
    check_prior(prior)
    if not callable(simulator):
        raise TypeError(
            f"simulator must be a function of parameters, got "
            f"{type(simulator).__name__}."
        )
    count = check_integer("count", count)
    size = min(check_integer("batch_size", batch_size), count)
    check_choice("invalid", invalid, ("error", "drop"))
    takes_seed = _takes_seed(simulator)

    def batch(size, seeds):
        parameters = prior.sample(size, seed=seeds[0])
        if not compiled:
            parameters = tf.nest.map_structure(np.asarray, parameters)
        given = {"seed": seeds[1]} if takes_seed else {}
        return parameters, simulator(parameters, **given)

    run = tf.function(batch) if compiled else batch
    draw, found, done, dropped = generator(seed), [], 0, 0
    while done < count:
        seeds = draw.integers(2**31 - 1, size=[2, 2]).astype(np.int32)
        if compiled:
            # A whole batch, as another size would be traced once more.
            parameters, data = run(size, tf.constant(seeds))
        else:
            parameters, data = run(min(size, count - done), seeds)
        parameters = tf.nest.map_structure(np.asarray, parameters)
        data, valid = _checked(data, parameters, prior)
        keep = np.arange(len(valid)) < count - done
        done += int(keep.sum())
        bad = int(np.sum(keep & ~valid))
        if bad and invalid == "error":
            raise ValueError(_complaint(bad, done, parameters, valid))
        dropped += bad
        keep &= valid
        found.append(tf.nest.map_structure(lambda v, k=keep: v[k], (parameters, data)))
    if dropped == count:
        raise ValueError(f"simulator returned NaN or infinity for all {count} pairs.")
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *found)


def check_prior(prior: Any) -> None:
    """Raises an error unless a prior is a distribution without a batch."""
    if not isinstance(prior, tfd.Distribution):
        raise TypeError(
            f"prior must be a TFP distribution, got {type(prior).__name__}."
        )
    check_no_batch(prior, "prior")


def _takes_seed(simulator):
    function = getattr(simulator, "python_function", simulator)
    try:
        return "seed" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _checked(data, parameters, prior):
    """Data as an array of the prior's dtype, and which of them are finite."""
    if isinstance(data, (dict, tuple)):
        raise TypeError(
            "simulator must return one array; put several ones side by side, "
            f"got a {type(data).__name__}."
        )
    check_real("what simulator returns", data)
    size = len(tf.nest.flatten(parameters)[0])
    data = np.asarray(data)
    if data.ndim < 2 or len(data) != size:
        raise ValueError(
            f"simulator must return an array [{size}, ...] for {size} sets of "
            f"parameters, with another axis at least; got shape {data.shape}. Single "
            f"numbers are of shape [{size}, 1]."
        )
    dtype = tf.as_dtype(tf.nest.flatten(prior.dtype)[0])
    with np.errstate(over="ignore"):
        data = data.astype(dtype.name if dtype.is_floating else "float32")
    return data, np.isfinite(data).all(axis=tuple(range(1, data.ndim)))


def _complaint(bad, done, parameters, valid):
    first = int(np.argmin(valid))
    example = ", ".join(
        f"{part}: {np.array2string(value[first], precision=4)}"
        for part, value in named(parameters, "parameters")
    )
    return (
        f"simulator returned NaN or infinity for {bad} of the first {done} sets of "
        f"parameters, such as {example}. Narrow the prior to where it works, or let it "
        'return finite numbers that say what failed. invalid="drop" leaves these pairs '
        "out: the posterior of valid data stays the same, the likelihood does not."
    )
