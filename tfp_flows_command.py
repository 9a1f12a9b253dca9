"""Where `tfp-flows` starts: what needs no TensorFlow is answered without it.

Importing anything of the package `tfp_flows` imports TensorFlow, for seconds. So this
module opens the folder `tfp_flows/command` as a package of its own, parses with it,
which ends the program after help or a mistake, and only then imports `tfp_flows`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["main"]

# Finding a package does not import it.
_FOUND = importlib.util.find_spec("tfp_flows").submodule_search_locations
__path__ = [str(Path(folder) / "command") for folder in _FOUND]


def main() -> int:
    """Runs a command; returns the exit code, see `tfp_flows.command.cli.main`."""
    from tfp_flows_command import parser

    try:
        if parser.answer(parser.parse(sys.argv[1:])):
            sys.stdout.flush()
            return 0
    except BrokenPipeError:
        # The reader of the output has left, as `head` does.
        sys.stderr.close()
        return 1
    from tfp_flows.command.cli import main
    from tfp_flows.training import keep_freed_memory

    keep_freed_memory()
    return main()


if __name__ == "__main__":
    sys.exit(main())
