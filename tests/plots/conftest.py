"""What every test of pictures is given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def nothing_registered_with_pyplot():
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def path(tmp_path):
    """A file to write, beside which nothing else appears."""
    file = tmp_path / "figure.png"
    yield file
    assert [p.name for p in tmp_path.iterdir()] in ([], [file.name])
