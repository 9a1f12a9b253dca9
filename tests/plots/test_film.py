"""Films hold their frames, and errors are clear."""

from __future__ import annotations

import base64
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from PIL import Image

import tfp_flows
from tests.plots.support import assert_same_size, bytes_of
from tfp_flows import plots


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
            (TypeError, "width must be an integer", {"width": 2.5}),
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
        x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
        model.fit(x, epochs=5, callbacks=[frames], verbose=0)
        assert len(frames.frames) == len(means) == 3
        assert means[0] == 2 and means[0] > means[1] > means[2]
        animation = frames.animate(fps=2)
        assert (len(animation.frames), animation.fps) == (3, 2)
        assert np.abs(animation.frames[2].astype(int) - animation.frames[0]).max() > 50

    def test_errors(self):
        with pytest.raises(ValueError, match="every must be at least 1, got 0"):
            plots.Frames(lambda: None, every=0)
