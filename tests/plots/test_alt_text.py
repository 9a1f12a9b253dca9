"""Pictures have a text for those who do not see them."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.plots.support import shown
from tfp_flows import plots


class TestDescribe:
    def test_a_figure_is_stored_with_its_text(self, path):
        figure = plots.images(np.zeros((1, 4, 4, 1)), path=path)
        assert plots.describe(figure, "One black image.") is figure
        alt = "One black image."
        assert shown(figure) == (path.read_bytes(), alt, alt)

    def test_a_figure_that_is_not_ours(self):
        figure = matplotlib.figure.Figure(figsize=(3, 2), dpi=100)
        figure.subplots().plot([1, 3, 2])
        file = io.BytesIO()
        figure.savefig(file, format="png")
        picture = plots.describe(figure, "A hill.")
        png, *texts = shown(picture)
        assert texts == ["A hill."] * 2
        drawn, given = (
            np.asarray(Image.open(f).convert("RGB")) for f in (io.BytesIO(png), file)
        )
        np.testing.assert_array_equal(drawn, given)
        # The figure itself is left as it was.
        assert not hasattr(figure, "alt") and not hasattr(figure, "_repr_mimebundle_")

    def test_an_animation(self):
        animation = plots.animate([np.zeros((4, 4, 3), np.uint8)])
        plots.describe(animation, 'x < y, or "less"')
        assert 'alt="x &lt; y, or &quot;less&quot;"' in animation.to_html()

    def test_errors(self):
        with pytest.raises(ValueError, match="alt must say what there is to see"):
            plots.describe(matplotlib.figure.Figure(), " ")
        with pytest.raises(TypeError, match=r"a figure or an Animation, got ndarray"):
            plots.describe(np.zeros((4, 4, 3), "uint8"), "Black.")
