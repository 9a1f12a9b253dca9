"""Mixtures of Gaussians that scikit-learn fits."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tfp_flows.core.extras import needs

__all__ = ["RIDGE", "fitting"]

# Variance that a fit adds to each entry, by scikit-learn's choice: an entry that others
# determine has a density all the same.
RIDGE = 1e-6


@contextlib.contextmanager
def fitting() -> Iterator[Callable[..., Any]]:
    """A context for fits: gives scikit-learn's `GaussianMixture`.

    Raises:
      ImportError: if scikit-learn is not installed.
    """
    with needs("data"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    # For matrices this small, threads cost ten times what they save.
    with threadpool_limits(1), warnings.catch_warnings():
        # A mixture that has not converged is a density as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield GaussianMixture
