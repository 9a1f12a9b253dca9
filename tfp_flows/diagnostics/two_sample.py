"""The classifier two-sample test."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.extras import needs
from tfp_flows.core.seeds import generator
from tfp_flows.diagnostics.arrays import as_matrix
from tfp_flows.diagnostics.classifiers import new_classifier, standardized

__all__ = ["TwoSampleTest", "two_sample_test"]


class TwoSampleTest(NamedTuple):
    """The results of `two_sample_test`: how well a classifier tells samples apart.

    Example:
      >>> from tfp_flows import diagnostics
      >>> print(diagnostics.TwoSampleTest(0.51, [0.5, 0.52], 0.3274, 0.0224))
      C2ST 0.510, p-value 0.3274

    Attributes:
      accuracy: the share of samples that it tells right: 1/2 if both sets are alike, 1
        if they have nothing in common.
      accuracies: those of the folds.
      p_value: the probability of this accuracy or a higher one if the sets are alike.
      deviation: the standard deviation of the accuracy if the sets are alike.
    """

    accuracy: float
    accuracies: np.ndarray
    p_value: float
    deviation: float

    def __str__(self) -> str:
        return f"C2ST {self.accuracy:.3f}, p-value {self.p_value:.4f}"


def two_sample_test(
    first: Any,
    second: Any,
    *,
    classifier: Any = None,
    folds: int = 5,
    seed: int | None = 0,
) -> TwoSampleTest:
    r"""The classifier two-sample test, C2ST: can samples of two sets be told apart?

    A classifier is trained on the samples of all folds but one, and tested on that one.
    If both sets are of one distribution, its accuracy is about $N(1/2, 1/(4n))$ over
    $n$ samples (Lopez-Paz & Oquab 2017, section 3). Folds share what they are trained
    on, so the p-value is approximate. Samples are first brought to mean 0 and deviation
    1 by those of `first`; the classifier is that of Lueckmann et al. 2021.

    Example:
      >>> import numpy as np
      >>> from sklearn.linear_model import LogisticRegression
      >>> from tfp_flows import diagnostics
      >>> a, b = np.random.default_rng(0).normal(size=[2, 500, 2])
      >>> test = lambda a, b: diagnostics.two_sample_test(
      ...     a, b, classifier=LogisticRegression())
      >>> test(a, b).p_value > 0.01, test(a, b + 2).accuracy > 0.85
      (True, True)

    Args:
      first: `[N, ...]`, samples of the exact posterior, say.
      second: `[N, ...]`, as many.
      classifier: a classifier of scikit-learn's; by default a network with two hidden
        layers of 10 units for each number of a sample.
      folds: number of folds.
      seed: seed of the folds and the classifier; `None` for a new one.

    Returns:
      A `TwoSampleTest`.

    Raises:
      ImportError: if scikit-learn is not installed.
      TypeError: if `classifier` is none.
      ValueError: if shapes differ, or there are NaN or infinity.
    """
    a, b = as_matrix("first", first), as_matrix("second", second)
    folds = check_integer("folds", folds, 2)
    if a.shape != b.shape or len(a) < folds:
        raise ValueError(
            f"first and second must be equally many samples [N, ...], at least {folds},"
            f" got shapes {np.shape(first)} and {np.shape(second)}."
        )
    with needs("data"):
        from sklearn.model_selection import StratifiedKFold
    draw = generator(seed)
    seeds = draw.integers(2**31, size=folds + 1)
    x = np.concatenate(standardized(a, a, b))
    y = np.repeat([0, 1], len(a))
    accuracies = []
    split = StratifiedKFold(folds, shuffle=True, random_state=int(seeds[-1]))
    for seed, (train, test) in zip(seeds[:-1], split.split(x, y), strict=True):
        model = new_classifier(classifier, x.shape[1], int(seed))
        model.fit(x[train], y[train])
        accuracies.append(np.mean(model.predict(x[test]) == y[test]))
    accuracy, deviation = float(np.mean(accuracies)), 0.5 / math.sqrt(len(x))
    return TwoSampleTest(
        accuracy=accuracy,
        accuracies=np.array(accuracies),
        p_value=0.5 * math.erfc((accuracy - 0.5) / deviation / math.sqrt(2)),
        deviation=deviation,
    )
