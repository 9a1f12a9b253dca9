"""Attribute vectors: of arrays and datasets, and what editing does to codes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import SMALL
from tests.latent.support import linear_flow
from tests.support import close_to_largest, fast_and_slow
from tfp_flows import latent


class TestAttributes:
    @pytest.mark.parametrize(
        "name", fast_and_slow(["nice", "real_nvp_image", "glow_dense"], "nice")
    )
    def test_arrays_datasets_and_batches_give_one_vector(self, name):
        small = SMALL[name]
        flow = small.make(0.1, dtype="float64")
        x, y = small.data(7), small.data(5, seed=1)
        mean = lambda x: tf.reduce_mean(flow.encode(x), 0)
        expected = mean(x) - mean(y)
        close_to_largest(latent.mean_code(flow, x, batch_size=3), mean(x))
        events = tf.data.Dataset.from_tensor_slices
        for present, absent in (
            (x, y.numpy()),
            (events(x), events(y)),
            (events(x).batch(2), events(y).batch(5)),
            (events((x,)).batch(4), events((y,))),
        ):
            got = latent.attribute_vector(flow, present, absent, batch_size=3)
            assert got.dtype == tf.float64
            assert got.shape == flow.distribution.event_shape
            close_to_largest(got, expected)

    def test_all_attributes_in_one_pass(self, nice):
        x = SMALL["nice"].data(9)
        labels = np.random.default_rng(3).integers(0, 2, (9, 3)).astype(bool)
        both = latent.attribute_vectors(nice, x, labels, batch_size=4)
        assert both.shape == (3, 4)
        pairs = tf.data.Dataset.from_tensor_slices((x, labels.astype(int)))
        close_to_largest(latent.attribute_vectors(nice, pairs), both)
        for i in range(3):
            has = labels[:, i]
            one = latent.attribute_vector(nice, x[has], x[~has])
            close_to_largest(both[i], one)
            close_to_largest(latent.attribute_vectors(nice, x, has), one)

    def test_contexts(self, labelled):
        x = SMALL["real_nvp"].data(6)
        context = np.array([0, 1, 2, 0, 1, 2])
        codes = labelled.encode(x, context=context)
        expected = tf.reduce_mean(codes[:4], 0) - tf.reduce_mean(codes[4:], 0)
        got = latent.attribute_vector(
            labelled,
            x[:4],
            x[4:],
            present_context=context[:4],
            absent_context=context[4:],
            batch_size=3,
        )
        close_to_largest(got, expected)
        sets = [
            tf.data.Dataset.from_tensor_slices((x[part], context[part]))
            for part in (slice(4), slice(4, None))
        ]
        close_to_largest(latent.attribute_vector(labelled, *sets), expected)
        has = np.arange(6) < 4
        close_to_largest(
            latent.attribute_vectors(labelled, x, has, context=context), expected
        )
        triples = tf.data.Dataset.from_tensor_slices((x, has, context)).batch(5)
        close_to_largest(latent.attribute_vectors(labelled, triples), expected)
        one = latent.mean_code(labelled, x, context=1)
        close_to_largest(one, tf.reduce_mean(labelled.encode(x, context=1), 0))

    def test_an_array_that_stays_in_its_file(self, nice, tmp_path):
        x = SMALL["nice"].data(7).numpy()
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        close_to_largest(
            latent.mean_code(nice, mapped, batch_size=3), latent.mean_code(nice, x)
        )

    def test_sums_are_exact_in_float32(self):
        flow = linear_flow((1,), 1.0, dtype="float32")
        x = np.full((200_000, 1), 0.1, np.float32)
        mean = latent.mean_code(flow, x, batch_size=50_000)
        assert mean.dtype == tf.float32 and mean[0] == np.float32(0.1)

    def test_edit_moves_codes(self, nice):
        x = SMALL["nice"].data(3)
        vector = np.array([0.5, 0.0, -1.0, 2.0])
        z = nice.encode(x)
        close_to_largest(nice.encode(latent.edit(nice, x, vector)), z + vector)
        rows = latent.edit(nice, x, vector, [-1.0, 0.0, 2.0])
        assert rows.shape == (3, 3, 4)
        close_to_largest(nice.encode(rows[0]), z - vector)
        close_to_largest(rows[1], x)
        close_to_largest(nice.encode(rows[2]), z + 2 * vector)

    def test_edit_of_images_with_labels(self):
        small = SMALL["glow"]
        flow = small.make(0.1, dtype="float64", num_classes=2)
        x, labels = small.data(2), tf.constant([0, 1])
        rows = latent.edit(flow, x, np.ones(32), [[0.0, 1.0]], context=labels)
        assert rows.shape == (1, 2, 2, 4, 4, 2)
        z = flow.encode(x, context=labels)
        close_to_largest(flow.encode(rows[0, 1], context=labels), z + 1)

    @pytest.mark.parametrize(
        ("words", "call"),
        [
            (
                "absent must hold at least one event",
                lambda f, x: latent.attribute_vector(f, x, x[:0]),
            ),
            (
                "present must hold at least one event",
                lambda f, x: latent.attribute_vector(
                    f, tf.data.Dataset.from_tensor_slices(x).take(0), x
                ),
            ),
            (
                r"present must be \[N, 4\], got shape \[4\]",
                lambda f, x: latent.attribute_vector(f, x[0], x),
            ),
            (
                r"absent must end in \(4,\), got shape \(5, 3\)",
                lambda f, x: latent.attribute_vector(f, x, x[:, :3]),
            ),
            (
                "present_context was given, but",
                lambda f, x: latent.attribute_vector(f, x, x, present_context=[1] * 5),
            ),
            (
                r"present must have finite codes",
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
                "its elements hold",
                lambda f, x: latent.attribute_vectors(
                    f, tf.data.Dataset.from_tensor_slices((x, x)), ()
                ),
            ),
            (
                "without end",
                lambda f, x: latent.mean_code(
                    f, tf.data.Dataset.from_tensor_slices(x).repeat()
                ),
            ),
            (
                "batch_size must be at least 1",
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
            ("absent_context is required", {"present_context": 0}),
            (
                "present_context must be one, or one for each of 4",
                {"present_context": [0, 1], "absent_context": 0},
            ),
        ],
    )
    def test_errors_of_contexts(self, labelled, words, options):
        x = SMALL["real_nvp"].data(4)
        with pytest.raises(ValueError, match=words):
            latent.attribute_vector(labelled, x, x, **options)
        with pytest.raises(ValueError, match=r"dataset of \(events, context\)"):
            latent.mean_code(labelled, tf.data.Dataset.from_tensor_slices(x))
