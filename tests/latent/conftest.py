"""Small flows of each kind."""

from __future__ import annotations

import pytest

from tests.flows.support import SMALL


@pytest.fixture
def nice():
    return SMALL["nice"].make(dtype="float64")


@pytest.fixture
def labelled():
    return SMALL["real_nvp"].make(dtype="float64", num_classes=3)


@pytest.fixture
def multiscale():
    return SMALL["real_nvp_image"].make(0.1, dtype="float64")
