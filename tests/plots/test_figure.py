"""Figures show themselves and are written to files."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plots.support import shown
from tfp_flows import plots


def test_a_figure_shows_itself_in_a_notebook(path):
    figure = plots.images(np.zeros((1, 4, 4, 1)), path=path)
    assert shown(figure) == (path.read_bytes(), repr(figure), None)
    # Changed afterwards, it shows the change.
    figure.text(0.5, 0.5, "white", color="white")
    assert shown(figure)[0] != path.read_bytes()


def test_a_path_is_of_a_png_in_an_existing_folder(tmp_path):
    x = np.zeros((1, 4, 4, 1))
    with pytest.raises(ValueError, match=r"^path must end in \.png"):
        plots.images(x, path=tmp_path / "figure.pdf")
    with pytest.raises(FileNotFoundError):
        plots.images(x, path=str(tmp_path / "absent" / "figure.png"))
    assert list(tmp_path.iterdir()) == []
