"""Text for a terminal. Nothing is imported here."""

from __future__ import annotations

from typing import Any

__all__ = ["printable"]


def printable(text: Any) -> str:
    """Text without what a terminal would obey: it may come from a stranger's file."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in str(text)
    )
