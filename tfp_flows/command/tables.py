"""What a table is like, and what simple densities make of it."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfp_flows import datasets
from tfp_flows.core.from_tfp import adapt
from tfp_flows.core.mixtures import RIDGE, fitting
from tfp_flows.ready.preprocessing import preprocess

__all__ = [
    "baselines",
    "is_table",
    "odd_columns",
    "shortfall",
    "standard_error",
    "suited_start",
]

# Rows that the covariance, and that the mixtures, are estimated from, at most.
_GAUSSIAN_ROWS = 200_000
_MIXTURE_ROWS = 10_000

# Components of the mixtures that are tried, and an estimate of the multiplications that
# all of them together may take: some seconds.
_COMPONENTS = (2, 4, 8, 16, 32)
# What a start may add to the variances of standardised features.
_RIDGES = (RIDGE, 0.01, 0.1)
_MIXTURE_ITERATIONS = 50
_MULTIPLICATIONS = 2e10

# More features have no covariance that would fit into memory and time.
_MOST_FEATURES = 2000

# A mixture is not fitted to fewer rows. The number of its components is chosen by rows
# of which a tenth is held out, in turns until so many rows were: one tenth of few rows
# tells little.
_FEWEST_ROWS = 10
_FOLDS = 10
_HELD_OUT = 1000

# Rows of which densities are computed at once.
_PART = 10_000


def is_table(source: datasets.DataSource) -> bool:
    """Whether data are rows of features."""
    return len(source.event_shape) == 1


def odd_columns(source: datasets.DataSource) -> dict[str, list[str]]:
    """Columns of a continuous table for which a density is hardly the right thing.

    Returns:
      Names by kind: `constant`, `binary` (two different values), `integer` (whole
      numbers only); a kind that does not occur, and columns that were declared, are
      left out.
    """
    if not is_table(source) or source.bounds:
        return {}
    x = source.arrays("train", limit=_GAUSSIAN_ROWS)[0]
    names = source.columns or [f"feature {i}" for i in range(x.shape[1])]
    low, high = x.min(0), x.max(0)
    kinds = {
        "constant": low == high,
        "binary": ((x == low) | (x == high)).all(0),
        "integer": (x == np.round(x)).all(0),
    }
    found: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        if name in source.categories or name in source.integers:
            continue
        kind = next((kind for kind, is_it in kinds.items() if is_it[i]), None)
        if kind:
            found.setdefault(kind, []).append(name)
    return found


def baselines(source: datasets.DataSource, seed: int = 0) -> dict[str, Any]:
    """Densities to compare a flow of a table with, and their held-out likelihoods.

    A Gaussian with a full covariance, and scikit-learn's `GaussianMixture` with the
    number of components that the validation split likes best. Both are of standardised
    features, with 1e-6 added to their variances; likelihoods are those of the data as
    stored. Constant features count as if they were standard normal around their value:
    to be narrow there is no merit. Labels are not looked at.

    Of a table with declared columns, integers get uniform noise, so that what is
    returned is a bound as well, and columns of categories count by their frequencies
    among the rows to train on, with one added to each, as if independent of all else.

    Args:
      source: a table; integers get the noise that `DataSource.dataset` adds.
      seed: of that noise, and of the mixtures' beginnings.

    Returns:
      By name, `gaussian` and `mixture`: `log_likelihood` of the test split (mean, nats
      per example), its `standard_error`, and the number of `components`. Nothing for a
      table of more than 2,000 features, and no mixture where scikit-learn is missing or
      it would take more than some seconds.
    """
    size = source.event_shape[0]
    if size > _MOST_FEATURES:
        return {}
    train = _rows(source, "train", _GAUSSIAN_ROWS, seed)
    mean, scale = train.mean(0), train.std(0)
    # What is constant may still vary by rounding.
    varies = scale > 1e-12 * np.abs(mean)

    def standardised(rows: np.ndarray) -> np.ndarray:
        return ((rows - mean) / np.where(varies, scale, 1.0))[:, varies]

    stored = _rows(source, "test", None, seed)
    train, test = standardised(train), standardised(stored)
    # What the units and the constant features add to each density.
    rest = -np.log(scale[varies]).sum() + _normal((stored - mean)[:, ~varies])
    rest += _log_frequencies(source)
    if not varies.any():
        return {"gaussian": _result(rest, 1)}
    found = {"gaussian": _result(_gaussian(train, test) + rest, 1)}
    if source.sizes["validation"]:
        held_out = standardised(_rows(source, "validation", _MIXTURE_ROWS, seed))
    else:
        held_out, train = np.split(train, [max(1, len(train) // 10)])
    train = train[:_MIXTURE_ROWS]
    mixture = _best_mixture(
        train, seed, _COMPONENTS, lambda mixture: mixture.fit(train).score(held_out)
    )
    if mixture is not None:
        log_p = np.concatenate(
            [
                mixture.score_samples(test[start : start + _PART])
                for start in range(0, len(test), _PART)
            ]
        )
        found["mixture"] = _result(log_p + rest, mixture.n_components)
    return found


def suited_start(
    source: datasets.DataSource, normalize: bool | str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Options of a flow that starts as the mixture of Gaussians that suits a table.

    Args:
      source: a table of real numbers.
      normalize: that option, if it is given. Otherwise `"heavy_tails"` where a number
        lies more than ten deviations from the median of its column, with the deviation
        that a Gaussian would have of the distance between the quartiles.
      seed: of the mixtures' beginnings.

    Returns:
      The options `normalize` and `base`, with the number of components, and what is
      added to their variances, that rows to train on like best which are held out: a
      tenth at a time, in turns until a thousand were. No `base` where scikit-learn is
      missing, or it would take more than some seconds; nothing for fewer than ten rows.
    """
    if source.sizes["train"] < _FEWEST_ROWS:
        return {}
    rows = _rows(source, "train", _GAUSSIAN_ROWS, seed)
    if normalize is None:
        normalize = "heavy_tails" if _has_heavy_tails(rows) else True
    first = preprocess(source.event_shape, None, None, normalize, 0.5, "float64")
    with warnings.catch_warnings():
        # Of constant columns, which a run tells of by itself.
        warnings.simplefilter("ignore", UserWarning)
        for bijector in first:
            rows = np.asarray(adapt(bijector).initialize(rows))
    rows = rows[:_MIXTURE_ROWS]
    turns = min(_FOLDS, math.ceil(_HELD_OUT * _FOLDS / len(rows)))
    best = _best_mixture(
        rows[-(-len(rows) // _FOLDS) :],
        seed,
        (1, *_COMPONENTS),
        lambda mixture: _by_folds(mixture, rows, turns, seed),
        turns,
        _RIDGES,
    )
    if best is None:
        return {"normalize": normalize}
    numbers = {"components": best.n_components, "ridge": best.reg_covar}
    return {"normalize": normalize, "base": {"name": "fitted_mixture", **numbers}}


def _by_folds(mixture: Any, rows: np.ndarray, turns: int, seed: int) -> float:
    """The mean log-density of the rows that are held out, a tenth in each turn."""
    from sklearn.model_selection import KFold, cross_val_score

    folds = KFold(_FOLDS, shuffle=True, random_state=seed).split(rows)
    some = itertools.islice(folds, turns)
    return float(cross_val_score(mixture, rows, cv=some).mean())


def _has_heavy_tails(rows: np.ndarray) -> bool:
    low, median, high = np.percentile(rows, (25, 50, 75), axis=0)
    # A Gaussian has its quartiles 1.349 deviations apart.
    far = np.abs(rows - median) > 10 * (high - low) / 1.349
    return bool((far & (high > low)).any())


def _log_frequencies(source: datasets.DataSource) -> np.ndarray | float:
    """Logarithms of the frequencies of the categories of the test rows, added up."""
    total: np.ndarray | float = 0.0
    train, test = (source.arrays(split)[0] for split in ("train", "test"))
    for name, categories in source.categories.items():
        i = (source.columns or ()).index(name)
        counts = np.bincount(train[:, i].astype(int), minlength=len(categories)) + 1
        total += np.log(counts / counts.sum())[test[:, i].astype(int)]
    return total


def _rows(
    source: datasets.DataSource, split: str, limit: int | None, seed: int
) -> np.ndarray:
    """Numbers of rows as a flow would meet them; some rows at random, if not all."""
    size = source.sizes[split]
    limit = size if limit is None else min(limit, size)
    batches = source.dataset(split, 4096, shuffle=limit < size, seed=seed)
    parts, count = [], 0
    for batch in batches:
        parts.append(batch.numpy().astype(np.float64))
        count += len(parts[-1])
        if count >= limit:
            break
    rows = np.concatenate(parts)[:limit]
    if source.kinds is None:
        return rows
    kinds = np.array([k if isinstance(k, str) else "category" for k in source.kinds])
    noise = np.random.default_rng(seed).random(rows.shape)
    return (rows + np.where(kinds == "integer", noise, 0.0))[:, kinds != "category"]


def _gaussian(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Log-densities of rows under the Gaussian of others."""
    covariance = np.atleast_2d(np.cov(train, rowvar=False, bias=True))
    root = np.linalg.cholesky(covariance + RIDGE * np.eye(len(covariance)))
    z = np.linalg.solve(root, (test - train.mean(0)).T).T
    return _normal(z) - np.log(np.diagonal(root)).sum()


def _normal(z: np.ndarray) -> np.ndarray:
    """Standard normal log-densities of rows."""
    return -0.5 * (np.square(z) + math.log(2 * math.pi)).sum(1)


def _best_mixture(
    rows: np.ndarray,
    seed: int,
    components: Sequence[int],
    score: Callable[[Any], float],
    fits: int = 1,
    ridges: Sequence[float] = (RIDGE,),
) -> Any:
    """The mixture with the highest score, `None` if none can be had.

    Args:
      rows: what one fit sees, at least.
      seed: of the mixtures' beginnings.
      components: their numbers of Gaussians, from the lowest.
      score: of a mixture, which it fits.
      fits: how often it does.
      ridges: what they may add to variances, the first first.
    """
    best, best_score, spent = None, -math.inf, 0.0
    try:
        with fitting() as mixture_of:
            for ridge, count in itertools.product(ridges, components):
                if count > len(rows):
                    continue
                spent += fits * rows.size * rows.shape[1] * count * _MIXTURE_ITERATIONS
                if spent > _MULTIPLICATIONS:
                    break
                mixture = mixture_of(
                    count,
                    reg_covar=ridge,
                    max_iter=_MIXTURE_ITERATIONS,
                    random_state=seed,
                )
                found = score(mixture)
                if found > best_score:
                    best, best_score = mixture, found
    except ImportError:
        return None
    return best


def _result(log_p: np.ndarray, components: int) -> dict[str, Any]:
    return {
        "log_likelihood": float(log_p.mean()),
        "standard_error": standard_error(log_p),
        "components": components,
    }


def standard_error(values: np.ndarray) -> float:
    """The standard error of a mean; 0 for a single value."""
    return (
        float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    )


def shortfall(
    results: dict[str, Any], gaussian: dict[str, Any], features: int
) -> str | None:
    """How a flow's likelihood stands beside a Gaussian's, where it is worse.

    Args:
      results: of the flow, as `evaluate` returns them.
      gaussian: as `baselines` returns it.
      features: number of features of the table.

    Returns:
      "below" (by more than chance), "far below" (by more than a nat for each feature,
      and more than three standard errors of the Gaussian's), or `None`.
    """
    mine, other = results["log_likelihood"], gaussian["log_likelihood"]
    if not math.isfinite(mine):
        return "far below"
    # The flow's own error has no say in this: outliers that it cannot place inflate it
    # as much as they lower its mean.
    if mine < other - max(float(features), 3 * gaussian["standard_error"]):
        return "far below"
    chance = 3 * math.hypot(results["standard_error"], gaussian["standard_error"])
    return "below" if mine < other - chance else None
