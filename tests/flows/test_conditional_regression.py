"""Several answers to one question: a flow beside a Gaussian head."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import conditional_regression as benchmark


def test_true_density_is_normalised_and_the_datas():
    x = np.full((4001, 1), 0.5)
    y = np.linspace(-0.2, 1.2, 4001)[:, None]
    density = np.exp(benchmark.true_log_prob(x, y))
    assert abs(density.sum() * (y[1, 0] - y[0, 0]) - 1) < 0.01
    gaussian = np.exp(benchmark.best_gaussian_log_prob(x, y))
    assert abs(gaussian.sum() * (y[1, 0] - y[0, 0]) - 1) < 0.02
    # Three values of y fit x = 0.5: peaks, with next to nothing in between.
    inside = density[1:-1]
    peaks = (inside > density[:-2]) & (inside > density[2:]) & (inside > 1)
    assert peaks.sum() == 3


@pytest.mark.slow
def test_flow_beats_a_gaussian_head():
    heads, found = benchmark.run(3000, 1000, 12)
    lead, gap = found["lead"], found["truth"]["mean"] - found["flow"]["mean"]
    assert lead["mean"] > 0.4
    assert lead["mean"] > 10 * lead["standard_error"]
    assert gap < 0.4
    # More than any Gaussian could have, however it was trained.
    assert found["flow"]["mean"] > found["best_gaussian"]["mean"] + 0.2
    # What the flow's log-likelihood is of integrates to one.
    y = np.linspace(-1, 2, 3001, dtype="float32")[:, None]
    density = np.exp(heads["flow"].log_prob(np.full_like(y, 0.5), y))
    assert abs(density.sum() * 0.001 - 1) < 0.02
