"""Traversals, translations and temperatures: what each does to codes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import SMALL
from tests.latent.support import linear_flow
from tests.support import close_to_largest
from tfp_flows import latent


class TestTraverse:
    def test_sets_one_coordinate(self, nice):
        x = SMALL["nice"].data(3)
        z = nice.encode(x).numpy()
        rows = latent.traverse(nice, 2, [-1.0, 0.0, 4.0], x=x)
        assert rows.shape == (3, 3, 4)
        for row, value in zip(rows, (-1, 0, 4), strict=True):
            expected = z.copy()
            expected[:, 2] = value
            close_to_largest(nice.encode(row), expected)
        np.testing.assert_array_equal(
            rows, latent.traverse(nice, -2, [-1, 0, 4], z=nice.encode(x))
        )

    def test_codes_that_are_images(self):
        flow = linear_flow((2, 3), 1.0)
        rows = latent.traverse(flow, 4, [7.0], z=np.zeros((2, 3)))
        assert rows.numpy().tolist() == [[[0, 0, 0], [0, 7, 0]]]

    def test_context(self, labelled):
        x, context = SMALL["real_nvp"].data(3), tf.constant([2, 1, 0])
        rows = latent.traverse(labelled, 0, [0.5], x=x, context=context)
        z = labelled.encode(rows[0], context=context)
        close_to_largest(z[:, 0], np.full(3, 0.5))
        close_to_largest(z[:, 1:], labelled.encode(x, context=context)[:, 1:])

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            (r"\[-4, 4\) .* got 4", {"dimension": 4}),
            ("dimension must be at least -4, got -5", {"dimension": -5}),
            ("needs x, .* or z", {"z": None}),
            ("needs x, .* or z", {"x": np.zeros(4)}),
            (r"values must be \[N\]", {"values": 1.0}),
            (r"z must end in \(4,\)", {"z": np.zeros(3)}),
        ],
    )
    def test_errors(self, nice, words, arguments):
        given = {"dimension": 0, "values": [0.0], "z": np.zeros(4), **arguments}
        with pytest.raises(ValueError, match=words):
            latent.traverse(nice, **given)

    def test_a_dimension_is_an_integer(self, nice):
        with pytest.raises(TypeError, match=r"dimension must be an integer, got 0\.5"):
            latent.traverse(nice, 0.5, [0.0], z=np.zeros(4))


class TestTranslate:
    def test_between_two_flows(self):
        source = SMALL["nice"].make(dtype="float32")
        target = SMALL["nice"].make(0.3, dtype="float64", seed=4)
        x = SMALL["nice"].data(3, "float32")
        y = latent.translate(source, x, target)
        assert y.dtype == tf.float64
        np.testing.assert_array_equal(
            y, target.decode(tf.cast(source.encode(x), "float64"))
        )
        close_to_largest(latent.translate(target, y, source), x, 1e-5)

    def test_between_two_contexts(self, labelled):
        x = SMALL["real_nvp"].data(3)
        y = latent.translate(labelled, x, source_context=0, target_context=[1, 2, 0])
        z = labelled.encode(x, context=0)
        close_to_largest(labelled.encode(y, context=[1, 2, 0]), z)
        assert np.abs(y - x)[:2].max() > 1e-3
        close_to_largest(y[2], x[2])

    def test_errors(self, nice, labelled):
        x = SMALL["nice"].data(2)
        with pytest.raises(ValueError, match="target must be another flow"):
            latent.translate(nice, x)
        with pytest.raises(ValueError, match=r"shape \(4,\) and those of target \(3,"):
            latent.translate(nice, x, labelled, target_context=0)
        with pytest.raises(ValueError, match="source_context was given"):
            latent.translate(nice, x, nice, source_context=0)
        x = SMALL["real_nvp"].data(2)
        with pytest.raises(ValueError, match="source_context is required"):
            latent.translate(labelled, x, target_context=1)
        with pytest.raises(ValueError, match="target_context is required"):
            latent.translate(labelled, x, source_context=1)


class TestTemperatures:
    def test_one_noise_scaled(self):
        flow = SMALL["nice_odd_reverse"].make(dtype="float64")
        rows = latent.temperatures(flow, 6, [0.0, 0.5, 1.0], seed=3)
        assert rows.shape == (3, 6, 5)
        mean = flow.distribution.mean()
        z = flow.encode(rows)
        close_to_largest(z[0], np.broadcast_to(mean, (6, 5)))
        close_to_largest(z[1] - mean, (z[2] - mean) / 2)
        np.testing.assert_array_equal(rows[2], flow.sample(6, seed=3))

    def test_seeds(self, nice):
        draw = lambda seed: latent.temperatures(nice, 2, [1.0, 1.0], seed)
        np.testing.assert_array_equal(draw(1), draw(1))
        assert np.abs(draw(1) - draw(2)).max() > 0.1
        assert np.abs(draw(None) - draw(None)).max() > 0.1
        np.testing.assert_array_equal(*draw(None))

    def test_context(self, labelled):
        rows = latent.temperatures(labelled, 4, [0.7], context=tf.constant([0, 2]))
        assert rows.shape == (1, 4, 2, 3)

    @pytest.mark.parametrize("wrong", [[], [-0.1], [np.nan], 0.5, [np.inf]])
    def test_errors(self, nice, wrong):
        with pytest.raises(ValueError, match="values must be"):
            latent.temperatures(nice, 2, wrong)
