"""Latent tools: what each does to codes, on every ready flow, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.flows.conftest import SMALL
from tfp_flows import Flow, bijectors, distributions, latent

tfb = tfp.bijectors
tfd = tfp.distributions

every = pytest.mark.parametrize("small", SMALL.values(), ids=list(SMALL))


def close(a, b, tolerance=1e-9):
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)


@pytest.fixture
def nice():
    return SMALL["nice"].make(dtype="float64")


@pytest.fixture
def labelled():
    return SMALL["real_nvp"].make(dtype="float64", num_classes=3)


@pytest.fixture
def multiscale():
    return SMALL["real_nvp_image"].make(0.1, dtype="float64")


def linear_flow(shape=(3,), scale=2.0, base=None, dtype="float64"):
    """x = scale * z, so that codes are known without the flow."""
    base = base or distributions.standard_normal(shape, dtype)
    return Flow(base, tfb.Scale(tf.constant(scale, dtype)))


def of_classes(size=2):
    """Normals about (3, 0, ...) and about (0, -5, ...)."""
    means = np.zeros((2, size))
    means[0, 0], means[1, 1] = 3, -5
    return distributions.ClassConditionalNormal(
        (size,), 2, "float64", mean=tf.constant(means)
    )


class TestInterpolate:
    @every
    def test_ends_are_the_data_themselves(self, small):
        flow = small.make(0.1, dtype="float64")
        a, b = small.data(3), small.data(3, seed=1)
        path = latent.interpolate(flow, a, b, 4, kind="spherical")
        assert path.shape == (4, 3, *small.shape) and path.dtype == tf.float64
        close(path[0], a)
        close(path[-1], b)
        assert np.abs(path[1] - path[0]).max() > 1e-3

    @pytest.mark.parametrize("kind", ["linear", "spherical"])
    def test_codes_of_the_ends_are_exact(self, kind):
        base = tfd.Independent(tfd.Normal([0.3, -7.7], [0.1, 1.7]), 1)
        flow = linear_flow((2,), 1.0, base, "float32")
        a, b = np.random.default_rng(0).standard_normal((2, 50, 2)).astype("float32")
        path = latent.interpolate(flow, a, b, 7, kind=kind)
        np.testing.assert_array_equal(path[0], a)
        np.testing.assert_array_equal(path[-1], b)

    def test_linear_codes(self, nice):
        a, b = SMALL["nice"].data(2), SMALL["nice"].data(2, seed=1)
        z = nice.encode(latent.interpolate(nice, a, b, 5))
        expected = np.linspace(nice.encode(a), nice.encode(b), 5)
        close(z, expected)

    def test_spherical_codes_keep_norms_and_angles(self):
        flow = linear_flow()
        a, b = tf.constant([[2.0, 0, 0]]), tf.constant([[0.0, 0, 6]])
        z = flow.encode(latent.interpolate(flow, a, b, 3, kind="spherical"))
        close(z[:, 0], [[1, 0, 0], [2**0.5, 0, 2**0.5], [0, 0, 3]])

    def test_spherical_is_about_the_bases_mean_in_its_units(self):
        mean, scale = np.array([1.0, -1.0]), np.array([2.0, 0.5])
        base = tfd.Independent(tfd.Normal(mean, scale), 1)
        flow = linear_flow((2,), 1.0, base)
        a, b = mean + scale * (1, 0), mean + scale * (0, 1)
        path = latent.interpolate(flow, a, b, 3, kind="spherical")
        close(path, [a, mean + scale * 0.5**0.5, b])

    def test_spherical_about_the_mean_of_a_context(self):
        flow = linear_flow((2,), 1.0, of_classes())
        context = tf.one_hot([0, 1], 2, dtype=tf.float64)
        mean = np.array([[3.0, 0], [0, -5]])
        a, b = mean + np.array([2, 0]), mean + np.array([0, 2])
        path = latent.interpolate(flow, a, b, 3, kind="spherical", context=context)
        close(path[1], mean + 2**0.5)
        close(path[0], a)
        one = latent.interpolate(flow, a, b, 3, kind="spherical", context=context[0])
        close(one[:, 0], path[:, 0])

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
            latent.interpolate(flow, a, b, 3, kind="spherical")
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
            close(path[:, i], alone)
        with pytest.raises(ValueError, match="context is required"):
            latent.interpolate(labelled, a, b, 3)

    def test_inside_a_function(self, nice):
        a, b = SMALL["nice"].data(2), SMALL["nice"].data(2, seed=1)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float64)] * 2)
        def path(a, b):
            return latent.interpolate(nice, a, b, 5, kind="spherical")

        close(path(a, b), latent.interpolate(nice, a, b, 5, kind="spherical"))
        assert path(a[:0], b[:0]).shape == (5, 0, 4)

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ('"linear" or "spherical", got \'cubic\'', {"kind": "cubic"}),
            ("steps must be 2 or more, got 1", {"steps": 1}),
            (r"a must end in \(4,\), got shape \(2, 3\)", {"a": np.zeros((2, 3))}),
            (r"b must end in \(4,\), got shape \(\)", {"b": 1.0}),
        ],
    )
    def test_errors(self, nice, words, arguments):
        given = {"a": np.zeros(4), "b": np.zeros(4), "steps": 3, **arguments}
        with pytest.raises(ValueError, match=words):
            latent.interpolate(nice, **given)


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
            close(got, expected / np.sin(angle), {"float32": 2e-6}.get(dtype, 1e-13))

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
        close(latent.slerp(zero, b, t), t * b)
        close(latent.slerp(b, zero, t), (1 - t) * b)
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
        close(np.reshape(got, [5, -1]), expected)


class TestAttributes:
    @pytest.mark.parametrize("name", ["nice", "real_nvp_image", "glow_dense"])
    def test_arrays_datasets_and_batches_give_one_vector(self, name):
        small = SMALL[name]
        flow = small.make(0.1, dtype="float64")
        x, y = small.data(7), small.data(5, seed=1)
        mean = lambda x: tf.reduce_mean(flow.encode(x), 0)
        expected = mean(x) - mean(y)
        close(latent.mean_code(flow, x, batch_size=3), mean(x))
        events = tf.data.Dataset.from_tensor_slices
        for with_, without in (
            (x, y.numpy()),
            (events(x), events(y)),
            (events(x).batch(2), events(y).batch(5)),
        ):
            got = latent.attribute_vector(flow, with_, without, batch_size=3)
            assert got.dtype == tf.float64
            assert got.shape == flow.distribution.event_shape
            close(got, expected)

    def test_all_attributes_in_one_pass(self, nice):
        x = SMALL["nice"].data(9)
        labels = np.random.default_rng(3).integers(0, 2, (9, 3)).astype(bool)
        both = latent.attribute_vectors(nice, x, labels, batch_size=4)
        assert both.shape == (3, 4)
        pairs = tf.data.Dataset.from_tensor_slices((x, labels.astype(int)))
        close(latent.attribute_vectors(nice, pairs), both)
        for i in range(3):
            has = labels[:, i]
            one = latent.attribute_vector(nice, x[has], x[~has])
            close(both[i], one)
            close(latent.attribute_vectors(nice, x, has), one)

    def test_contexts(self, labelled):
        x = SMALL["real_nvp"].data(6)
        context = np.array([0, 1, 2, 0, 1, 2])
        codes = labelled.encode(x, context=context)
        expected = tf.reduce_mean(codes[:4], 0) - tf.reduce_mean(codes[4:], 0)
        got = latent.attribute_vector(
            labelled,
            x[:4],
            x[4:],
            with_context=context[:4],
            without_context=context[4:],
            batch_size=3,
        )
        close(got, expected)
        sets = [
            tf.data.Dataset.from_tensor_slices((x[part], context[part]))
            for part in (slice(4), slice(4, None))
        ]
        close(latent.attribute_vector(labelled, *sets), expected)
        has = np.arange(6) < 4
        close(latent.attribute_vectors(labelled, x, has, context=context), expected)
        triples = tf.data.Dataset.from_tensor_slices((x, has, context)).batch(5)
        close(latent.attribute_vectors(labelled, triples), expected)
        one = latent.mean_code(labelled, x, context=1)
        close(one, tf.reduce_mean(labelled.encode(x, context=1), 0))

    def test_sums_are_exact_in_float32(self):
        flow = linear_flow((1,), 1.0, dtype="float32")
        x = np.full((200_000, 1), 0.1, np.float32)
        mean = latent.mean_code(flow, x, batch_size=50_000)
        assert mean.dtype == tf.float32 and mean[0] == np.float32(0.1)

    def test_edit_moves_codes(self, nice):
        x = SMALL["nice"].data(3)
        vector = np.array([0.5, 0.0, -1.0, 2.0])
        z = nice.encode(x)
        close(nice.encode(latent.edit(nice, x, vector)), z + vector)
        rows = latent.edit(nice, x, vector, [-1.0, 0.0, 2.0])
        assert rows.shape == (3, 3, 4)
        close(nice.encode(rows[0]), z - vector)
        close(rows[1], x)
        close(nice.encode(rows[2]), z + 2 * vector)

    def test_edit_of_images_with_labels(self):
        small = SMALL["glow"]
        flow = small.make(0.1, dtype="float64", num_classes=2)
        x, labels = small.data(2), tf.constant([0, 1])
        rows = latent.edit(flow, x, np.ones(32), [[0.0, 1.0]], context=labels)
        assert rows.shape == (1, 2, 2, 4, 4, 2)
        z = flow.encode(x, context=labels)
        close(flow.encode(rows[0, 1], context=labels), z + 1)

    @pytest.mark.parametrize(
        ("words", "call"),
        [
            (
                "without must hold at least one event",
                lambda f, x: latent.attribute_vector(f, x, x[:0]),
            ),
            (
                "with_ must hold at least one event",
                lambda f, x: latent.attribute_vector(
                    f, tf.data.Dataset.from_tensor_slices(x).take(0), x
                ),
            ),
            (
                r"with_ must be \[N, 4\], got shape \[4\]",
                lambda f, x: latent.attribute_vector(f, x[0], x),
            ),
            (
                r"without must end in \(4,\), got shape \(5, 3\)",
                lambda f, x: latent.attribute_vector(f, x, x[:, :3]),
            ),
            (
                "with_context was given, but",
                lambda f, x: latent.attribute_vector(f, x, x, with_context=[1] * 5),
            ),
            (
                r"with_ must have finite codes",
                lambda f, x: latent.attribute_vector(f, x * np.nan, x),
            ),
            (
                "attribute 1 is 1 in all 5 events of data",
                lambda f, x: latent.attribute_vectors(
                    f, x, np.stack([np.arange(5) > 2, np.ones(5)], 1)
                ),
            ),
            (
                "attribute 0 is 0 in all 5",
                lambda f, x: latent.attribute_vectors(f, x, np.zeros(5)),
            ),
            (
                "attributes must be booleans",
                lambda f, x: latent.attribute_vectors(f, x, np.arange(5)),
            ),
            (
                r"attributes must be \[5\] or \[5, A\], got shape \[4\]",
                lambda f, x: latent.attribute_vectors(f, x, np.arange(4) > 1),
            ),
            (
                r"attributes must be \[5\]",
                lambda f, x: latent.attribute_vectors(f, x),
            ),
            (
                r"dataset of \(events, attributes\)",
                lambda f, x: latent.attribute_vectors(
                    f, tf.data.Dataset.from_tensor_slices(x)
                ),
            ),
            (
                r"dataset of \(events\)",
                lambda f, x: latent.mean_code(
                    f, tf.data.Dataset.from_tensor_slices((x, x))
                ),
            ),
            (
                "its elements hold",
                lambda f, x: latent.attribute_vectors(
                    f, tf.data.Dataset.from_tensor_slices((x, x)), [True, False]
                ),
            ),
            (
                "without end",
                lambda f, x: latent.mean_code(
                    f, tf.data.Dataset.from_tensor_slices(x).repeat()
                ),
            ),
            (
                "batch_size must be 1 or more",
                lambda f, x: latent.mean_code(f, x, batch_size=0),
            ),
            (
                r"vector must be one code \(4,\)",
                lambda f, x: latent.edit(f, x, np.zeros((5, 4))),
            ),
            (r"vector must end in \(4,\)", lambda f, x: latent.edit(f, x, [1.0])),
        ],
    )
    def test_errors(self, nice, words, call):
        with pytest.raises(ValueError, match=words):
            call(nice, SMALL["nice"].data(5))

    @pytest.mark.parametrize(
        ("words", "options"),
        [
            ("without_context is required", {"with_context": 0}),
            (
                "with_context must be one, or one for each of 4",
                {"with_context": [0, 1], "without_context": 0},
            ),
        ],
    )
    def test_errors_of_contexts(self, labelled, words, options):
        x = SMALL["real_nvp"].data(4)
        with pytest.raises(ValueError, match=words):
            latent.attribute_vector(labelled, x, x, **options)
        with pytest.raises(ValueError, match=r"dataset of \(events, context\)"):
            latent.mean_code(labelled, tf.data.Dataset.from_tensor_slices(x))


class TestTraverse:
    def test_sets_one_coordinate(self, nice):
        x = SMALL["nice"].data(3)
        z = nice.encode(x).numpy()
        rows = latent.traverse(nice, 2, [-1.0, 0.0, 4.0], x=x)
        assert rows.shape == (3, 3, 4)
        for row, value in zip(rows, (-1, 0, 4), strict=True):
            expected = z.copy()
            expected[:, 2] = value
            close(nice.encode(row), expected)
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
        close(z[:, 0], np.full(3, 0.5))
        close(z[:, 1:], labelled.encode(x, context=context)[:, 1:])

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            (r"\[-4, 4\) .* got 4", {"dimension": 4}),
            (r"\[-4, 4\) .* got -5", {"dimension": -5}),
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
        close(latent.translate(target, y, source), x, 1e-5)

    def test_between_two_contexts(self, labelled):
        x = SMALL["real_nvp"].data(3)
        y = latent.translate(labelled, x, source_context=0, target_context=[1, 2, 0])
        z = labelled.encode(x, context=0)
        close(labelled.encode(y, context=[1, 2, 0]), z)
        assert np.abs(y - x)[:2].max() > 1e-3
        close(y[2], x[2])

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
        close(z[0], np.broadcast_to(mean, (6, 5)))
        close(z[1] - mean, (z[2] - mean) / 2)
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
        with pytest.raises(ValueError, match="temperatures must be"):
            latent.temperatures(nice, 2, wrong)


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
            close(again[:, same], z.numpy()[:, same], 1e-6)
            drawn = again[:, new]
            assert np.abs(drawn - z.numpy()[:, new]).min() > 1e-3
            # Each event gets noise of its own.
            assert np.abs(drawn[0] - drawn[1]).min() > 1e-3
            assert 0.6 < drawn.std() < 1.4
        y = latent.resample_levels(multiscale, x, [0, 1])
        close(y, x, 1e-6)

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
            close(z[:, :8], expected[:, :8])
            close(z[:, 8:], np.zeros((3, 8)))
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
