"""What tests of the command line share."""

from __future__ import annotations

import numpy as np

from tfp_flows.command import cli


def call(*arguments) -> int:
    """The exit code of a command."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code


def assert_same_up_to_rounding(one, other):
    """Asserts that two runs took the same steps, by lists of what they ended in.

    Rounding differs from run to run: `AddN`, which sums gradients, begins with whatever
    input's memory it may overwrite, and that depends on which operation ends first.
    """
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
