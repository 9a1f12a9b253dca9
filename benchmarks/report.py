"""What scripts with several parts share: which are run, and their tables."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence

__all__ = ["add_parts", "table"]


def add_parts(parser: argparse.ArgumentParser, parts: Collection[str]) -> None:
    """Adds the argument `parts`: which of them to run, none for all."""

    def part(text):
        if text not in parts:
            raise argparse.ArgumentTypeError(f"must be one of {[*parts]}, got {text!r}")
        return text

    # `choices` refuses an empty list.
    parser.add_argument("parts", nargs="*", type=part, help=f"of {[*parts]}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
