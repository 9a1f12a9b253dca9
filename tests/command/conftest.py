"""What tests of the command line share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.command.support import call
from tfp_flows import datasets
from tfp_flows.command.settings import Settings


@pytest.fixture
def fails(capsys):
    """Runs a command that ends in one line on stderr, and returns the line."""

    def check(*arguments, code=2):
        capsys.readouterr()
        assert call(*arguments) == code
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert line.startswith("tfp-flows")
        assert "Traceback" not in out
        return line

    return check


@pytest.fixture
def says(capsys):
    """Runs a command that succeeds, and returns what it prints."""

    def check(*arguments):
        capsys.readouterr()
        assert call(*arguments) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return check


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A file of 64 points in the plane, of which 52 are for training."""
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=datasets.TOYS["moons"].sample(64, 0))
    return str(path)


@pytest.fixture(scope="session")
def settings(data):
    return Settings(
        data=data,
        flow="real_nvp",
        flow_options={"layers": 1, "width": 4, "depth": 1},
        epochs=3,
        batch_size=16,
        learning_rate=0.01,
        seed=1,
    )
