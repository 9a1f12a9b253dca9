"""Small flows, moved away from the identity."""

from __future__ import annotations

import pytest

from tests.distributions.support import make_flow
from tfp_flows import Flow


@pytest.fixture
def flow() -> Flow:
    """Over vectors of 4, its base a Gaussian with a mean and deviations of its own."""
    return make_flow()


@pytest.fixture
def conditional() -> Flow:
    """As `flow`, with contexts of shape `[2]`."""
    return make_flow(context_shape=(2,))
