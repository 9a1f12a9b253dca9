"""The notebooks of the course run, and are stored as they should be."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from tests.support import fast_and_slow, load_script

FOLDER = Path(__file__).parent.parent / "notebooks"


execute = load_script(FOLDER / "execute.py")
NOTEBOOKS = execute.find()
PICTURE = """\
import base64
from IPython.display import display
png = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YA"
    "AAAASUVORK5CYII="
)
display({"image/png": png}, raw=True, metadata={"image/png": {"alt": "A dot."}})"""


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def _write(folder, *sources, tags=()):
    first = v4.new_code_cell("QUICK = False  # True: small", id="switch")
    cells = [v4.new_code_cell(s, id=f"cell-{i}") for i, s in enumerate(sources)]
    cells[-1].metadata["tags"] = list(tags)
    path = folder / "1_tiny.ipynb"
    nbformat.write(v4.new_notebook(cells=[first, *cells]), path)
    return path


def _texts(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def _solutions(notebook):
    """The code of the solutions of all exercises."""
    prose = "\n".join(_texts(notebook, "markdown"))
    found = re.findall(r"<summary>Solution</summary>(.*?)</details>", prose, re.S)
    blocks = [
        re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) for text in found
    ]
    return [code for block in blocks for code in block]


@pytest.mark.slow
@each
def test_it_runs_and_so_do_its_solutions(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    solutions = _solutions(notebook)
    assert len(solutions) >= 3
    for i, code in enumerate(solutions):
        if "plots.describe(" not in code:
            # What they draw is not described, and need not be shown.
            code += "\nNone"
        cell = v4.new_code_cell(f"# Solution {i}\n{code}", id=f"solution-{i}")
        notebook.cells.append(cell)
    nbformat.write(notebook, tmp_path / path.name)
    (tmp_path / "models").symlink_to(FOLDER / "models")
    execute.run(tmp_path / path.name, quick=True, timeout=600)


@each
def test_it_has_all_its_parts(path):
    notebook = nbformat.read(path, as_version=4)
    code, prose = _texts(notebook, "code"), _texts(notebook, "markdown")
    switch = next(cell for cell in notebook.cells if cell.cell_type == "code")
    expected = (
        "QUICK = False  # True: small sizes and few steps, done in under a minute"
    )
    assert switch.source == expected
    assert switch.metadata.tags == ["parameters"]
    assert re.match(r"# \S", prose[0])
    assert "what you will learn" in prose[0].lower()
    assert "keras.utils.set_random_seed(0)" in code[1]
    exercises = sum(text.count("<summary>Solution</summary>") for text in prose)
    assert exercises >= 3
    assert sum(text.count("</details>") for text in prose) == exercises
    assert "/work" not in nbformat.writes(notebook)


@each
def test_its_outputs_are_stored(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert execute.complaint(cell) is None, cell.id
    assert execute.tidy(notebook) == notebook
    assert path.stat().st_size <= execute.LARGEST_NOTEBOOK
    with Image.open(FOLDER / "thumbnails" / f"{path.stem}.png") as picture:
        assert picture.width == 320


@each
def test_its_links_lead_somewhere(path):
    prose = "\n".join(_texts(nbformat.read(path, as_version=4), "markdown"))
    links = re.findall(r"\]\(([^)#\s]+)", prose)
    here = [link for link in links if not link.startswith("http")]
    assert "README.md" in here
    for link in here:
        assert (FOLDER / link).exists(), link
    after = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :]
    assert not after or after[0].name in here


def test_the_course():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"({path.name})" in readme
        assert f"thumbnails/{path.stem}.png" in readme
    assert sum(p.stat().st_size for p in NOTEBOOKS) <= execute.LARGEST_COURSE


BAD_CELLS = {
    "error": ("1 / 0", "ZeroDivisionError"),
    "warning": ("import warnings\nwarnings.warn('look out')", "look out"),
    "log": ("import logging\nlogging.warning('look out')", "look out"),
    "printed_warning": ("print('UserWarning: look out')", "look out"),
    "printed_log": ("print('WARNING:tensorflow:look out')", "look out"),
    "death": ("import os\nos._exit(1)", "died"),
    "picture": (PICTURE.replace("A dot.", ""), "alternative text"),
    "html": (
        "from IPython.display import HTML\nHTML('<img src=\"a\">')",
        "alternative",
    ),
    "unseen": (
        "class plots:\n    describe = print\nnothing = plots.describe('A dot.')",
        "shows none",
    ),
    "animation": (
        "from IPython.display import HTML\nHTML('<img alt=\"animation\">')",
        "own",
    ),
}


# Each starts a kernel.
@pytest.mark.parametrize(
    "name", fast_and_slow(BAD_CELLS, "error", "warning", "picture")
)
def test_a_bad_cell_is_named(tmp_path, name):
    source, message = BAD_CELLS[name]
    path = _write(tmp_path, "x = 1", source, "print('never')")
    with pytest.raises(execute.NotebookError, match=message) as error:
        execute.run(path)
    first = source.partition("\n")[0]
    assert f"1_tiny.ipynb, cell cell-1 ({first}):" in str(error.value)


def test_quick_mode_and_the_machine(tmp_path):
    log = "I0000 00:00:17.1   1 cudart_stub.cc:31] Could not find cuda drivers\\n"
    source = f'import os\nos.write(2, b"{log}")\nprint(QUICK)'
    path = _write(tmp_path, source)
    before = path.read_bytes()
    assert execute.run(path, quick=True).cells[1].outputs[0].text == "True\n"
    assert execute.run(path).cells[1].outputs[0].text == "False\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("last", ["1", "1 / 0"])
def test_no_kernel_is_left(tmp_path, last):
    path = _write(
        tmp_path, f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{last}"
    )
    with contextlib.suppress(execute.NotebookError):
        execute.run(path)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_store(tmp_path, monkeypatch):
    path = _write(tmp_path, "print('hello')", PICTURE, tags=["thumbnail"])
    execute.store(path, execute.run(path))
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "hello\n"
    with Image.open(tmp_path / "thumbnails" / "1_tiny.png") as picture:
        assert picture.size == (320, 320)
    # A second run gives the same file.
    before = path.read_bytes()
    execute.store(path, execute.run(path))
    assert path.read_bytes() == before

    for limit in ("LARGEST_NOTEBOOK", "LARGEST_COURSE"):
        with monkeypatch.context() as context:
            context.setattr(execute, limit, 100)
            with pytest.raises(execute.NotebookError, match="limit"):
                execute.store(path, stored)
    stored.cells[-1].metadata.tags = []
    with pytest.raises(execute.NotebookError, match="thumbnail"):
        execute.store(path, stored)
    assert path.read_bytes() == before


def test_names(tmp_path):
    _write(tmp_path, "1")
    assert [p.stem for p in execute.find(["1_tiny"], tmp_path)] == ["1_tiny"]
    assert [p.stem for p in execute.find(folder=tmp_path)] == ["1_tiny"]
    with pytest.raises(execute.NotebookError, match="known are 1_tiny"):
        execute.find(["2_tiny"], tmp_path)


def test_command_line(tmp_path, capsys):
    path = _write(tmp_path, "QUICK")
    assert execute.main(["1_tiny", "--quick"], tmp_path) == 0
    assert "1_tiny.ipynb" in capsys.readouterr().out
    # No thumbnail: nothing is stored.
    before = path.read_bytes()
    assert execute.main([], tmp_path) == 1
    assert "thumbnail" in capsys.readouterr().err
    assert path.read_bytes() == before
    with pytest.raises(SystemExit):
        execute.main(["3_tiny"], tmp_path)
