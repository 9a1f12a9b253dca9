"""Whether numbers are uniform: their distribution function in a simultaneous band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.seeds import generator

__all__ = ["Uniformity", "uniformity"]

# Simulations of the null distribution; the most points at which functions are compared.
_SIMULATIONS, _POINTS = 2000, 100


class Uniformity(NamedTuple):
    """Distribution functions of numbers that should be uniform on [0, 1].

    `uniformity` and the tests that use it return one.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics
      >>> u = np.random.default_rng(0).uniform(size=[500, 2])
      >>> found = diagnostics.uniformity(u, names=["mean", "scale"])
      >>> found.names, found.fractions.shape, found.p_values.shape
      (('mean', 'scale'), (99, 2), (2,))

    Attributes:
      values: `[N, D]`, the numbers: N of each of D kinds.
      points: `[K]`, where the distribution functions are evaluated; their values there,
        if the numbers are uniform.
      fractions: `[K, D]`, the distribution functions: shares of values up to a point.
      lower: `[K]`, lower end of the band that a whole function lies in with probability
        `level`, if the numbers are uniform.
      upper: `[K]`, upper end of it.
      p_values: `[D]`, of the tests of uniformity by the largest excess over the band.
      names: names of the D kinds.
      level: probability of the band.
    """

    values: np.ndarray
    points: np.ndarray
    fractions: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p_values: np.ndarray
    names: tuple[str, ...]
    level: float

    @property
    def p_value(self) -> float:
        """The p-value of all tests together, after Bonferroni."""
        return float(min(1.0, len(self.p_values) * self.p_values.min()))

    def __str__(self) -> str:
        each = ", ".join(
            f"{name} {p:.4f}" for name, p in zip(self.names, self.p_values, strict=True)
        )
        return f"p-value {self.p_value:.4f} ({each}; {len(self.values)} values)"


def uniformity(
    values: Any,
    bins: int | None = None,
    *,
    names: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int | None = 0,
) -> Uniformity:
    r"""Tests whether numbers are uniform, and gives a band for their distribution.

    If $N$ numbers are uniform, the number of those up to a point $z$ is binomial. The
    statistic is the smallest two-sided tail probability $\gamma$ at any of the points,
    and its distribution is simulated. The band consists of the binomial quantiles at
    that $\gamma$ which makes it simultaneous: a whole distribution function lies in it
    with probability `level` (Säilynoja et al. 2022, "Graphical Test for Discrete
    Uniformity", section 3).

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics
      >>> u = np.random.default_rng(0).uniform(size=500)
      >>> diagnostics.uniformity(u).p_value > 0.05
      True
      >>> diagnostics.uniformity(u**1.5).p_value < 0.001
      True

    Args:
      values: `[N]` or `[N, D]`, in [0, 1]; or, with `bins`, ranks: integers from 0 to
        `bins - 1`.
      bins: the number of values that a rank may have: one more than the samples that
        were compared with.
      names: names of the D kinds of numbers.
      level: probability of the band.
      seed: seed of the simulation; `None` for a new one.

    Returns:
      A `Uniformity`. The smallest p-value that it can give is 1/2001.

    Raises:
      ValueError: on another shape, fewer than 10 values, or values outside the range.
    """
    level = check_number("level", level, above=0, below=1)
    values = np.asarray(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) < 10 or not values.shape[1]:
        raise ValueError(
            "values must be [N] or [N, D] with N of at least 10, got shape "
            f"{values.shape}."
        )
    count, kinds = values.shape
    if names is None:
        names = [str(i) for i in range(kinds)] if kinds > 1 else ["value"]
    if len(names) != kinds:
        raise ValueError(f"names must be {kinds} texts, got {len(names)}.")
    if bins is None:
        low, high, points = 0.0, 1.0, np.arange(1, _POINTS) / _POINTS
    else:
        bins = check_integer("bins", bins, 2)
        if np.any(values != np.round(values)):
            raise ValueError("values must be integers, as ranks are, if bins is given.")
        edges = np.linspace(1, bins - 1, min(bins - 1, _POINTS - 1))
        low, high, points = 0.0, bins - 1.0, np.unique(np.round(edges)) / bins
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(
            f"values must lie in [{low:g}, {high:g}], got from {values.min():g} to "
            f"{values.max():g}."
        )
    if bins is not None:
        values = (values + 0.5) / bins
    counts = np.stack([(values <= z).sum(0) for z in points])
    cells = np.diff(points, prepend=0.0, append=1.0)
    draws = generator(seed).multinomial(count, cells, size=_SIMULATIONS)
    null = _tail(draws.cumsum(1)[:, :-1].T, count, points)
    found = _tail(counts, count, points)
    simultaneous = np.quantile(null, 1 - level, method="lower")
    return Uniformity(
        values=values,
        points=points,
        fractions=counts / count,
        lower=binom.ppf(simultaneous / 2, count, points) / count,
        upper=binom.isf(simultaneous / 2, count, points) / count,
        p_values=((null[:, None] <= found).sum(0) + 1) / (_SIMULATIONS + 1),
        names=tuple(names),
        level=level,
    )


def _tail(counts, total, points):
    """The smallest two-sided tail probability over the points, of each column."""
    points = points[:, None]
    below = binom.cdf(counts, total, points)
    above = binom.sf(counts - 1, total, points)
    return 2 * np.minimum(below, above).min(0)
