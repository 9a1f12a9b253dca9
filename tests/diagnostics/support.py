"""A conjugate model, its exact posterior, and posteriors that are wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm

# How posteriors differ from N(x / 2, 1 / 2): a factor of the deviation, and a shift
# in units of it.
POSTERIORS = {"exact": (1.0, 0.0), "overconfident": (0.7, 0.0), "biased": (1.0, 1.0)}


class Model(NamedTuple):
    """Two parameters from N(0, 1), and data from N(theta, 1)."""

    truth: np.ndarray
    data: np.ndarray

    def sample(self, kind, count, data=None, seed=1):
        """Samples `[count, N, 2]` of a posterior."""
        data = self.data if data is None else data
        draw = np.random.default_rng(seed)
        center, scale = _moments(kind, data)
        return center + scale * draw.standard_normal([count, *data.shape])

    def log_prob(self, kind, theta):
        """Log-densities `[..., N]` of a posterior."""
        center, scale = _moments(kind, self.data)
        return norm.logpdf(theta, center, scale).sum(-1)


def _moments(kind, data):
    scale, shift = POSTERIORS[kind]
    deviation = np.sqrt(0.5)
    return data / 2 + shift * deviation, scale * deviation


def simulated(count=500, seed=0):
    truth, noise = np.random.default_rng(seed).standard_normal([2, count, 2])
    return Model(truth, truth + noise)


every_posterior = pytest.mark.parametrize("kind", POSTERIORS)


def check(kind, p_value):
    """The exact posterior passes, the others fail."""
    assert p_value > 0.01 if kind == "exact" else p_value < 0.01, (kind, p_value)
