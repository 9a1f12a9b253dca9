"""Interpolation: ends, codes between them, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.flows.support import SMALL
from tests.latent.support import linear_flow, of_classes
from tests.support import close_to_largest, fast_and_slow
from tfp_flows import latent

tfb = tfp.bijectors
tfd = tfp.distributions


class TestInterpolate:
    @pytest.mark.parametrize(
        "name", fast_and_slow(SMALL, "glow", "real_nvp", "maf", "residual_flow")
    )
    def test_ends_are_the_data_themselves(self, name):
        small = SMALL[name]
        flow = small.make(0.1, dtype="float64")
        a, b = small.data(3), small.data(3, seed=1)
        path = latent.interpolate(flow, a, b, 4, method="spherical")
        assert path.shape == (4, 3, *small.shape) and path.dtype == tf.float64
        close_to_largest(path[0], a)
        close_to_largest(path[-1], b)
        assert np.abs(path[1] - path[0]).max() > 1e-3

    @pytest.mark.parametrize("method", ["linear", "spherical"])
    def test_codes_of_the_ends_are_exact(self, method):
        base = tfd.Independent(tfd.Normal([0.3, -7.7], [0.1, 1.7]), 1)
        flow = linear_flow((2,), 1.0, base, "float32")
        a, b = np.random.default_rng(0).standard_normal((2, 50, 2)).astype("float32")
        path = latent.interpolate(flow, a, b, 7, method=method)
        np.testing.assert_array_equal(path[0], a)
        np.testing.assert_array_equal(path[-1], b)

    def test_linear_codes(self, nice):
        a, b = SMALL["nice"].data(2), SMALL["nice"].data(2, seed=1)
        z = nice.encode(latent.interpolate(nice, a, b, 5))
        expected = np.linspace(nice.encode(a), nice.encode(b), 5)
        close_to_largest(z, expected)

    def test_spherical_codes_keep_norms_and_angles(self):
        flow = linear_flow()
        a, b = tf.constant([[2.0, 0, 0]]), tf.constant([[0.0, 0, 6]])
        z = flow.encode(latent.interpolate(flow, a, b, 3, method="spherical"))
        close_to_largest(z[:, 0], [[1, 0, 0], [2**0.5, 0, 2**0.5], [0, 0, 3]])

    def test_spherical_is_about_the_bases_mean_in_its_units(self):
        mean, scale = np.array([1.0, -1.0]), np.array([2.0, 0.5])
        base = tfd.Independent(tfd.Normal(mean, scale), 1)
        flow = linear_flow((2,), 1.0, base)
        a, b = mean + scale * (1, 0), mean + scale * (0, 1)
        path = latent.interpolate(flow, a, b, 3, method="spherical")
        close_to_largest(path, [a, mean + scale * 0.5**0.5, b])

    def test_spherical_about_the_mean_of_a_context(self):
        flow = linear_flow((2,), 1.0, of_classes())
        context = tf.one_hot([0, 1], 2, dtype=tf.float64)
        mean = np.array([[3.0, 0], [0, -5]])
        a, b = mean + np.array([2, 0]), mean + np.array([0, 2])
        path = latent.interpolate(flow, a, b, 3, method="spherical", context=context)
        close_to_largest(path[1], mean + 2**0.5)
        close_to_largest(path[0], a)
        one = latent.interpolate(flow, a, b, 3, method="spherical", context=context[0])
        close_to_largest(one[:, 0], path[:, 0])

    @pytest.mark.parametrize(
        "base",
        [
            tfd.Cauchy(tf.zeros(3, tf.float64), 1),
            tfd.TransformedDistribution(
                tfd.Normal(tf.zeros(3, tf.float64), 1), tfb.Tanh()
            ),
        ],
        ids=["infinite", "unknown"],
    )
    def test_spherical_needs_a_mean_and_a_deviation(self, base):
        flow = linear_flow((3,), 1.0, tfd.Independent(base, 1, name="odd_base"))
        a, b = np.zeros(3), np.ones(3)
        with pytest.raises(ValueError, match=r'spherical.* odd_base .*"linear"'):
            latent.interpolate(flow, a, b, 3, method="spherical")
        assert latent.interpolate(flow, a, b, 3).shape == (3, 3)

    def test_in_float32_from_other_numbers(self):
        flow = linear_flow(dtype="float32")
        path = latent.interpolate(flow, np.zeros((2, 3), np.uint8), np.ones(3), 2)
        assert path.dtype == tf.float32 and path.shape == (2, 2, 3)

    def test_context_and_broadcasting(self, labelled):
        a, b = SMALL["real_nvp"].data(4), SMALL["real_nvp"].data(1, seed=1)[0]
        context = tf.constant([0, 1, 2, 0])
        path = latent.interpolate(labelled, a, b, 3, context=context)
        for i, label in enumerate(context):
            alone = latent.interpolate(labelled, a[i], b, 3, context=label)
            close_to_largest(path[:, i], alone)
        with pytest.raises(ValueError, match="context is required"):
            latent.interpolate(labelled, a, b, 3)

    def test_inside_a_function(self, nice):
        a, b = SMALL["nice"].data(2), SMALL["nice"].data(2, seed=1)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float64)] * 2)
        def path(a, b):
            return latent.interpolate(nice, a, b, 5, method="spherical")

        close_to_largest(
            path(a, b), latent.interpolate(nice, a, b, 5, method="spherical")
        )
        assert path(a[:0], b[:0]).shape == (5, 0, 4)

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ("'linear', 'spherical'; got 'cubic'", {"method": "cubic"}),
            ("steps must be at least 2, got 1", {"steps": 1}),
            (r"a must end in \(4,\), got shape \(2, 3\)", {"a": np.zeros((2, 3))}),
            (r"b must end in \(4,\), got shape \(\)", {"b": 1.0}),
        ],
    )
    def test_errors(self, nice, words, arguments):
        given = {"a": np.zeros(4), "b": np.zeros(4), "steps": 3, **arguments}
        with pytest.raises(ValueError, match=words):
            latent.interpolate(nice, **given)

    def test_masked_entries_and_complex_numbers(self, nice):
        ones = np.ones((2, 4))
        for wrong, words in (
            (np.ma.masked_array(ones, ones > 0), "has masked entries"),
            (ones + 1j, "must hold real numbers"),
        ):
            for use in (
                lambda x: latent.interpolate(nice, ones, x, 3),
                lambda x: latent.mean_code(nice, x),
                lambda x: latent.edit(nice, x, np.ones(4), 1.0),
            ):
                with pytest.raises(TypeError, match=words):
                    use(wrong)


class TestSlerp:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("size", [2, 5, 3000])
    def test_is_the_formula_on_a_sphere(self, dtype, size):
        draw = np.random.default_rng(0)
        a, b = draw.standard_normal((2, 7, size))
        a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
        angle = np.arccos((a * b).sum(-1, keepdims=True))
        for t in (0.25, 0.5, 0.9):
            expected = np.sin((1 - t) * angle) * a + np.sin(t * angle) * b
            got = latent.slerp(tf.constant(a, dtype), tf.constant(b, dtype), t)
            assert got.dtype == dtype
            close_to_largest(
                got, expected / np.sin(angle), {"float32": 2e-6}.get(dtype, 1e-13)
            )

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(
        "gap", [0.0, 1e-30, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.1]
    )
    @pytest.mark.parametrize("opposite", [False, True])
    @pytest.mark.parametrize("norms", [(1, 1), (1e-20, 2), (1e18, 1e18)])
    def test_nearly_parallel_and_nearly_opposite(self, dtype, gap, opposite, norms):
        a = np.array([0.6, 0.8, 0.0])
        b = a + gap * np.array([0.0, 0.0, 1.0])
        b *= (-1 if opposite else 1) / np.linalg.norm(b)
        a, b = (tf.constant(n * v, dtype) for n, v in zip(norms, (a, b), strict=True))
        t = np.linspace(0, 1, 9)[:, None]
        path = latent.slerp(a, b, t).numpy().astype("float64")
        np.testing.assert_array_equal(path[0], a)
        np.testing.assert_array_equal(path[-1], b)
        norm = (1 - t[:, 0]) * norms[0] + t[:, 0] * norms[1]
        tolerance = {"float32": 3e-6}.get(dtype, 1e-12)
        np.testing.assert_allclose(np.linalg.norm(path, axis=1), norm, rtol=tolerance)
        # The direction turns by equal angles.
        u = path / norm[:, None]
        chord = np.linalg.norm(np.diff(u, axis=0), axis=1)
        np.testing.assert_allclose(chord, chord.mean(), atol=10 * tolerance)
        if not opposite:
            assert chord.sum() < 2 * gap + 10 * tolerance

    def test_zero_vectors(self):
        zero, b = tf.zeros([3], tf.float64), tf.constant([3.0, 0, 4], tf.float64)
        t = np.array([[0.0], [0.5], [1.0]])
        close_to_largest(latent.slerp(zero, b, t), t * b)
        close_to_largest(latent.slerp(b, zero, t), (1 - t) * b)
        np.testing.assert_array_equal(latent.slerp(zero, zero, t), np.zeros((3, 3)))

    def test_one_number(self):
        path = latent.slerp([1.0], [-1.0], [[0.0], [0.25], [0.5], [1.0]])
        assert np.isfinite(path).all()
        assert path[0] == 1 and path[-1] == -1

    def test_events_of_any_rank(self):
        draw = np.random.default_rng(0)
        a, b = draw.standard_normal((2, 5, 2, 3, 4))
        got = latent.slerp(a, b, 0.3, event_ndims=3)
        expected = latent.slerp(a.reshape(5, -1), b.reshape(5, -1), 0.3)
        close_to_largest(np.reshape(got, [5, -1]), expected)
