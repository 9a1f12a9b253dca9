"""Calibration of posteriors, over parameters from the prior and data made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.seeds import generator
from tfp_flows.diagnostics.arrays import as_pairs, check_numbers
from tfp_flows.diagnostics.uniformity import Uniformity, uniformity

__all__ = ["expected_coverage", "simulation_based_calibration", "tarp"]


def simulation_based_calibration(
    truth: Any, samples: Any, *, level: float = 0.95, seed: int | None = 0
) -> Uniformity:
    r"""Whether the rank of each true parameter among posterior samples is uniform.

    For $\theta_i \sim p(\theta)$, $x_i \sim p(x | \theta_i)$ and samples $\theta_{is}$
    of the posterior of $x_i$, the rank $\sum_s [\theta_{is} < \theta_i]$ of every
    parameter is uniform on $0, \dots, S$ (Talts et al. 2018, theorem 1). A posterior
    that is too narrow gives too many ranks at both ends, a biased one at one end. It
    says nothing of how parameters depend on each other.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics
      >>> draw = np.random.default_rng(0)
      >>> truth, center = draw.normal(size=[2, 300, 1])
      >>> exact = center + draw.normal(size=[99, 300, 1])
      >>> found = diagnostics.simulation_based_calibration(center + truth, exact)
      >>> found.p_value > 0.01
      True

    Args:
      truth: `[N, *shape]`, parameters, or a structure of them, such as `simulate`
        gives.
      samples: `[S, N, *shape]`, samples of the posteriors of the N data sets:
        `posterior.given(data).sample(S)`. They should be independent; thin chains.
      level: probability of the simultaneous band.
      seed: seed of the random order of ties, and of the null distribution.

    Returns:
      A `Uniformity` of ranks, one kind for each parameter; values are `(rank + 1/2) /
      (S + 1)`.

    Raises:
      ValueError: if shapes do not fit, N is below 10, or there are NaN or infinity.
    """
    truth, samples, names = as_pairs(truth, samples)
    ranks = _ranks(samples, truth, seed)
    return uniformity(ranks, len(samples) + 1, names=names, level=level, seed=seed)


def expected_coverage(
    log_prob: Any, sample_log_prob: Any, *, level: float = 0.95, seed: int | None = 0
) -> Uniformity:
    r"""How often highest-density regions of posteriors hold the true parameters.

    The smallest credibility $1 - \alpha$ of a region of highest density that holds the
    true parameters is the share of samples with a higher density. It is uniform if
    regions hold the truth as often as they claim to (Hermans et al. 2022, "A Crisis in
    Simulation-Based Inference?", equation 4). Curves below the diagonal say that the
    posteriors are overconfident.

        theta, x = inference.simulate(prior, simulator, 500)
        q = posterior.given(x)
        _, of_samples = q.experimental_sample_and_log_prob(200)
        found = diagnostics.expected_coverage(q.log_prob(theta), of_samples)

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics
      >>> draw = np.random.default_rng(0)
      >>> truth, narrow = draw.normal(size=300), 0.5 * draw.normal(size=[99, 300])
      >>> log_q = lambda x: -2 * x**2
      >>> found = diagnostics.expected_coverage(log_q(truth), log_q(narrow))
      >>> bool(found.fractions[49] < 0.35)
      True

    Args:
      log_prob: `[N]`, log-densities of the true parameters under the posteriors of
        their data, in nats, up to a constant for each.
      sample_log_prob: `[S, N]`, those of samples of the posteriors.
      level: probability of the simultaneous band.
      seed: seed of the random order of ties, and of the null distribution.

    Returns:
      A `Uniformity`: `fractions` are the coverage of the regions of credibility
      `points`.

    Raises:
      ValueError: if shapes do not fit, N is below 10, or there is NaN.
    """
    own = check_numbers("log_prob", log_prob, finite=False)
    others = check_numbers("sample_log_prob", sample_log_prob, finite=False)
    if own.ndim != 1 or others.ndim != 2 or others.shape[1:] != own.shape:
        raise ValueError(
            "log_prob must be [N] and sample_log_prob [S, N], got shapes "
            f"{own.shape} and {others.shape}."
        )
    ranks = _ranks(-others, -own, seed)
    return uniformity(
        ranks, len(others) + 1, names=["coverage"], level=level, seed=seed
    )


def tarp(
    truth: Any,
    samples: Any,
    references: Any = None,
    *,
    level: float = 0.95,
    seed: int | None = 0,
) -> Uniformity:
    r"""Tests of accuracy with random points: coverage of balls around them.

    The share of posterior samples that are closer to a reference point than the true
    parameters is uniform if the posterior is right; and, over all references that may
    depend on the data, only then (Lemos et al. 2023, "Sampling-Based Accuracy Testing
    of Posterior Estimators", theorem 3). It needs samples alone, no densities, and sees
    all parameters together.

    Distances are Euclidean, in units of the range of each parameter in `truth`.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics
      >>> draw = np.random.default_rng(0)
      >>> truth, center = draw.normal(size=[2, 300, 2])
      >>> exact = center + draw.normal(size=[99, 300, 2])
      >>> diagnostics.tarp(center + truth, exact).p_value > 0.01
      True

    Args:
      truth: `[N, *shape]`, parameters, or a structure of them.
      samples: `[S, N, *shape]`, samples of the posteriors of their data.
      references: `[N, *shape]`, a point for each data set, in the structure of `truth`,
        which may depend on the data but not on the truth; by default uniform over the
        range of all truths. References that ignore the data cannot tell the posterior
        from the prior.
      level: probability of the simultaneous band.
      seed: seed of the references, of ties, and of the null distribution.

    Returns:
      A `Uniformity`: `fractions` are the expected coverage at credibility `points`.

    Raises:
      ValueError: if shapes do not fit, N is below 10, or there are NaN or infinity.
    """
    given = references
    if given is not None:
        _, given, _ = as_pairs(truth, _with_axis(references))
    truth, samples, _ = as_pairs(truth, samples)
    low, high = truth.min(0), truth.max(0)
    unit = np.where(high > low, high - low, 1.0)
    if given is None:
        points = low + unit * generator(seed).uniform(size=truth.shape)
    else:
        points = given[0]
    own = np.linalg.norm((truth - points) / unit, axis=-1)
    others = np.linalg.norm((samples - points) / unit, axis=-1)
    ranks = _ranks(others, own, seed)
    return uniformity(
        ranks, len(samples) + 1, names=["coverage"], level=level, seed=seed
    )


def _with_axis(structure):
    return tf.nest.map_structure(lambda part: np.asarray(part)[None], structure)


def _ranks(samples, truth, seed):
    """How many samples `[S, ...]` are below the truth `[...]`; ties count at random."""
    below, ties = (samples < truth).sum(0), (samples == truth).sum(0)
    return below + generator(seed).integers(ties + 1)
