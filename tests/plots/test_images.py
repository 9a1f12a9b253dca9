"""Images are shown pixel for pixel, and errors are clear."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import tensorflow as tf

from tests.plots.support import assert_same_size, bytes_of, heat
from tfp_flows import plots

GAP = 2


class TestImages:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_pixel_is_where_it_belongs(self, channels, path):
        rng = np.random.default_rng(0)
        x = rng.integers(256, size=(5, 4, 6, channels), dtype=np.uint8)
        figure = plots.images(x, columns=3, bounds=(0, 255), scale=7, path=path)
        grid = bytes_of(path)
        assert grid.shape == (2 * 28 + GAP, 3 * 42 + 2 * GAP, 3)
        covered = np.zeros(grid.shape[:2], bool)
        for i, image in enumerate(x):
            top, left = (i // 3) * (28 + GAP), (i % 3) * (42 + GAP)
            where = slice(top, top + 28), slice(left, left + 42)
            expected = np.broadcast_to(image, (4, 6, 3)).repeat(7, 0).repeat(7, 1)
            np.testing.assert_array_equal(grid[where], expected)
            covered[where] = True
        assert (grid[~covered] == 255).all()
        np.testing.assert_array_equal(heat(figure.axes[0]), grid)
        assert_same_size(figure, path)

    def test_is_wide_enough_and_about_square(self, path):
        plots.images(np.zeros((10, 8, 8, 1)), path=path)
        assert bytes_of(path).shape == (3 * 152 + 2 * GAP, 4 * 152 + 3 * GAP, 3)
        plots.images(np.zeros((1, 700, 650, 3)), path=path)
        assert bytes_of(path).shape == (700, 650, 3)

    def test_values_between_bounds(self):
        x = np.array([-1.0, 0.0, 0.4, 2.0]).reshape(1, 1, 4, 1)
        grey = lambda **k: heat(plots.images(x, scale=1, **k).axes[0])[0, :, 0]
        assert grey(bounds=(0, 1)).tolist() == [0, 0, 102, 255]
        assert grey().tolist() == [0, 85, 119, 255]

    def test_takes_tensors_and_constant_images(self):
        figure = plots.images(tf.fill([2, 3, 3, 1], 7.0), scale=1)
        assert heat(figure.axes[0])[:, :3].max() == 0

    def test_a_users_style_does_not_change_the_size(self, path):
        style = {
            "savefig.bbox": "tight",
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
        }
        with matplotlib.rc_context(style):
            plots.images(np.zeros((2, 5, 5, 1)), scale=60, path=path)
        assert bytes_of(path).shape == (300, 2 * 300 + GAP, 3)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("x", {"x": np.zeros((2, 8, 8))}),
            ("x", {"x": np.zeros((2, 8, 8, 2))}),
            ("x", {"x": np.zeros((0, 8, 8, 1))}),
            ("x", {"x": np.full((2, 8, 8, 1), np.nan)}),
            ("x", {"x": [np.zeros((8, 8, 1)), np.zeros((9, 8, 1))]}),
            ("columns", {"columns": 0}),
            ("scale", {"scale": 0}),
            ("bounds", {"bounds": (1, 1)}),
            ("bounds", {"bounds": (0, np.inf)}),
            ("bounds", {"bounds": 255}),
        ],
    )
    def test_errors(self, name, arguments):
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            plots.images(**{"x": np.zeros((2, 8, 8, 1)), **arguments})


class TestStrip:
    rows = np.random.default_rng(1).integers(256, size=(2, 5, 6, 4, 3), dtype=np.uint8)

    def test_without_text_it_is_the_grid_of_images(self, path):
        plots.strip(self.rows, bounds=(0, 255), path=path)
        strip = bytes_of(path)
        images = plots.images(
            self.rows.reshape(10, 6, 4, 3), columns=5, bounds=(0, 255)
        )
        np.testing.assert_array_equal(strip, heat(images.axes[0]))

    def test_labels_stand_beside_rows_and_titles_above_columns(self, path):
        figure = plots.strip(
            self.rows,
            labels=["first", "a longer label"],
            titles=range(5),
            bounds=(0, 255),
            path=path,
        )
        (axes,) = figure.axes
        grid, picture = heat(axes), bytes_of(path)
        height, width, _ = grid.shape
        # Pixels of images are untouched, at the lower right; text is left and above.
        np.testing.assert_array_equal(picture[-height:, -width:], grid)
        assert_same_size(figure, path)
        margin_top, margin_left = np.subtract(picture.shape, grid.shape)[:2]
        assert 100 < margin_left < 250 and 10 < margin_top < 60
        ink = (picture < 128).all(-1)
        assert not ink[0].any() and not ink[:, 0].any()
        beside = np.flatnonzero(ink[margin_top:, :margin_left].any(1))
        above = np.flatnonzero(ink[:margin_top, margin_left:].any(0))
        for where, count, size in ((beside, 2, height), (above, 5, width)):
            groups = np.split(where, np.flatnonzero(np.diff(where) > 20) + 1)
            middles = [(group[0] + group[-1]) / 2 for group in groups]
            cell = (size + GAP) / count
            expected = (np.arange(count) + 0.5) * cell
            np.testing.assert_allclose(middles, expected, atol=4)
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert labels == ["first", "a longer label"]
        titles = [text.get_text() for text in axes.get_xticklabels()]
        assert titles == list("01234")

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("rows", {"rows": rows[0]}),
            ("rows", {"rows": rows[..., :2]}),
            ("rows", {"rows": [rows[0], rows[1, :4]]}),
            ("rows", {"rows": rows + np.inf}),
            ("labels", {"labels": ["one"]}),
            ("titles", {"titles": ["one", "two"]}),
            ("bounds", {"bounds": (2, 1)}),
        ],
    )
    def test_errors(self, name, arguments):
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            plots.strip(**{"rows": self.rows, **arguments})
