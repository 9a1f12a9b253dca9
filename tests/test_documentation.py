"""The code of the README and of all pages runs, and the pages list what there is.

Blocks of a page run in their order and share names. A comment above a block,
`<!-- test: slow -->`, leaves it to the slow tests (which run all of the page, as they
do of `SLOW_PAGES`); `<!-- test: skip -->` is for code of other libraries.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import tfp_flows

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Neither what a build leaves there, nor the notebooks, which have tests of their own.
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    if not {"_build", "notebooks"} & set(path.relative_to(ROOT).parts)
]
# What their code shows has tests of its own; some of them compile or train much of it.
SLOW_PAGES = {
    "docs/deployment.md",
    "docs/guide/from_other_libraries.md",
    "docs/guide/training.md",
    "docs/index.md",
    "docs/latent.md",
}
PACKAGE_PAGE = (DOCS / "guide" / "package.md").read_text()
_BLOCK = re.compile(r"(?:<!-- test: (\w+) -->\n)?^```python\n(.*?)^```$", re.M | re.S)


def blocks(text: str) -> list[tuple[str, int, str]]:
    """Mark, line and code of each block of Python; the mark is empty without one."""
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(2))
        found.append((match[1] or "", line, match[2]))
    return found


def pages(slow: bool):
    """Pages of which all or some is slow; pages of which something is not."""
    found = []
    for path in PAGES:
        name = str(path.relative_to(ROOT))
        marks = {mark for mark, _, _ in blocks(path.read_text())}
        whole = name in SLOW_PAGES
        if (whole or "slow" in marks) if slow else ("" in marks and not whole):
            found.append(pytest.param(path, id=name))
    return found


def run(path, marks, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
    names = {"__name__": "page"}
    for mark, line, code in blocks(path.read_text()):
        if mark in marks:
            # Faults name the line of the page.
            exec(compile("\n" * line + code, str(path), "exec"), names)


@pytest.mark.parametrize("path", pages(slow=False))
def test_code_of_a_page_runs(path, tmp_path, monkeypatch):
    run(path, {""}, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("path", pages(slow=True))
def test_slow_code_of_a_page_runs(path, tmp_path, monkeypatch):
    run(path, {"", "slow"}, tmp_path, monkeypatch)


def test_blocks_are_found_with_their_marks():
    text = (
        "```python\na\n```\n<!-- test: slow -->\n```python\nb\n```\n```bash\nc\n```\n"
        ":::{div}\n<!-- test: skip -->\n```python\nd\n\nd\n```\n:::\n"
    )
    found = [("", 1, "a\n"), ("slow", 5, "b\n"), ("skip", 13, "d\n\nd\n")]
    assert blocks(text) == found


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_say_what_is_known(path):
    text = path.read_text()
    assert {mark for mark, _, _ in blocks(text)} <= {"", "slow", "skip"}
    # Links within the repository, with or without a heading of the page.
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", prose):
        target = path.parent / link
        known = target.exists() or target.with_suffix(".rst").exists()
        # The site's copy of the notebooks.
        known |= (ROOT / "notebooks" / Path(link).name).exists()
        assert known, link


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert "|---" not in text
    assert len(text.splitlines()) <= 110


@pytest.mark.parametrize("package", ["bijectors", "transformers"])
def test_the_page_of_the_package_lists_every_kind(package):
    module = importlib.import_module(f"tfp_flows.{package}")
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) and name not in ("JointBijector", "Transformer"):
            assert re.search(rf"^\|.*`{name}`.*\|", PACKAGE_PAGE, re.M), name


def test_the_page_of_the_package_lists_every_package():
    for name in tfp_flows.__all__:
        if inspect.ismodule(getattr(tfp_flows, name)):
            assert f"{{{{names tfp_flows.{name}}}}}" in PACKAGE_PAGE
