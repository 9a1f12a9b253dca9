"""How far a surrogate is from a posterior: importance weights and their tail."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import generator
from tfp_flows.inference.target import as_target, check_target, draw

__all__ = [
    "ImportanceSampling",
    "effective_sample_size",
    "importance_sampling",
    "pareto_smooth",
]

# The largest number of samples in one pass.
_PASS = 10_000


class ImportanceSampling(NamedTuple):
    """The results of `importance_sampling`; all logarithms are in nats.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> from tfp_flows import inference
      >>> target, surrogate = tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.2)
      >>> found = inference.importance_sampling(target, surrogate, 1000)
      >>> found.samples.shape, found.log_weights.shape, found.pareto_k < 0.7
      (TensorShape([1000]), (1000,), True)

    Attributes:
      bound: the evidence lower bound, a mean of log-weights.
      bound_error: its standard error.
      log_evidence: the log of the mean weight, an estimate of the log-normaliser of the
        target.
      log_evidence_error: its standard error, by the delta method; not to be trusted if
        `pareto_k` is high.
      effective_sample_size: see the function of this name.
      pareto_k: the shape of the weights' tail, see `pareto_smooth`. Above 0.7, the
        surrogate misses parts of the posterior, and more samples do not help.
      samples: samples of the surrogate `[n, ...]`.
      log_weights: `[n]`, not normalised and not smoothed.
    """

    bound: float
    bound_error: float
    log_evidence: float
    log_evidence_error: float
    effective_sample_size: float
    pareto_k: float
    samples: Any
    log_weights: np.ndarray

    def __str__(self) -> str:
        n = len(self.log_weights)
        return (
            f"bound {self.bound:.3f} +- {self.bound_error:.3f}, "
            f"log evidence {self.log_evidence:.3f} +- {self.log_evidence_error:.3f}, "
            f"effective samples {self.effective_sample_size:.0f} of {n}, "
            f"Pareto k {self.pareto_k:.2f}"
        )


def importance_sampling(
    target: Any, surrogate: tfd.Distribution, samples: int = 10_000, seed: Any = 0
) -> ImportanceSampling:
    r"""Weighs samples of a surrogate by the posterior, $w(x) = p(x) / q(x)$.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> target = tfd.Normal(0.0, 1.0)
      >>> found = importance_sampling(target, tfd.Normal(0.0, 1.2), 1000)
      >>> found.effective_sample_size > 900, abs(found.log_evidence) < 0.02
      (True, True)

    Args:
      target: the unnormalised log-density: a pinned joint distribution, another
        distribution, or a function as for `tfp.vi`.
      surrogate: $q$, a distribution over samples of the target's structure.
      samples: number of samples, at least 100.
      seed: an integer of any size, or `None` for a new one.

    Returns:
      An `ImportanceSampling`; `str` makes a line of it.

    Raises:
      ValueError: if the target has no density, is not one number for each sample, or
        nowhere finite; or if `samples` is below 100.
    """
    samples = check_integer("samples", samples, 100)
    function = as_target(target)
    check_target(function, surrogate)

    @tf.function
    def weigh(n, seed):
        x, log_q = draw(surrogate, n, seed)
        return x, function(x) - log_q

    starts = range(0, samples, _PASS)
    seeds = generator(seed).integers(2**31, size=[len(starts), 2])
    passes = [
        weigh(min(_PASS, samples - start), tf.constant(two, tf.int32))
        for start, two in zip(starts, seeds, strict=True)
    ]
    x = tf.nest.map_structure(
        lambda *parts: tf.concat(parts, 0), *(p[0] for p in passes)
    )
    log_weights = np.concatenate([p[1].numpy() for p in passes]).astype("float64")
    log_evidence = np.logaddexp.reduce(log_weights) - math.log(samples)
    relative = np.exp(log_weights - log_evidence)
    return ImportanceSampling(
        bound=float(np.mean(log_weights)),
        bound_error=float(np.std(log_weights) / math.sqrt(samples)),
        log_evidence=float(log_evidence),
        log_evidence_error=float(np.std(relative) / math.sqrt(samples)),
        effective_sample_size=effective_sample_size(log_weights),
        pareto_k=pareto_smooth(log_weights)[1],
        samples=x,
        log_weights=log_weights,
    )


def effective_sample_size(log_weights: Any) -> float:
    r"""How many independent samples weighted ones are worth.

    $$ \frac{(\sum_s w_s)^2}{\sum_s w_s^2} $$

    Example:
      >>> effective_sample_size([0.0, 0.0, -1000.0])
      2.0

    Args:
      log_weights: `[S]`, up to a constant, in nats.

    Returns:
      A number between 1 and $S$.

    Raises:
      ValueError: on another shape, NaN, or if no weight is above zero.
    """
    log_weights = _checked(log_weights)
    total = np.logaddexp.reduce(log_weights)
    squares = np.logaddexp.reduce(2 * log_weights)
    return float(np.exp(2 * total - squares))


def pareto_smooth(log_weights: Any) -> tuple[np.ndarray, float]:
    r"""Pareto-smoothed importance weights, and the shape $\hat k$ of their tail.

    The $M = \min(S / 5, 3 \sqrt S)$ largest weights follow a generalised Pareto
    distribution for large $S$; it is fitted (Zhang & Stephens 2009) and its quantiles
    replace them (Vehtari et al. 2024, "Pareto smoothed importance sampling"). Moments
    of the weights above $1 / k$ are infinite. Estimates are reliable below $\min(1 - 1
    / \log_{10} S, 0.7)$.

    Example:
      >>> import numpy as np
      >>> u = np.random.default_rng(0).uniform(size=10_000)
      >>> smooth, k = pareto_smooth(-0.5 * np.log(u))
      >>> smooth.shape, abs(k - 0.5) < 0.2
      ((10000,), True)

    Args:
      log_weights: `[S]`, up to a constant, in nats; at least 25 of them.

    Returns:
      Smoothed log-weights `[S]`, normalised so that the weights sum to one; and
      $\hat k$, minus infinity if the largest weights are equal.

    Raises:
      ValueError: on another shape, NaN, fewer than 25 weights, or if no weight is above
        zero.
    """
    log_weights = _checked(log_weights, at_least=25)
    log_weights = log_weights - log_weights.max()
    size = len(log_weights)
    count = math.ceil(min(size / 5, 3 * math.sqrt(size)))
    order = np.argsort(log_weights)
    tail = order[-count:]
    cutoff = max(log_weights[order[-count - 1]], math.log(np.finfo("float64").tiny))
    tail = tail[log_weights[tail] > cutoff]
    k = -math.inf
    if len(tail) > 4:
        start = math.exp(cutoff)
        k, scale = _fit_pareto(np.exp(log_weights[tail]) - start)
        at = (np.arange(len(tail)) + 0.5) / len(tail)
        with np.errstate(divide="ignore"):
            quantiles = (
                -np.log1p(-at) if k == 0 else np.expm1(-k * np.log1p(-at)) / k
            ) * scale
        log_weights[tail] = np.minimum(np.log(start + quantiles), 0.0)
    return log_weights - np.logaddexp.reduce(log_weights), k


def _fit_pareto(x: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution (Zhang & Stephens 2009).

    The posterior mean on a grid of the parameter theta = -shape / scale, with the
    weakly informative prior of Vehtari et al. 2024, which pulls the shape to 1/2 as ten
    observations would.

    Args:
      x: exceedances, ascending and positive.
    """
    n = len(x)
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * quartile)
    shapes = np.mean(np.log1p(-theta[:, None] * x), axis=1)
    profile = n * (np.log(-theta / shapes) - shapes - 1)
    weights = np.exp(profile - np.logaddexp.reduce(profile))
    mean = np.sum(theta * weights)
    shape = np.mean(np.log1p(-mean * x))
    return float((n * shape + 5) / (n + 10)), float(-shape / mean)


def _checked(log_weights: Any, at_least: int = 1) -> np.ndarray:
    log_weights = np.array(log_weights, "float64")
    if log_weights.ndim != 1 or len(log_weights) < at_least:
        raise ValueError(
            f"log_weights must be a vector of at least {at_least}, got shape "
            f"{log_weights.shape}."
        )
    if np.isnan(log_weights).any() or not math.isfinite(log_weights.max()):
        raise ValueError(
            "log_weights must hold no NaN and no +inf, and not be -inf throughout."
        )
    return log_weights
