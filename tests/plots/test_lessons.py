"""Lessons show what they teach, and errors are clear."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import tensorflow_probability as tfp

from tests.plots.support import assert_same_size, bytes_of, heat
from tfp_flows import bijectors, plots
from tfp_flows import masks as all_masks


def uniform(z):
    return np.where((z > 0) & (z < 1), 0.0, -np.inf)


def normal(z):
    return -np.square(z) / 2 - np.log(2 * np.pi) / 2


class TestChangeOfVariables:
    def boxes(self, axes, side):
        """`(start, length, density)` of the boxes of a panel."""
        found = []
        for patch in axes.patches:
            size = {"x": patch.get_width(), "y": patch.get_height()}
            start = {"x": patch.get_x(), "y": patch.get_y()}
            other = {"x": "y", "y": "x"}[side]
            found.append((start[side], size[side], size[other]))
        return np.array(found)

    def test_twice_and_one_more(self, path):
        figure = plots.change_of_variables(
            lambda z: 2 * z + 1, uniform, boxes=4, path=path
        )
        main, below, right = figure.axes
        quarter = np.arange(4) / 4
        expected = np.stack([quarter, np.full(4, 0.25), np.ones(4)], 1)
        np.testing.assert_allclose(self.boxes(below, "x"), expected, atol=1e-6)
        expected = np.stack([1 + 2 * quarter, np.full(4, 0.5), np.full(4, 0.5)], 1)
        np.testing.assert_allclose(self.boxes(right, "y"), expected, atol=1e-5)
        np.testing.assert_allclose(main.lines[0].get_xdata()[[0, -1]], [0, 1])
        np.testing.assert_allclose(main.lines[0].get_ydata()[[0, -1]], [1, 3])
        np.testing.assert_allclose(right.lines[0].get_xdata(), 0.5, rtol=1e-3)
        assert_same_size(figure, path)

    @pytest.mark.parametrize("falling", [False, True])
    def test_boxes_keep_one_area_also_on_paper(self, falling, path):
        sign = -1 if falling else 1
        figure = plots.change_of_variables(
            lambda z: sign * np.sinh(z), normal, bounds=(-3, 3), boxes=7, path=path
        )
        ink = (bytes_of(path) < 255).any(-1)
        assert not ink[[0, -1]].any() and not ink[:, [0, -1]].any()
        _, below, right = figure.axes
        areas = []
        for axes, side in ((below, "x"), (right, "y")):
            boxes = self.boxes(axes, side)
            np.testing.assert_allclose(
                np.abs(boxes[:, 1]) * boxes[:, 2], 0.9973 / 7, 1e-3
            )
            areas += [
                abs(p.get_window_extent().width * p.get_window_extent().height)
                for p in axes.patches
            ]
        np.testing.assert_allclose(areas, np.mean(areas), rtol=1e-6)
        # The curve on the right is the density that the formula gives.
        x, q = right.lines[0].get_ydata(), right.lines[0].get_xdata()
        z = np.arcsinh(x)
        np.testing.assert_allclose(q, np.exp(normal(z)) / np.cosh(z), rtol=1e-3)

    def test_boxes_lie_where_the_mass_is(self):
        figure = plots.change_of_variables(
            tfp.bijectors.Exp().forward, uniform, bounds=(-1, 3), boxes=2
        )
        starts, lengths, _ = self.boxes(figure.axes[1], "x").T
        np.testing.assert_allclose(starts, [0, 0.5], atol=0.01)
        np.testing.assert_allclose(lengths, [0.5, 0.5], atol=0.01)

    def test_frames_of_a_film_share_their_axes(self):
        before, after = (
            plots.change_of_variables(
                lambda z, s=s: s * z, uniform, limits=(-1, 4), top=2.5
            )
            for s in (1, 3)
        )
        for one, other in zip(before.axes, after.axes, strict=True):
            assert one.get_xlim() == other.get_xlim()
            assert one.get_ylim() == other.get_ylim()
        main, below, right = after.axes
        assert main.get_ylim() == (-1, 4) and below.get_ylim() == (0, 2.5)
        areas = [
            abs(p.get_window_extent().width * p.get_window_extent().height)
            for p in (*below.patches, *right.patches)
        ]
        np.testing.assert_allclose(areas, areas[0], rtol=1e-5)

    @pytest.mark.parametrize("factor", [0.5, 3, 5])
    def test_z_and_x_have_one_unit_on_paper(self, factor):
        figure = plots.change_of_variables(lambda z: factor * z, uniform)
        main, below, right = figure.axes
        box = main.get_window_extent()
        slope = box.height / box.width * (1 if factor < 4 else factor)
        np.testing.assert_allclose(slope, factor, rtol=1e-6)
        # Densities grow upwards and to the right, on axes that start at 0.
        assert below.get_ylim()[0] == right.get_xlim()[0] == 0
        assert right.get_window_extent().x0 > box.x1
        if factor < 4:
            assert below.get_ylim() == right.get_xlim()

    @pytest.mark.parametrize(
        ("error", "words", "arguments"),
        [
            (TypeError, r"forward must be a function of points \[N\]", {"forward": 1}),
            (TypeError, "log_prob", {"log_prob": None}),
            (ValueError, "monotonic", {"forward": lambda z: z * (1 - z)}),
            (ValueError, "forward", {"forward": lambda z: z[:, None]}),
            (ValueError, "forward", {"forward": lambda z: z * np.nan}),
            (ValueError, "mass", {"bounds": (2, 3)}),
            (ValueError, "bounds", {"bounds": (1, 1)}),
            (ValueError, "bounds", {"bounds": 1}),
            (ValueError, "boxes", {"boxes": 0}),
            (ValueError, "limits", {"limits": (2, 1)}),
            (ValueError, "top", {"top": 0}),
        ],
    )
    def test_errors(self, error, words, arguments):
        given = {"forward": lambda z: z, "log_prob": uniform, **arguments}
        with pytest.raises(error, match=words):
            plots.change_of_variables(**given)


def squares(axes):
    """`(left, top)` and colour of each square of a panel."""
    (collection,) = axes.collections
    corners = [path.vertices.min(0).tolist() for path in collection.get_paths()]
    return corners, [matplotlib.colors.to_hex(c) for c in collection.get_facecolors()]


KEPT, CHANGED = "#0072b2", "#e69f00"


class TestMasks:
    def test_squares_are_where_the_mask_is(self, path):
        mask = np.array([[True, False, True], [False, False, True]])
        figure = plots.masks(
            [mask, all_masks.channel(3)], titles=["plane", "channels"], path=path
        )
        plane, channels = figure.axes
        corners, colors = squares(plane)
        assert corners == [[x, y] for y in range(2) for x in range(3)]
        assert colors == [KEPT if m else CHANGED for m in mask.ravel()]
        corners, colors = squares(channels)
        assert corners == [[0, 0], [1, 0], [2, 0]]
        assert colors == [KEPT, KEPT, CHANGED]
        assert [axes.get_title() for axes in figure.axes] == ["plane", "channels"]
        assert_same_size(figure, path)
        # On paper, in one size.
        found = [
            np.diff(axes.transData.transform([(0, 0), (1, -1)]), axis=0)
            for axes in figure.axes
        ]
        np.testing.assert_allclose(found, found[0][0, 0], rtol=1e-6)

    def test_the_picture_has_both_colours(self, path):
        plots.masks(all_masks.checkerboard(4, 4), path=path)
        picture = bytes_of(path)
        for color in (KEPT, CHANGED):
            rgb = np.multiply(matplotlib.colors.to_rgb(color), 255).round()
            assert (picture == rgb).all(-1).sum() > 5000
        ink = (picture < 255).any(-1)
        assert not ink[[0, -1]].any() and not ink[:, [0, -1]].any()

    def test_broadcast_to_an_event(self):
        (axes,) = plots.masks([all_masks.channel(2)], event_shape=(2, 2, 2)).axes
        corners, colors = squares(axes)
        # Entries in the order of the event; the second channel is on the right.
        assert corners[:4] == [[0, 0], [2.5, 0], [1, 0], [3.5, 0]]
        assert colors == [KEPT, CHANGED] * 4

    @pytest.mark.parametrize(
        ("error", "words", "arguments"),
        [
            (TypeError, "boolean", {"masks": [np.ones(3)]}),
            (ValueError, "titles must be 1", {"titles": ["a", "b"]}),
            (ValueError, "event_shape", {"event_shape": (5,)}),
            (ValueError, r"\[H, W, C\]", {"masks": [np.ones((1, 1, 1, 1), bool)]}),
            (ValueError, "at least one", {"masks": []}),
        ],
    )
    def test_errors(self, error, words, arguments):
        with pytest.raises(error, match=words):
            plots.masks(**{"masks": [np.ones(3, bool)], **arguments})


class TestRearrangement:
    def test_of_a_squeeze(self, path):
        figure = plots.rearrangement(bijectors.Squeeze(2).forward, (4, 4, 1), path=path)
        before, after = figure.axes
        assert [text.get_text() for text in before.texts] == list(map(str, range(16)))
        expected = bijectors.Squeeze(2).forward(np.arange(16.0).reshape(1, 4, 4, 1))
        numbers = [int(text.get_text()) for text in after.texts]
        assert numbers == np.ravel(expected).astype(int).tolist()
        # A number keeps its colour, and a channel has one.
        color_of = dict(zip(range(16), squares(before)[1], strict=True))
        assert [color_of[n] for n in numbers] == squares(after)[1]
        channels = np.reshape(squares(after)[1], [4, 4])
        assert (channels == channels[0]).all() and len(set(channels[0])) == 4
        assert_same_size(figure, path)

    def test_of_a_permutation(self):
        forward = bijectors.Permutation([2, 0, 1]).forward
        before, after = plots.rearrangement(forward, (3,)).axes
        numbers = [int(text.get_text()) for text in after.texts]
        assert numbers == forward(np.arange(3.0)).numpy().tolist() != [0, 1, 2]
        colors = squares(before)[1]
        assert squares(after)[1] == [colors[n] for n in numbers]
        assert len(set(colors)) == 3

    def test_many_entries_have_no_numbers(self):
        figure = plots.rearrangement(lambda x: x[:, ::-1], (12, 12))
        assert [len(axes.texts) for axes in figure.axes] == [0, 0]

    @pytest.mark.parametrize(
        ("error", "words", "forward"),
        [
            (TypeError, "function", None),
            (ValueError, "same entries", lambda x: x / 2),
            (ValueError, "same entries", lambda x: x[0]),
            (ValueError, "same entries", lambda x: x * 0),
        ],
    )
    def test_errors(self, error, words, forward):
        with pytest.raises(error, match=words):
            plots.rearrangement(forward, (4,))


class TestMatrices:
    def test_share_a_scale_about_zero(self, path):
        a, b = np.eye(3)[[1, 0, 2]], np.full((2, 3), -2.0)
        figure = plots.matrices([a, b], titles=["swap", "flat"], path=path)
        first, second = figure.axes
        np.testing.assert_array_equal(heat(first), a)
        assert first.images[0].get_clim() == second.images[0].get_clim() == (-2, 2)
        assert [axes.get_title() for axes in figure.axes] == ["swap", "flat"]
        assert_same_size(figure, path)
        assert len(plots.matrices(a).axes) == 1
        assert plots.matrices(a * 0).axes[0].images[0].get_clim() == (-1, 1)
        assert plots.matrices(a, top=3).axes[0].images[0].get_clim() == (-3, 3)

    def test_axes_are_labelled_and_small_ones_show_numbers(self):
        small, large = np.array([[0.5, -1e-9, 1.25]]), np.eye(5)
        (axes,) = plots.matrices(small, xlabel="in", ylabel="out").axes
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("in", "out")
        assert [text.get_text() for text in axes.texts] == ["0.50", "0.00", "1.25"]
        (axes,) = plots.matrices(large).axes
        assert not axes.texts

    @pytest.mark.parametrize("scale", [False, True])
    def test_the_scale_can_be_left_out(self, scale):
        (axes,) = plots.matrices(np.eye(2), scale=scale).axes
        assert bool(axes.child_axes) == scale

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ("finite", {"matrices": [[[np.nan]]]}),
            (r"\[M, N\]", {"matrices": np.zeros((1, 2, 2, 2))}),
            ("titles", {"matrices": np.eye(2), "titles": []}),
            ("top", {"matrices": np.eye(2), "top": 0}),
        ],
    )
    def test_errors(self, words, arguments):
        with pytest.raises(ValueError, match=words):
            plots.matrices(**arguments)
