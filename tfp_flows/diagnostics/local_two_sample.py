"""The local classifier two-sample test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import generator
from tfp_flows.diagnostics.arrays import as_matrix, as_pairs
from tfp_flows.diagnostics.classifiers import new_classifier, standardized

__all__ = ["LocalTwoSampleTest", "local_two_sample_test"]


class LocalTwoSampleTest(NamedTuple):
    """The results of `local_two_sample_test` at each of M observations.

    Example:
      >>> from tfp_flows import diagnostics
      >>> print(diagnostics.LocalTwoSampleTest([0.01, 0.2], [[0.02] * 2], [1.0, 0.5]))
      L-C2ST 0.0100, p-value 1.0000, L-C2ST 0.2000, p-value 0.5000

    Attributes:
      statistics: `[M]`, mean squares of its probability less 1/2, over samples of the
        posterior: 0 if it cannot tell them from the truth, 1/4 if it always can.
      null: `[P, M]`, the same of P classifiers that were trained with labels at random.
      p_values: `[M]`, shares of all classifiers whose statistic is at least that large,
        with the one that learned true labels counted.
    """

    statistics: np.ndarray
    null: np.ndarray
    p_values: np.ndarray

    def __str__(self) -> str:
        return ", ".join(
            f"L-C2ST {t:.4f}, p-value {p:.4f}"
            for t, p in zip(self.statistics, self.p_values, strict=True)
        )


def local_two_sample_test(
    truth: Any,
    samples: Any,
    data: Any,
    observed_samples: Any,
    observed: Any,
    *,
    classifier: Any = None,
    permutations: int = 50,
    seed: int | None = 0,
) -> LocalTwoSampleTest:
    r"""The local classifier two-sample test, L-C2ST: is one posterior right?

    A classifier learns to tell $(\theta_i, x_i)$ of the joint distribution from
    $(\tilde\theta_i, x_i)$ with a sample of the posterior of $x_i$. At the observation
    $x_o$, the statistic is the mean of $(d(\theta, x_o) - 1/2)^2$ over samples of its
    posterior, with $d$ the probability of a class. It is compared with those of
    classifiers whose labels were permuted (Linhart et al. 2023, "L-C2ST", section 3).
    No exact posterior is needed.

    It is only as good as the classifier; the default network needs thousands of pairs.
    All `permutations + 1` classifiers are trained on 2 N rows.

    Example:
      >>> import numpy as np
      >>> from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
      >>> from tfp_flows import diagnostics
      >>> draw = np.random.default_rng(0)
      >>> x = draw.normal(size=[500, 1])
      >>> truth, samples = x + draw.normal(size=[2, 500, 1])
      >>> at = np.array([[0.0], [1.0]])
      >>> found = diagnostics.local_two_sample_test(
      ...     truth, samples, x, at + draw.normal(size=[200, 2, 1]), at,
      ...     classifier=QuadraticDiscriminantAnalysis(), permutations=19)
      >>> found.p_values.shape, bool(found.p_values.min() > 0.04)
      ((2,), True)

    Args:
      truth: `[N, *shape]`, parameters, or a structure of them.
      samples: `[N, *shape]`, one sample of the posterior of each data set, in the same
        structure: `posterior.given(data).sample()`.
      data: `[N, *data_shape]`, data of `truth`.
      observed_samples: `[S, M, *shape]`, samples of the posteriors of the observations:
        `posterior.given(observed).sample(S)`.
      observed: `[M, *data_shape]`, the observations.
      classifier: a classifier of scikit-learn's with `predict_proba`; by default a
        network with two hidden layers of 10 units for each feature.
      permutations: number of classifiers for the null distribution.
      seed: seed of permutations and classifiers; `None` for a new one.

    Returns:
      A `LocalTwoSampleTest`. The smallest p-value is `1 / (permutations + 1)`.

    Raises:
      ImportError: if scikit-learn is not installed.
      TypeError: if `classifier` is none.
      ValueError: if shapes do not fit, or there are NaN or infinity.
    """
    with_axis = tf.nest.map_structure(lambda part: np.asarray(part)[None], samples)
    theta, drawn, _ = as_pairs(truth, with_axis)
    first = tf.nest.map_structure(lambda part: np.asarray(part)[0], observed_samples)
    _, at, _ = as_pairs(first, observed_samples)
    x, points = as_matrix("data", data), as_matrix("observed", observed)
    fits = len(x) == len(theta) and len(points) == at.shape[1]
    if not fits or np.shape(data)[1:] != np.shape(observed)[1:]:
        raise ValueError(
            "data must be [N, *data_shape] for N truths, and observed [M, *data_shape] "
            f"for observed_samples [S, M, ...]; got shapes {np.shape(data)} for "
            f"{len(theta)} truths, and {np.shape(observed)} for {at.shape[1]} columns "
            "of samples."
        )
    if at.shape[-1] != theta.shape[-1]:
        raise ValueError(
            "observed_samples and truth must have the same parameters, got "
            f"{at.shape[-1]} and {theta.shape[-1]}."
        )
    permutations = check_integer("permutations", permutations)
    theta, drawn, at = standardized(theta, theta, drawn[0], at)
    x, points = standardized(x, x, points)
    rows = np.concatenate([np.hstack([theta, x]), np.hstack([drawn, x])])
    labels = np.repeat([0, 1], len(x))
    where = np.broadcast_to(points, [*at.shape[:2], points.shape[-1]])
    at = np.concatenate([at, where], -1)
    draw = generator(seed)

    def statistics(labels):
        model = new_classifier(classifier, rows.shape[1], int(draw.integers(2**31)))
        model.fit(rows, labels)
        d = model.predict_proba(at.reshape(-1, at.shape[-1]))[:, 1]
        return np.mean((d.reshape(at.shape[:2]) - 0.5) ** 2, axis=0)

    found = statistics(labels)
    null = np.stack([statistics(draw.permutation(labels)) for _ in range(permutations)])
    p_values = ((null >= found).sum(0) + 1) / (permutations + 1)
    return LocalTwoSampleTest(found, null, p_values)
