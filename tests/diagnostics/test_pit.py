from __future__ import annotations

import numpy as np
import pytest
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tests.support import normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows
from tfp_flows.diagnostics import pit

X = np.random.default_rng(0).standard_normal([500, 2]).astype("float32")


def flow(log_scale=0.0, shift=0.0):
    """x = 3 + 2 z if both are 0."""
    base = distributions.standard_normal((2,))
    shift = tfb.Shift([3.0 + shift, 0.0])
    scale = bijectors.Scaling([2], log_scale=[np.log(2.0) + log_scale, 0.0])
    return Flow(base, bijectors.Chain([shift, scale]))


def test_flow():
    x = X * [2.0, 1.0] + [3.0, 0.0]
    assert pit(flow(), x).p_value > 0.05
    for wrong in (flow(log_scale=np.log(0.7)), flow(shift=0.7)):
        found = pit(wrong, x)
        # The other entry is right.
        assert found.p_values[0] < 0.001 and found.p_values[1] > 0.05


def test_distributions_of_single_numbers():
    x = X[:, 0]
    assert pit(tfd.Normal(0.0, 1.0), x).p_value > 0.05
    assert pit(tfd.Normal(0.0, 0.7), x).p_value < 0.001
    assert pit(tfd.Normal(0.3, 1.0), x).p_value < 0.001
    np.testing.assert_allclose(
        pit(tfd.Normal(0.0, 1.0), x).values[:, 0],
        tfd.Normal(0.0, 1.0).cdf(x),
        rtol=1e-6,
    )


def test_under_contexts():
    conditional = distributions.Conditional(
        lambda c: tfd.Independent(tfd.Normal(c, 1.0), 1), (2,), (2,)
    )
    moved = Flow(conditional, bijectors.Scaling([2], log_scale=[0.0, 0.0]))
    with pytest.raises(ValueError, match="no distribution function"):
        pit(moved.given(X), X)
    flow = flows.maf((2,), context_shape=(3,), layers=1, normalize=False, seed=0)
    perturb(flow, 0.5)
    given = flow.given(normal(500, 3, dtype="float32"))
    found = pit(given, given.sample(seed=0))
    assert found.p_value > 0.05 and found.names == ("0", "1")
    assert pit(given, given.sample(seed=0) + 0.5).p_value < 0.001


def test_errors():
    with pytest.raises(TypeError, match="must be a TFP distribution, got function"):
        pit(lambda x: x, X)
    with pytest.raises(ValueError, match="event_shape \\(2,\\), got \\(500,\\)"):
        pit(flow(), X[:, 0])
    with pytest.raises(ValueError, match="expected_coverage"):
        pit(tfd.MultivariateNormalDiag([0.0, 0.0]), X)
    with pytest.raises(ValueError, match="x must not hold NaN"):
        pit(flow(), X * np.nan)
