"""What the site adds to the pages."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def with_links():
    """The function alone: all of `conf.py` needs Sphinx."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    (function,) = (n for n in tree.body if getattr(n, "name", "") == "with_links")
    names = {"json": json}
    exec(compile(ast.Module([function], []), "conf.py", "exec"), names)
    return names["with_links"]


def test_links_that_run_a_notebook_elsewhere(with_links):
    path = ROOT / "notebooks" / "5_glow.ipynb"
    before = json.loads(path.read_bytes())
    after = json.loads(with_links(path.read_bytes(), path.name, "someone/tfp_flows"))
    title, empty, links, *rest = after["cells"][0]["source"].split("\n")
    assert title == "# 5. Glow" and empty == ""
    file = "someone/tfp_flows/blob/main/notebooks/5_glow.ipynb"
    assert f"(https://colab.research.google.com/github/{file})" in links
    at = "someone/tfp_flows/main?labpath=notebooks/5_glow.ipynb"
    assert f"(https://mybinder.org/v2/gh/{at})" in links
    assert "git+https://github.com/someone/tfp_flows" in links
    assert "\n".join([title, *rest]) == "".join(before["cells"][0]["source"])
    assert after["cells"][1:] == before["cells"][1:]
