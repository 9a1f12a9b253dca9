"""The Chinese edition has the code of the English one, and translates what it says."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from tests.support import load_script

FOLDER = Path(__file__).parent.parent / "notebooks"
translate = load_script(FOLDER / "translate.py")
FILES = translate.find()

each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_the_first_three_are_there():
    assert [path.stem[0] for path in FILES] == ["0", "1", "2"]


@each
def test_nothing_changed_since_it_was_translated(path):
    assert translate.stale(path) == []


@each
def test_it_is_the_english_notebook_but_for_its_prose(path):
    own = translate.translated(path)
    english = nbformat.read(FOLDER / f"{path.stem}.ipynb", as_version=4)
    for one, other in zip(own.cells, english.cells, strict=True):
        assert one.cell_type == other.cell_type
        if one.cell_type == "code":
            assert one == other
            continue
        assert re.search("[\u4e00-\u9fff]", one.source)
        assert one.source.count("#") == other.source.count("#")
        for link in re.findall(r"\]\(([^)#\s]+)", one.source):
            near = (FOLDER / "zh" / link).with_suffix(".md")
            assert (
                link.startswith("http")
                or (FOLDER / "zh" / link).exists()
                or (near in FILES)
            )


def write(folder, prose, text="# One\n\n$$ x $$\n\n```python\n1\n```"):
    cells = [v4.new_markdown_cell(text, id="a"), v4.new_code_cell("1", id="b")]
    nbformat.write(v4.new_notebook(cells=cells), folder / "0_tiny.ipynb")
    (folder / "zh").mkdir(exist_ok=True)
    path = folder / "zh" / "0_tiny.md"
    path.write_text(prose.replace("SUM", translate.checksum(text)), encoding="utf-8")
    return path


GOOD = (
    "<!-- cell: a SUM -->\n# 一\n\n{{formula}}\n\n{{code}}\n[x](0_tiny.ipynb) [y](y.md)"
)


def test_what_is_built(tmp_path, capsys):
    write(tmp_path, GOOD)
    assert translate.main(["--stale"], tmp_path) == 0
    assert translate.main([], tmp_path) == 0
    built = nbformat.read(tmp_path / "zh" / "0_tiny.ipynb", as_version=4)
    assert built.cells[0].source == (
        "# 一\n\n$$ x $$\n\n```python\n1\n```\n[x](0_tiny.ipynb) [y](../y.md) "
        "[English](../0_tiny.ipynb)"
    )
    write(tmp_path, GOOD.replace("SUM", "00000000"))
    assert translate.main(["--stale"], tmp_path) == 1
    assert "0_tiny.md: a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prose", "message"),
    [
        ("", "cell a is not translated"),
        ("text\n" + GOOD, "'text' is of no cell"),
        (f"{GOOD}\n{GOOD}", "translated twice"),
        (GOOD.replace("{{code}}", ""), r"has 0 \{\{code\}\}, its English text 1"),
    ],
)
def test_errors(tmp_path, prose, message):
    path = write(tmp_path, prose)
    with pytest.raises(translate.TranslationError, match=message):
        translate.translated(path)
