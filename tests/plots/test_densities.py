"""Densities, histograms and grids show the numbers they were given."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows
from tests.plots.support import assert_same_size, bytes_of, heat, texts
from tfp_flows import plots
from tfp_flows.datasets import TOYS


def linear(x):
    """Log-density that differs in every cell."""
    return x[:, 0] + 10 * x[:, 1]


def normal(z):
    return -np.square(z) / 2 - np.log(2 * np.pi) / 2


class TestDensity:
    def test_is_the_density_at_the_middles_of_cells(self, path):
        figure = plots.density(
            linear, bounds=((0, 2), (0, 4)), resolution=2, title="Plane", path=path
        )
        # Rows are x2 from below, columns x1: middles 0.5, 1.5 and 1, 3.
        expected = np.exp([[10.5, 11.5], [30.5, 31.5]])
        (axes,) = figure.axes
        np.testing.assert_allclose(heat(axes), expected, rtol=1e-6)
        assert axes.images[0].origin == "lower"
        assert axes.images[0].get_extent() == [0, 2, 0, 4]
        assert axes.get_aspect() == 1
        assert texts(axes) == ("", "$x_1$", "$x_2$")
        assert figure.get_suptitle() == "Plane"
        assert_same_size(figure, path)

    def test_a_toy_integrates_to_one(self):
        figure = plots.density(
            TOYS["eight_gaussians"].log_prob, bounds=((-5, 5), (-5, 5)), resolution=100
        )
        assert heat(figure.axes[0]).sum() * 0.1**2 == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
    def test_of_a_flow(self, dtype):
        normal = tfp.distributions.MultivariateNormalDiag(tf.zeros(2, dtype))
        flow = tfp_flows.Flow(normal, tfp.bijectors.Scale(tf.constant(2.0, dtype)))
        p = heat(plots.density(flow.log_prob, resolution=120).axes[0])
        middle = (np.arange(120) + 0.5) / 15 - 4
        square = np.add.outer(middle**2, middle**2)
        np.testing.assert_allclose(p, np.exp(-square / 8) / (8 * np.pi), rtol=1e-4)

    def test_panels_of_truth_and_data_share_a_scale(self, path):
        points = TOYS["moons"].sample(50, seed=0)
        figure = plots.density(
            lambda x: np.full(len(x), np.log(0.01)),
            truth=TOYS["moons"].log_prob,
            points=points,
            resolution=40,
            path=path,
        )
        model, truth, data = figure.axes
        assert [texts(axes)[0] for axes in figure.axes] == ["model", "truth", "data"]
        np.testing.assert_allclose(heat(model), 0.01)
        assert model.images[0].get_clim() == truth.images[0].get_clim()
        assert model.images[0].get_clim() == (0, heat(truth).max())
        np.testing.assert_array_equal(data.collections[0].get_offsets(), points)
        assert data.get_xlim() == model.get_xlim() == (-4, 4)
        assert_same_size(figure, path)

    def test_titles_of_the_panels(self):
        log_prob, points = TOYS["moons"].log_prob, np.zeros((1, 2))
        figure = plots.density(
            log_prob, points=points, titles=["formula", "samples"], resolution=5
        )
        assert [axes.get_title() for axes in figure.axes] == ["formula", "samples"]
        with pytest.raises(ValueError, match="titles must be 1 texts, got 2"):
            plots.density(log_prob, titles=["formula", "samples"], resolution=5)

    def test_a_spike_does_not_darken_the_rest(self):
        def spiky(x):
            spike = np.hypot(x[:, 0] - 0.02, x[:, 1] - 0.02) < 0.01
            return np.where(spike, np.log(1.0), np.log(1 / 64))

        figure = plots.density(spiky)
        assert heat(figure.axes[0]).max() == pytest.approx(1)
        assert figure.axes[0].images[0].get_clim() == (0, pytest.approx(1.5 / 64))

    def test_a_given_top_of_the_scale(self):
        figure = plots.density(linear, resolution=5, top=0.25)
        assert figure.axes[0].images[0].get_clim() == (0, 0.25)

    def test_outside_the_support(self, path):
        figure = plots.density(
            TOYS["checkerboard"].log_prob, bounds=((5, 6), (5, 6)), path=path
        )
        assert (heat(figure.axes[0]) == 0).all()
        assert bytes_of(path)[100:200, 100:200].max() < 5

    @pytest.mark.parametrize(
        ("error", "name", "arguments"),
        [
            (TypeError, "log_prob", {"log_prob": 3}),
            (TypeError, "truth", {"truth": TOYS["moons"]}),
            (ValueError, "log_prob", {"log_prob": lambda x: x}),
            (ValueError, "log_prob", {"log_prob": lambda x: x[:, 0] * np.nan}),
            (ValueError, "log_prob", {"log_prob": lambda x: x[:, 0] + 1000}),
            (ValueError, "truth", {"truth": lambda x: 0.0}),
            (ValueError, "points", {"points": np.zeros((5, 3))}),
            (ValueError, "points", {"points": [[0.0, np.nan]]}),
            (ValueError, "bounds", {"bounds": (-4, 4)}),
            (ValueError, "bounds", {"bounds": ((-4, 4), (4, -4))}),
            (ValueError, "resolution", {"resolution": 0}),
            (ValueError, "top", {"top": 0.0}),
        ],
    )
    def test_errors(self, error, name, arguments):
        with pytest.raises(error, match=name):
            plots.density(**{"log_prob": linear, **arguments})


class TestHistogram:
    def test_is_a_density_beside_the_formula(self, path):
        x = np.random.default_rng(0).standard_normal((100, 50))
        figure = plots.histogram(x, log_prob=normal, bounds=(-2, 1), bins=6, path=path)
        (axes,) = figure.axes
        counts, edges, _ = axes.patches[0].get_data()
        np.testing.assert_allclose(edges, [-2, -1.5, -1, -0.5, 0, 0.5, 1])
        expected = [((x > a) & (x <= a + 0.5)).mean() / 0.5 for a in edges[:-1]]
        np.testing.assert_allclose(counts, expected)
        line = axes.lines[0]
        np.testing.assert_allclose(
            line.get_ydata(), np.exp(normal(line.get_xdata())), rtol=1e-6
        )
        assert texts(axes) == ("", "$x$", "density")
        assert_same_size(figure, path)

    def test_the_density_has_a_name_of_its_own(self):
        figure = plots.histogram(
            {"data": [0.0, 1.0]}, log_prob=np.zeros_like, label="f"
        )
        texts = figure.axes[0].get_legend().get_texts()
        assert [text.get_text() for text in texts] == ["data", "f"]

    def test_several_sets(self):
        sets = {"before": [1.0, 2.0, 3.0], "after": [0.0, 0.0]}
        (axes,) = plots.histogram(sets, xlabel="activation").axes
        assert axes.get_xlim() == (0, 3) and axes.get_xlabel() == "activation"
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["before", "after"]
        assert axes.patches[0].get_facecolor() != axes.patches[2].get_facecolor()

    def test_one_value(self):
        assert plots.histogram([2.0, 2.0]).axes[0].get_xlim() == (1.5, 2.5)

    @pytest.mark.parametrize(
        ("error", "words", "arguments"),
        [
            (ValueError, "samples", {"samples": []}),
            (ValueError, "samples", {"samples": {}}),
            (ValueError, "samples", {"samples": {"a": [np.inf]}}),
            (ValueError, "bins", {"bins": 0}),
            (ValueError, "bounds", {"bounds": (1, 0)}),
            (TypeError, "log_prob", {"log_prob": 3}),
        ],
    )
    def test_errors(self, error, words, arguments):
        with pytest.raises(error, match=words):
            plots.histogram(**{"samples": [1.0, 2.0], **arguments})


class TestWarpedGrid:
    def test_shows_the_grid_and_its_image(self, path):
        figure = plots.warped_grid(
            lambda x: x[:, ::-1] * (1, 3), bounds=((0, 1), (0, 2)), lines=3, path=path
        )
        before, after = figure.axes
        assert texts(before) == ("before", "$x_1$", "$x_2$")
        assert texts(after) == ("after", "$x_1$", "$x_2$")
        for direction, color in ((0, "#0072B2"), (1, "#D55E00")):
            straight, warped = (axes.collections[direction] for axes in figure.axes)
            segments = np.array(straight.get_segments())
            np.testing.assert_array_equal(segments[:, 0, direction], 0)
            np.testing.assert_allclose(segments[:, -1, direction], 1 + direction)
            fixed = np.linspace(0, 2 - direction, 3)[:, None]
            assert (segments[..., 1 - direction] == fixed).all()
            np.testing.assert_allclose(
                np.array(warped.get_segments()), segments[..., ::-1] * (1, 3)
            )
            for lines in (straight, warped):
                assert matplotlib.colors.to_hex(lines.get_color()[0]).upper() == color
        assert after.get_xlim()[1] >= 2 and after.get_ylim()[1] >= 3
        assert_same_size(figure, path)

    def test_given_limits_hold_in_both_panels(self):
        for scale in (0.1, 1, 5):
            figure = plots.warped_grid(
                lambda x, s=scale: s * x, limits=((-3, 3), (-3, 3))
            )
            figure.draw_without_rendering()
            for axes in figure.axes:
                assert axes.get_xlim() == axes.get_ylim() == (-3, 3)

    def test_letters_of_the_coordinates(self):
        before, after = plots.warped_grid(lambda z: z, names=("z", "y")).axes
        assert texts(before) == ("before", "$z_1$", "$z_2$")
        assert texts(after) == ("after", "$y_1$", "$y_2$")

    def test_graded_lines_say_where_they_come_from(self):
        figure = plots.warped_grid(lambda z: -z, lines=3, graded=True)
        for axes, sign in zip(figure.axes, (1, -1), strict=True):
            (collection,) = axes.collections
            ends = [line[0, 0] for line in collection.get_segments()]
            np.testing.assert_allclose(ends, [-2 * sign, 0, 2 * sign], atol=1e-6)
            brightness = collection.get_colors()[:, :3].sum(-1)
            assert (np.diff(brightness) > 0).all()

    def test_the_grid_after_alone(self):
        _, after = plots.warped_grid(lambda z: 2 * z).axes
        (alone,) = plots.warped_grid(lambda z: 2 * z, before=False).axes
        assert texts(alone) == ("", "$x_1$", "$x_2$")
        for one, other in zip(alone.collections, after.collections, strict=True):
            np.testing.assert_array_equal(one.get_segments(), other.get_segments())

    def test_curves_look_smooth(self):
        # On a full turn of a circle, no bend between segments shows.
        figure = plots.warped_grid(
            lambda x: tf.stack([tf.cos(x[:, 0]), tf.sin(x[:, 0])], -1),
            bounds=((0, 2 * np.pi), (0, 1)),
        )
        step = np.diff(figure.axes[1].collections[0].get_segments()[0], axis=0)
        angles = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        assert np.abs(np.diff(angles)).max() < np.radians(1)

    @pytest.mark.parametrize(
        ("error", "name", "arguments"),
        [
            (TypeError, "forward", {"forward": None}),
            (ValueError, "forward", {"forward": lambda x: x[:, 0]}),
            (ValueError, "forward", {"forward": lambda x: x / 0}),
            (ValueError, "bounds", {"bounds": ((0, 0), (0, 1))}),
            (ValueError, "lines", {"lines": 1}),
            (ValueError, "limits", {"limits": ((0, 1), (1, 0))}),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_errors(self, error, name, arguments):
        with pytest.raises(error, match=name):
            plots.warped_grid(**{"forward": lambda x: x, **arguments})


@pytest.mark.parametrize(
    ("bounds", "comparable"),
    [
        (((-4, 4), (-4, 4)), True),
        (((0, 4), (0, 1)), True),
        (((1e6 - 0.2, 1e6 + 0.2), (-3, 3)), False),
        (((-1e8, 1e8), (-1e-9, 1e-9)), False),
    ],
)
def test_ranges_that_differ_much_are_shown_as_squares(bounds, comparable):
    def flat(x):
        return np.zeros(len(x))

    figure = plots.density(flat, bounds=bounds, resolution=3)
    axes = figure.axes[0]
    assert axes.get_aspect() == (1.0 if comparable else "auto")
    assert axes.get_box_aspect() == (None if comparable else 1)
