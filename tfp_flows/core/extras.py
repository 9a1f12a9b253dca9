"""Optional packages, which extras of this package install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["needs"]


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """A context for imports of optional packages; errors name the extra to install.

        with needs("data"):
            import tensorflow_datasets as tfds

    Args:
      extra: name of the extra, as in `tfp_flows[extra]`.

    Raises:
      ImportError: if a module, or one that it imports, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed, which this part of tfp_flows needs: "
            f'pip install "tfp_flows[{extra}]".',
            name=error.name,
        ) from error
