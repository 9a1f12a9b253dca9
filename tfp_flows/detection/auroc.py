"""How well a score separates two sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_flows.core.extras import needs

__all__ = ["auroc"]


def auroc(usual: Any, unusual: Any) -> float:
    """Area under the ROC curve: how often an unusual event has the higher score.

    0.5 is a coin, 1 is perfect; below 0.5 the score points the wrong way.

    Example:
      >>> auroc([0.0, 1.0], [2.0, 0.5])
      0.75

    Args:
      usual: scores `[N]` of data like those of the training.
      unusual: scores `[M]` of other data.

    Returns:
      A number from 0 to 1; ties count half, infinity is the highest score.

    Raises:
      ValueError: on another shape, no scores, or NaN.
      ImportError: if scikit-learn is not installed.
    """
    scores = [np.asarray(s, np.float64) for s in (usual, unusual)]
    for name, s in zip(("usual", "unusual"), scores, strict=True):
        if s.ndim != 1 or not s.size or np.isnan(s).any():
            raise ValueError(
                f"{name} must be a vector of scores without NaN, got shape {s.shape}"
                f"{' with NaN' if np.isnan(s).any() else ''}."
            )
    with needs("data"):
        from sklearn.metrics import roc_auc_score
    # Ranks, since scikit-learn refuses infinity.
    _, ranks = np.unique(np.concatenate(scores), return_inverse=True)
    return float(roc_auc_score(np.repeat([0, 1], [len(s) for s in scores]), ranks))
