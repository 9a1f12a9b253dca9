"""What tests of the command line share."""

from __future__ import annotations

from tfp_flows.command import cli


def call(*arguments) -> int:
    """The exit code of a command."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code
