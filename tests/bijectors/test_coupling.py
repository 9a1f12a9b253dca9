"""What a conditioner sees, and couplings over any mask."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support import normal
from tfp_flows import bijectors as B
from tfp_flows import masks, networks, transformers
from tfp_flows.core.event_split import partition


def test_conditioner_sees_the_kept_half_only():
    seen = []

    def conditioner(x):
        seen.append(tuple(x.shape))
        return tf.zeros_like(x)

    bijector = B.AdditiveCoupling(masks.alternating(6), conditioner)
    bijector.forward(tf.zeros([2, 3, 6]))
    assert seen == [(1, 3), (6, 3)]


def test_masked_conditioner_sees_zeros_where_the_event_changes():
    mask = masks.checkerboard(2, 2)
    bijector = B.AdditiveCoupling(
        mask, lambda x: tf.reduce_sum(x, [1, 2], keepdims=True) * tf.ones_like(x)
    )
    x = tf.reshape(tf.range(1.0, 5.0), [2, 2, 1])
    # Kept are 1 and 4; 2 and 3 move by their sum.
    np.testing.assert_array_equal(tf.reshape(bijector.forward(x), [-1]), [1, 7, 8, 4])


@pytest.mark.parametrize(
    ("mask", "event_shape", "error", "match"),
    [
        (np.ones(4, bool), None, ValueError, "all True"),
        (np.zeros(4, bool), None, ValueError, "all False"),
        (np.ones(1, bool), None, ValueError, "two features"),
        (np.array([1, 0]), None, TypeError, "boolean"),
        (np.array([True, False]), (3,), ValueError, "broadcast"),
        (np.array([True, False]), (2, 2), ValueError, "rank"),
        (np.array(True), None, ValueError, "rank"),
    ],
)
def test_coupling_mask_errors(mask, event_shape, error, match):
    with pytest.raises(error, match=match):
        B.AdditiveCoupling(mask, lambda x: x, event_shape=event_shape)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_couplings_over_drawn_masks(data):
    """Any mask, any event rank, any batch: kept stays, the rest round-trips."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    size = int(np.prod(shape))
    assume(size >= 2)
    bits = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    mask = np.array(bits).reshape(shape)
    if mask.all() or not mask.any():
        mask.flat[0] = not mask.flat[0]
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    batch = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
    count = data.draw(st.sampled_from([1, 2]))

    def conditioner(x):
        total = tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))
        total = tf.reshape(tf.sin(total), [-1] + [1] * len(out_shape))
        return total * tf.ones(out_shape, x.dtype)

    *leading, last = partition(mask, shape).changed_shape
    out_shape = (*leading, count * last)
    transformer = transformers.Shift() if count == 1 else transformers.Affine("exp")
    bijector = B.Coupling(mask, conditioner, transformer, dtype=dtype)
    x = normal(*batch, *shape, dtype=dtype)
    y, fldj = bijector.forward_and_log_det(x)
    kept = np.broadcast_to(mask, x.shape)
    np.testing.assert_array_equal(y.numpy()[kept], x.numpy()[kept])
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    back, ildj = bijector.inverse_and_log_det(tf.identity(y))
    np.testing.assert_allclose(back, x, atol=tolerance)
    np.testing.assert_allclose(fldj, -ildj, atol=20 * tolerance)
    assert fldj.shape == batch and fldj.dtype == dtype
    if count == 2 and size and 0 not in batch:
        changed = (~mask).sum()
        total = np.where(kept, x, 0).reshape(*batch, -1).sum(-1)
        np.testing.assert_allclose(fldj, changed * np.sin(total), atol=20 * tolerance)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.Coupling(masks.half(4), networks.MLP(2), transformers.Shift(), 4),
            "event_shape must be a sequence",
        ),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
