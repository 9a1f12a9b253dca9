"""Levels: what is kept, and what is drawn anew."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.flows.support import SMALL
from tests.latent.support import of_classes
from tests.support import close_to_largest
from tfp_flows import Flow, bijectors, latent

tfb = tfp.bijectors


class TestLevels:
    @pytest.mark.parametrize("name", ["real_nvp_image", "glow"])
    def test_slices_are_the_parts_of_the_noise(self, name):
        flow = SMALL[name].make(0.1, dtype="float64")
        (module,) = (m for m in flow.submodules if isinstance(m, bijectors.MultiScale))
        z = flow.encode(SMALL[name].data(2))
        slices = latent.level_slices(flow)
        parts = module.split_noise(z)
        assert len(slices) == len(parts) == 2
        for where, part in zip(slices, parts, strict=True):
            np.testing.assert_array_equal(z[..., where], np.reshape(part, [2, -1]))
        assert slices[-1].stop == z.shape[-1]

    def test_keeps_and_redraws(self, multiscale):
        x = SMALL["real_nvp_image"].data(3)
        z = multiscale.encode(x)
        fine, coarse = latent.level_slices(multiscale)
        for keep, same, new in (([0], fine, coarse), ([-1], coarse, fine)):
            y = latent.resample_levels(multiscale, x, keep, seed=5)
            assert y.shape == x.shape and y.dtype == x.dtype
            again = multiscale.encode(y).numpy()
            close_to_largest(again[:, same], z.numpy()[:, same], 1e-6)
            drawn = again[:, new]
            assert np.abs(drawn - z.numpy()[:, new]).min() > 1e-3
            # Each event gets noise of its own.
            assert np.abs(drawn[0] - drawn[1]).min() > 1e-3
            assert 0.6 < drawn.std() < 1.4
        y = latent.resample_levels(multiscale, x, [0, 1])
        close_to_largest(y, x, 1e-6)

    def test_temperature_and_seeds(self, multiscale):
        x = SMALL["real_nvp_image"].data(2)
        redraw = lambda **k: latent.resample_levels(multiscale, x, [1], **k)
        fine, _ = latent.level_slices(multiscale)
        cold = multiscale.encode(redraw(temperature=0.0)).numpy()[:, fine]
        np.testing.assert_allclose(cold, 0, atol=1e-6)
        np.testing.assert_array_equal(redraw(seed=1), redraw(seed=1))
        assert np.abs(redraw(seed=1) - redraw(seed=2)).max() > 1
        assert np.abs(redraw() - redraw()).max() > 1

    def test_new_noise_is_that_of_the_context(self):
        base = of_classes(16)
        levels = [
            bijectors.Chain([tfb.Invert(bijectors.Squeeze(2))]),
            bijectors.Scaling([2, 2, 2], dtype="float64"),
        ]
        flow = Flow(base, bijectors.MultiScale(levels, (4, 4, 1), dtype="float64"))
        context = tf.one_hot([0, 1, 1], 2, dtype=tf.float64)
        x = np.zeros((3, 4, 4, 1))
        for given in (context, context[1]):
            cold = latent.resample_levels(flow, x, [1], temperature=0, context=given)
            z = flow.encode(cold, context=given)
            # Level 0 has the mean of the class, level 1 the zeros of x.
            expected = np.broadcast_to(base.mean(context=given), (3, 16))
            close_to_largest(z[:, :8], expected[:, :8])
            close_to_largest(z[:, 8:], np.zeros((3, 8)))
        warm = latent.resample_levels(flow, x, [1], seed=0, context=context[1])
        assert np.abs(warm[0] - warm[1]).max() > 0.1

    def test_context_and_single_images(self):
        flow = SMALL["glow"].make(0.1, num_classes=2)
        x = SMALL["glow"].data(1, "float32")[0]
        y = latent.resample_levels(flow, x, [0], context=1)
        assert y.shape == x.shape
        many = latent.resample_levels(flow, x, [0], context=tf.constant([0, 1, 1]))
        assert many.shape == (3, *x.shape)

    def test_errors(self, nice, multiscale):
        for function in (
            latent.level_slices,
            lambda flow: latent.resample_levels(flow, np.zeros(4), [0]),
        ):
            with pytest.raises(ValueError, match="no levels: its noise meets Scaling"):
                function(nice)
        x = SMALL["real_nvp_image"].data(1)
        with pytest.raises(ValueError, match=r"\[-2, 2\), got \[2\]"):
            latent.resample_levels(multiscale, x, [2])
        with pytest.raises(ValueError, match="keep must be at least -2, got -3"):
            latent.resample_levels(multiscale, x, [-3])
        with pytest.raises(TypeError, match=r"keep must be an integer, got 0\.5"):
            latent.resample_levels(multiscale, x, [0.5])
        for wrong in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="temperature must be at least 0"):
                latent.resample_levels(multiscale, x, [0], temperature=wrong)
