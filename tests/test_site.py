"""What the site adds to the pages."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def conf():
    """Functions of `conf.py` alone: all of it needs Sphinx."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    wanted = ("links", "below_title")
    functions = [n for n in tree.body if getattr(n, "name", "") in wanted]
    names = {"json": json}
    exec(compile(ast.Module(functions, []), "conf.py", "exec"), names)
    return names


def test_links_that_run_a_notebook_elsewhere(conf):
    links = conf["links"]("5_glow.ipynb", "someone/tfp_flows")
    file = "someone/tfp_flows/blob/main/notebooks/5_glow.ipynb"
    assert f"(https://colab.research.google.com/github/{file})" in links
    at = "someone/tfp_flows/main?labpath=notebooks/5_glow.ipynb"
    assert f"(https://mybinder.org/v2/gh/{at})" in links
    assert "git+https://github.com/someone/tfp_flows" in links


def test_lines_below_the_title_of_a_notebook(conf):
    content = (ROOT / "notebooks" / "5_glow.ipynb").read_bytes()
    before, after = (
        json.loads(content),
        json.loads(conf["below_title"](content, ["one", "two"])),
    )
    title, *lines = after["cells"][0]["source"].split("\n")
    assert title == "# 5. Glow" and lines[:4] == ["", "one", "", "two"]
    assert "\n".join([title, *lines[4:]]) == "".join(before["cells"][0]["source"])
    assert after["cells"][1:] == before["cells"][1:]
