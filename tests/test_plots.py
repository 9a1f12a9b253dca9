"""Pictures: what they show, that files can be read back, and clear errors."""

from __future__ import annotations

import base64
import io

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib.image import imread
from PIL import Image

import tfp_flows
from tfp_flows import bijectors, plots
from tfp_flows import masks as all_masks
from tfp_flows.datasets import TOYS

GAP = 2


@pytest.fixture(autouse=True)
def nothing_registered_with_pyplot():
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def path(tmp_path):
    """A file to write, beside which nothing else appears."""
    file = tmp_path / "figure.png"
    yield file
    assert [p.name for p in tmp_path.iterdir()] in ([], [file.name])


def bytes_of(path):
    """A picture read back, RGB in 0..255."""
    return np.rint(imread(path)[..., :3] * 255).astype(int)


def assert_same_size(figure, path):
    width, height = figure.get_size_inches() * figure.dpi
    assert bytes_of(path).shape == (int(height), int(width), 3)


def heat(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def texts(axes):
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


def linear(x):
    """Log-density that differs in every cell."""
    return x[:, 0] + 10 * x[:, 1]


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


class TestHistory:
    keras = {
        "loss": [9.0, 4.0, 3.0],
        "nll": [8.0, 3.0, 2.0],
        "val_nll": [7.0, 4.0, np.nan],
        "bits_per_dim": [4.0, 1.5, 1.0],
    }

    def test_curves_hold_the_numbers(self, path):
        figure = plots.history(
            self.keras, metrics=("nll", "bits_per_dim", "loss"), path=path
        )
        nll, bits, loss = figure.axes
        assert texts(nll) == ("nll", "epoch", "nats")
        assert texts(bits) == ("bits_per_dim", "epoch", "bits per dimension")
        assert texts(loss) == ("loss", "epoch", "nats")
        training, validation = nll.lines
        assert training.get_xdata().tolist() == [1, 2, 3]
        assert training.get_ydata().tolist() == [8, 3, 2]
        np.testing.assert_array_equal(validation.get_ydata(), [7, 4, np.nan])
        assert training.get_color() != validation.get_color()
        assert [t.get_text() for t in nll.get_legend().get_texts()] == [
            "training",
            "validation",
        ]
        assert [line.get_label() for line in bits.lines] == ["training"]
        assert_same_size(figure, path)

    def test_a_single_epoch_is_seen(self, path):
        figure = plots.history({"nll": [2.5], "val_nll": [2.0]}, path=path)
        (axes,) = figure.axes
        low, high = axes.get_ylim()
        assert low < 2.0 and high > 2.5
        assert [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5] == [1]
        for line in axes.lines:
            color = np.multiply(matplotlib.colors.to_rgb(line.get_color()), 255)
            # More than the legend's marker and its line.
            assert (np.abs(bytes_of(path) - color).max(-1) < 2).sum() > 80

    def test_a_first_outlier_does_not_flatten_the_rest(self):
        decay = 3 + np.exp(-np.arange(40) / 10)
        usual = {"nll": decay, "val_nll": decay + 0.1}
        low, high = plots.history(usual).axes[0].get_ylim()
        assert low < 3.02 and 4.1 < high < 4.5
        decay = decay.copy()
        decay[0] = 5000
        low, high = plots.history({**usual, "nll": decay}).axes[0].get_ylim()
        assert low < 3.02 and 4 < high < 5
        low, high = plots.history({"nll": [900, 4, 3.5]}).axes[0].get_ylim()
        assert low < 3.5 and 4 < high < 5

    def test_a_few_validations_stay_in_sight(self):
        rare = {"nll": [3, 2, 1, 1], "val_nll": [np.nan, 9, np.nan, 8]}
        low, high = plots.history(rare).axes[0].get_ylim()
        assert low < 1 and high > 9

    @pytest.mark.parametrize(
        "values", [[np.nan, np.nan], [3, np.inf], [1, 1, 1], [-np.inf, 2, 1]]
    )
    @pytest.mark.filterwarnings("error")
    def test_diverged_and_constant(self, values, path):
        figure = plots.history({"nll": values}, path=path)
        assert np.isfinite(figure.axes[0].get_ylim()).all()

    def test_of_a_fit(self):
        normal = tfp.distributions.MultivariateNormalDiag(tf.Variable([0.0, 0.0]))
        model = tfp_flows.FlowModel(normal)
        model.compile()
        x = TOYS["moons"].sample(64, seed=0)
        kept = model.fit(x, validation_data=(x,), epochs=2, verbose=0).history
        figure = plots.history(kept, metrics=["bits_per_dim"])
        training, validation = figure.axes[0].lines
        assert training.get_ydata().tolist() == kept["bits_per_dim"]
        assert validation.get_ydata().tolist() == kept["val_bits_per_dim"]

    @pytest.mark.parametrize(
        ("error", "message", "arguments"),
        [
            (TypeError, "history must be a dict", {"history": [1.0]}),
            (ValueError, "metrics must be", {"metrics": "nll"}),
            (ValueError, "metrics must be", {"metrics": ()}),
            (ValueError, "history has no 'accuracy'.*'nll'", {"metrics": ["accuracy"]}),
            (ValueError, "history must .* 'nll'", {"history": {"nll": []}}),
            (ValueError, "history must .* 'nll'", {"history": {"nll": [[1.0], [2.0]]}}),
            (
                ValueError,
                "history must .* 'val_nll'",
                {"history": {"nll": [1, 2], "val_nll": [1]}},
            ),
        ],
    )
    def test_errors(self, error, message, arguments):
        with pytest.raises(error, match=message):
            plots.history(**{"history": self.keras, **arguments})


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
        main, below, left = figure.axes
        quarter = np.arange(4) / 4
        expected = np.stack([quarter, np.full(4, 0.25), np.ones(4)], 1)
        np.testing.assert_allclose(self.boxes(below, "x"), expected, atol=1e-6)
        expected = np.stack([1 + 2 * quarter, np.full(4, 0.5), np.full(4, 0.5)], 1)
        np.testing.assert_allclose(self.boxes(left, "y"), expected, atol=1e-5)
        np.testing.assert_allclose(main.lines[0].get_xdata()[[0, -1]], [0, 1])
        np.testing.assert_allclose(main.lines[0].get_ydata()[[0, -1]], [1, 3])
        np.testing.assert_allclose(left.lines[0].get_xdata(), 0.5, rtol=1e-3)
        assert_same_size(figure, path)

    @pytest.mark.parametrize("falling", [False, True])
    def test_boxes_keep_one_area_also_on_paper(self, falling, path):
        sign = -1 if falling else 1
        figure = plots.change_of_variables(
            lambda z: sign * np.sinh(z), normal, bounds=(-3, 3), boxes=7, path=path
        )
        ink = (bytes_of(path) < 255).any(-1)
        assert not ink[[0, -1]].any() and not ink[:, [0, -1]].any()
        _, below, left = figure.axes
        areas = []
        for axes, side in ((below, "x"), (left, "y")):
            boxes = self.boxes(axes, side)
            np.testing.assert_allclose(
                np.abs(boxes[:, 1]) * boxes[:, 2], 0.9973 / 7, 1e-3
            )
            areas += [
                abs(p.get_window_extent().width * p.get_window_extent().height)
                for p in axes.patches
            ]
        np.testing.assert_allclose(areas, np.mean(areas), rtol=1e-6)
        # The curve on the left is the density that the formula gives.
        x, q = left.lines[0].get_ydata(), left.lines[0].get_xdata()
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
        main, below, left = after.axes
        assert main.get_ylim() == (-1, 4) and below.get_ylim() == (2.5, 0)
        areas = [
            abs(p.get_window_extent().width * p.get_window_extent().height)
            for p in (*below.patches, *left.patches)
        ]
        np.testing.assert_allclose(areas, areas[0], rtol=1e-5)

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


class TestCurves:
    def test_hold_the_numbers(self, path):
        figure = plots.curves(
            [2, 4, 8],
            {"dense": [1, 8, 64], "triangular": [1, 2, np.nan]},
            xlabel="D",
            ylabel="seconds",
            log="xy",
            path=path,
        )
        (axes,) = figure.axes
        assert texts(axes) == ("", "D", "seconds")
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert [line.get_label() for line in axes.lines] == ["dense", "triangular"]
        np.testing.assert_array_equal(axes.lines[1].get_ydata(), [1, 2, np.nan])
        assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "4", "8"]
        assert_same_size(figure, path)

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ("log must be", {"log": "z"}),
            ("curves must hold", {"curves": {}}),
            ("curves must hold .* 'a'", {"curves": {"a": [1]}}),
            ("x must be", {"x": []}),
        ],
    )
    def test_errors(self, words, arguments):
        with pytest.raises(ValueError, match=words):
            plots.curves(**{"x": [1, 2], "curves": {"a": [1, 2]}, **arguments})


class TestSpectrum:
    def test_falls(self, path):
        figure = plots.spectrum(
            np.array([[1.0, 3.0], [2.0, 0.5]]), ylabel="scale", log=True, path=path
        )
        (axes,) = figure.axes
        assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
        assert axes.lines[0].get_ydata().tolist() == [3, 2, 1, 0.5]
        assert texts(axes) == ("", "rank", "scale") and axes.get_yscale() == "log"
        assert axes.get_legend() is None
        assert_same_size(figure, path)

    def test_of_levels(self):
        (axes,) = plots.spectrum({"fine": [1, -2, 3], "coarse": [5]}).axes
        assert [line.get_ydata().tolist() for line in axes.lines] == [[3, 1, -2], [5]]
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["fine", "coarse"]

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ("positive", {"values": [1, 0], "log": True}),
            ("values must be finite", {"values": [np.nan]}),
            ("at least one", {"values": []}),
            ("at least one", {"values": {}}),
        ],
    )
    def test_errors(self, words, arguments):
        with pytest.raises(ValueError, match=words):
            plots.spectrum(**arguments)


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


def read_gif(data):
    """Frames `[H, W, 3]` and their durations in milliseconds."""
    film = Image.open(io.BytesIO(data))
    frames, durations = [], []
    for i in range(film.n_frames):
        film.seek(i)
        frames.append(np.asarray(film.convert("RGB")))
        durations.append(film.info["duration"])
    return frames, durations, film.info.get("loop")


class TestAnimate:
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    frames = [np.full((6, 5, 3), color) for color in colors]

    def test_plays_all_frames_for_ever(self, tmp_path):
        animation = plots.animate(self.frames, fps=4, hold=2, path=tmp_path / "a.gif")
        frames, durations, loop = read_gif((tmp_path / "a.gif").read_bytes())
        np.testing.assert_array_equal(frames, self.frames)
        assert durations == [250, 250, 2250] and loop == 0
        assert (tmp_path / "a.gif").read_bytes() == animation.gif
        assert repr(animation) == "Animation(3 frames of 5x6, 4 fps)"

    def test_figures_look_like_their_pictures(self, path):
        figures = [
            plots.warped_grid(lambda x, s=s: s * x, limits=((-2, 2), (-2, 2)))
            for s in (0.5, 1.0)
        ]
        animation = plots.animate(figures)
        figure = plots.warped_grid(lambda x: x, limits=((-2, 2), (-2, 2)), path=path)
        assert_same_size(figure, path)
        np.testing.assert_array_equal(animation.frames[1], bytes_of(path))
        frames, _, _ = read_gif(animation.gif)
        assert np.abs(frames[1].astype(int) - bytes_of(path)).max() < 30
        assert np.abs(frames[1].astype(int) - frames[0]).max() > 50

    def test_sizes_that_differ_are_padded(self):
        small = np.zeros((4, 9, 3), np.uint8)
        animation = plots.animate([self.frames[0], small])
        assert [frame.shape for frame in animation.frames] == [(6, 9, 3)] * 2
        assert (animation.frames[1][:4] == 0).all()
        assert (animation.frames[1][4:] == 255).all()
        assert (animation.frames[0][:, :5] == self.frames[0]).all()

    def test_wide_frames_are_made_smaller(self):
        wide = np.repeat(np.repeat(self.colors[:2, None], 20, 0), 30, 1)
        animation = plots.animate([wide, self.frames[2]], width=15)
        assert [frame.shape for frame in animation.frames] == [(20, 15, 3)] * 2
        assert (animation.frames[0][:6] == self.colors[0]).all()
        assert (animation.frames[0][14:] == self.colors[1]).all()
        same = plots.animate(self.frames, width=15)
        np.testing.assert_array_equal(same.frames, self.frames)

    def test_plays_in_a_stored_notebook(self):
        animation = plots.animate(self.frames)
        html = animation._repr_html_()
        assert html == animation.to_html()
        data = html.partition("base64,")[2].partition('"')[0]
        assert base64.b64decode(data) == animation.gif

    @pytest.mark.parametrize(
        ("error", "words", "arguments"),
        [
            (TypeError, "frames must be figures", {"frames": [np.zeros((2, 2, 3))]}),
            (
                TypeError,
                "frames must be figures",
                {"frames": np.zeros((2, 4, 4), "u1")},
            ),
            (ValueError, "at least one", {"frames": []}),
            (ValueError, "fps", {"fps": 0}),
            (ValueError, "fps", {"fps": 51}),
            (ValueError, "hold", {"hold": -1}),
            (ValueError, "width", {"width": 0}),
            (ValueError, r"path must end in \.gif", {"path": "film.png"}),
        ],
    )
    def test_errors(self, error, words, arguments, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error, match=words):
            plots.animate(**{"frames": self.frames, **arguments})
        assert list(tmp_path.iterdir()) == []


class TestFrames:
    def test_are_drawn_during_training(self):
        normal = tfp.distributions.MultivariateNormalDiag(tf.Variable([2.0, 2.0]))
        model = tfp_flows.FlowModel(normal)
        model.compile(keras.optimizers.Adam(0.5))
        means = []

        def draw():
            means.append(float(normal.loc[0]))
            return plots.density(model.flow.log_prob, resolution=4, top=0.2)

        frames = plots.Frames(draw, every=2)
        x = np.zeros((8, 2), "float32")
        model.fit(x, epochs=5, callbacks=[frames], verbose=0)
        assert len(frames.frames) == len(means) == 3
        assert means[0] == 2 and means[0] > means[1] > means[2]
        animation = frames.animate(fps=2)
        assert (len(animation.frames), animation.fps) == (3, 2)
        assert np.abs(animation.frames[2].astype(int) - animation.frames[0]).max() > 50

    def test_errors(self):
        with pytest.raises(ValueError, match="every must be 1 or more, got 0"):
            plots.Frames(lambda: None, every=0)


def shown(figure):
    """Picture, text in its place and alternative text, as a notebook stores them."""
    bundle, metadata = figure._repr_mimebundle_()
    alt = metadata.get("image/png", {}).get("alt")
    return base64.b64decode(bundle["image/png"]), bundle["text/plain"], alt


def test_a_figure_shows_itself_in_a_notebook(path):
    figure = plots.images(np.zeros((1, 4, 4, 1)), path=path)
    assert shown(figure) == (path.read_bytes(), repr(figure), None)


class TestDescribe:
    def test_a_figure_is_stored_with_its_text(self, path):
        figure = plots.images(np.zeros((1, 4, 4, 1)), path=path)
        assert plots.describe(figure, "One black image.") is figure
        alt = "One black image."
        assert shown(figure) == (path.read_bytes(), alt, alt)

    def test_a_figure_that_is_not_ours(self):
        figure = matplotlib.figure.Figure()
        assert shown(plots.describe(figure, "Nothing."))[1:] == ("Nothing.",) * 2

    def test_an_animation(self):
        animation = plots.animate([np.zeros((4, 4, 3), np.uint8)])
        plots.describe(animation, 'x < y, or "less"')
        assert 'alt="x &lt; y, or &quot;less&quot;"' in animation.to_html()

    def test_errors(self):
        with pytest.raises(ValueError, match="alt must say what there is to see"):
            plots.describe(matplotlib.figure.Figure(), " ")


def test_a_path_is_of_a_png_in_an_existing_folder(tmp_path):
    x = np.zeros((1, 4, 4, 1))
    with pytest.raises(ValueError, match=r"^path must end in \.png"):
        plots.images(x, path=tmp_path / "figure.pdf")
    with pytest.raises(FileNotFoundError):
        plots.images(x, path=str(tmp_path / "absent" / "figure.png"))
    assert list(tmp_path.iterdir()) == []
