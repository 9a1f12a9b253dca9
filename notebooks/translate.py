"""Builds the Chinese edition of notebooks: their code and figures, other prose.

python notebooks/translate.py            writes notebooks/zh/*.ipynb
python notebooks/translate.py --stale    lists prose that changed since its translation

`zh/NAME.md` holds the prose of a notebook alone, each cell behind a line
`<!-- cell: ID SUM -->`, with a checksum of the English text that it translates. In it
`{{formula}}` stands for the next displayed formula of the English cell, `{{code}}` for
its next block of code. Code and outputs are those of the English notebook, so both
editions are always the same there.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parent

_CELL = re.compile(r"^<!-- cell: (\S+) (\w+) -->\n", re.M)
_BLOCKS = {
    "{{formula}}": re.compile(r"^\$\$.*?\$\$", re.M | re.S),
    "{{code}}": re.compile(r"^```python\n.*?^```$", re.M | re.S),
}
# Links of a notebook stand in the folder above, but to notebooks that are translated.
_LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


class TranslationError(Exception):
    """A translation does not fit its notebook."""


def find(folder: Path = FOLDER) -> list[Path]:
    """The files of the translations, in order."""
    return sorted((folder / "zh").glob("*.md"))


def checksum(text: str) -> str:
    """A short fingerprint of a cell's English text."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


def read(path: Path) -> dict[str, tuple[str, str]]:
    """Checksum and translation of each cell of a file, by the cell's id."""
    before, *found = _CELL.split(path.read_text(encoding="utf-8"))
    if before.strip():
        raise TranslationError(f"{path.name}: {before.strip()[:40]!r} is of no cell.")
    ids, sums, texts = found[::3], found[1::3], found[2::3]
    if len(set(ids)) < len(ids):
        raise TranslationError(f"{path.name}: a cell is translated twice.")
    return {i: (s, t.strip()) for i, s, t in zip(ids, sums, texts, strict=True)}


def stale(path: Path) -> list[str]:
    """The cells whose English text is another than the one translated, or missing."""
    english = _prose(path)
    found = read(path)
    unknown = [i for i in found if i not in english]
    changed = [
        i for i, text in english.items() if found.get(i, ("",))[0] != checksum(text)
    ]
    return unknown + changed


def translated(path: Path) -> nbformat.NotebookNode:
    """The notebook of a translation.

    Raises:
      TranslationError: if a cell of prose has no translation, or that of a cell has not
        as many formulas or blocks of code.
    """
    notebook, found = nbformat.read(_source(path), as_version=4), read(path)
    known = {f"{p.stem}.ipynb" for p in find(path.parent.parent)}

    def link(match):
        target = match[1] if match[1] in known else f"../{match[1]}"
        return f"]({target})"

    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        if cell.id not in found:
            raise TranslationError(f"{path.name}: cell {cell.id} is not translated.")
        text = _LINK.sub(link, found[cell.id][1])
        for mark, pattern in _BLOCKS.items():
            blocks = pattern.findall(cell.source)
            parts = text.split(mark)
            if len(parts) != len(blocks) + 1:
                raise TranslationError(
                    f"{path.name}: cell {cell.id} has {len(parts) - 1} {mark}, its "
                    f"English text {len(blocks)}."
                )
            joined = zip(parts, [*blocks, ""], strict=True)
            text = "".join(part + block for part, block in joined)
        cell.source = text
    notebook.cells[0].source += f" [English](../{path.stem}.ipynb)"
    return notebook


def write(target: Path, folder: Path = FOLDER) -> list[Path]:
    """Writes all translated notebooks to a folder; files that do not change stay."""
    written = []
    target.mkdir(parents=True, exist_ok=True)
    for path in find(folder):
        file = target / f"{path.stem}.ipynb"
        text = nbformat.writes(translated(path)) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


def _source(path):
    return path.parent.parent / f"{path.stem}.ipynb"


def _prose(path):
    notebook = nbformat.read(_source(path), as_version=4)
    return {c.id: c.source for c in notebook.cells if c.cell_type == "markdown"}


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description="Build the Chinese notebooks.")
    parser.add_argument("--stale", action="store_true", help="list what changed")
    if parser.parse_args(arguments).stale:
        lines = [f"{p.name}: {i}" for p in find(folder) for i in stale(p)]
        print("\n".join(lines) or "all translations are up to date")
        return 1 if lines else 0
    for path in write(folder / "zh", folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
