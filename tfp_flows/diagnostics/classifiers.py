"""Classifiers of scikit-learn's, which tell two sets of samples apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_flows.core.extras import needs

__all__ = ["new_classifier", "standardized"]


def new_classifier(classifier: Any, features: int, seed: int) -> Any:
    """An unfitted copy of a classifier, by default a network of Lueckmann et al. 2021.

    Args:
      classifier: one with scikit-learn's methods, or `None` for two hidden layers of 10
        units for each feature.
      features: number of features.
      seed: its `random_state`, if it has one.

    Raises:
      TypeError: if it has no `predict_proba`.
    """
    with needs("data"):
        from sklearn.base import clone
        from sklearn.neural_network import MLPClassifier
    if classifier is None:
        classifier = MLPClassifier([10 * features] * 2, max_iter=1000)
    if not hasattr(classifier, "predict_proba"):
        raise TypeError(
            "classifier must be one of scikit-learn's with predict_proba, got "
            f"{type(classifier).__name__}."
        )
    new = clone(classifier)
    if "random_state" in new.get_params():
        new.set_params(random_state=seed)
    return new


def standardized(reference: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays `[..., D]` in units of the mean and deviation of a reference `[N, D]`."""
    mean, deviation = reference.mean(0), reference.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return [(array - mean) / deviation for array in arrays]
