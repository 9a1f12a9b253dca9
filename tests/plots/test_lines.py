"""Lines hold the numbers they were given, and errors are clear."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows
from tests.plots.support import assert_same_size, bytes_of, texts
from tfp_flows import plots
from tfp_flows.datasets import TOYS


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
        assert texts(nll) == ("negative log-likelihood", "epoch", "nats")
        assert texts(bits) == (texts(nll)[0], "epoch", "bits per dimension")
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

    def test_an_arrow_says_how_high_a_curve_goes(self):
        axes = plots.history({"nll": [900, 5, 4, 3.5], "val_nll": [6, 5, 4, 4]}).axes[0]
        assert axes.get_ylim()[1] < 900
        (arrow,) = axes.texts
        assert arrow.get_text() == " ↑ 900" and arrow.get_position()[0] == 2
        assert not plots.history({"nll": [3, 2, 1]}).axes[0].texts

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

    def test_a_short_logarithmic_axis_has_plain_numbers(self):
        (axes,) = plots.curves([1, 2], {"a": [4, 15]}, log="y").axes
        axes.figure.draw_without_rendering()
        low, high = axes.get_ylim()
        ticks = {
            t: label.get_text()
            for t, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
            if low < t < high
        }
        assert ticks == {5: "5", 10: "10"}

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
