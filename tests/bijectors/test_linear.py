"""Linear layers: the matrices they start from, reach, and share."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import bijectors as B
from tfp_flows.core.square_matrix import initial_matrix

LAYERS = {
    "plu": lambda size, **options: B.PLU(size, dtype="float64", **options),
    "qr": lambda size, **options: B.QR(size, dtype="float64", **options),
    "qr_fewest": lambda size, **options: B.QR(
        size, max(1, size - 1), dtype="float64", **options
    ),
    "qr_many": lambda size, **options: B.QR(
        size, 2 * size + 1, dtype="float64", **options
    ),
}
every = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@every
@pytest.mark.parametrize("size", [1, 2, 5])
def test_starts_at_the_matrix_given(build, size):
    starts = {
        "gaussian": gaussian(size, size),
        # What a reflection has nothing to clear in.
        "identity": np.eye(size),
        "negative": -np.eye(size),
        "reversed": np.eye(size)[::-1],
        "triangular": np.triu(gaussian(size, size)) + 3 * np.eye(size),
    }
    for name, start in starts.items():
        layer = build(size, initial=start)
        np.testing.assert_allclose(layer.matrix, start, atol=1e-12, err_msg=name)


@every
def test_starts_at_a_rotation(build):
    def start(seed):
        return build(4, seed=seed).matrix.numpy()

    np.testing.assert_allclose(start(0) @ start(0).T, np.eye(4), atol=1e-12)
    np.testing.assert_array_equal(start(0), start(0))
    assert np.abs(start(0) - start(1)).max() > 0.1
    # One seed, one rotation, whatever holds it.
    np.testing.assert_allclose(start(0), B.PLU(4, seed=0).matrix, atol=1e-6)


def test_random_rotations_favour_no_sign():
    """As Haar's measure does not, though the decomposition behind it does."""
    corners = [initial_matrix(None, 4, seed)[0, 0] for seed in range(400)]
    # A squared entry has mean 1/4.
    assert abs(np.mean(corners)) < 4 * 0.5 / np.sqrt(400)


@pytest.mark.parametrize(
    "build",
    [
        *LAYERS.values(),
        lambda size, **options: B.InvertibleConv1x1((1, 1, size), **options),
        lambda size, **options: B.InvertibleConv1x1((1, 1, size), "dense", **options),
    ],
)
def test_forward_does_what_the_matrix_says(build):
    layer = build(3, initial=2 * np.eye(3))
    x = tf.constant(gaussian(1, 1, 3), layer.dtype)
    y, log_det = layer.forward_and_log_det(x)
    np.testing.assert_allclose(y, 2 * x, rtol=1e-6)
    np.testing.assert_allclose(log_det, 3 * np.log(2) + 0 * log_det, rtol=1e-6)
    np.testing.assert_allclose(layer.inverse(y), x, rtol=1e-6)


@every
def test_is_a_product_with_its_matrix(build):
    layer = build(5, seed=0)
    perturb(layer)
    matrix, y = layer.matrix.numpy(), gaussian(3, 2, 5)
    x, log_det = layer.forward_and_log_det(y)
    np.testing.assert_allclose(x, y @ matrix.T, rtol=1e-10, atol=1e-12)
    expected = np.full((3, 2), np.linalg.slogdet(matrix)[1])
    np.testing.assert_allclose(log_det, expected, rtol=1e-10)


def test_few_reflections_leave_a_subspace_as_it_is():
    layer = B.QR(5, reflections=2, seed=0, dtype="float64")
    singular = np.linalg.svd(layer.matrix * layer._sign[None] - np.eye(5))[1]
    assert (singular > 1e-10).sum() == 2


def test_a_rotation_stays_one_while_reflections_move():
    layer = B.QR(6, seed=0, dtype="float64")
    layer._vectors.assign_add(gaussian(6, 6))
    matrix = layer.matrix.numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 3, 4)])
def test_conv1x1_is_plu_at_every_position(shape):
    conv = B.InvertibleConv1x1(shape, seed=3, dtype="float64")
    layer = B.PLU(shape[-1:], seed=3, dtype="float64")
    # The same variables in the same order.
    for there, here in zip(conv.variables, layer.variables, strict=True):
        assert there.name == here.name
        np.testing.assert_array_equal(there, here)
    perturb(conv), perturb(layer)
    y = gaussian(2, *shape)
    x, log_det = conv.inverse_and_log_det(y)
    at_each, log_dets = layer.inverse_and_log_det(y)
    np.testing.assert_allclose(x, at_each, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_det, tf.reduce_sum(log_dets, [1, 2]), rtol=1e-12)
    np.testing.assert_allclose(conv.forward(x), y, rtol=1e-10, atol=1e-10)


def test_conv1x1_keeps_the_names_of_its_variables():
    """Checkpoints name variables by attributes."""
    conv = B.InvertibleConv1x1((2, 2, 3), seed=0)
    names = ["_lu", "_permutation", "_sign"]
    assert [v.ref() for v in conv.variables] == [getattr(conv, n).ref() for n in names]


@pytest.mark.parametrize("build", [B.PLU, B.QR])
def test_orthogonal_in_float32_at_size_256(build):
    layer = build(256, seed=0)
    x = tf.constant(gaussian(8, 256), tf.float32)
    z = layer.inverse(x)
    np.testing.assert_allclose(
        np.linalg.norm(z, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(layer.forward(z), x, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.PLU(0), "event_shape.*got 0"),
        (lambda: B.QR((2, 2, 3)), r"event_shape.*\(2, 2, 3\).*InvertibleConv1x1"),
        (lambda: B.PLU(2, initial=np.ones((2, 2))), "invertible"),
        (lambda: B.QR(2, initial=np.eye(3)), r"initial.*\(2, 2\).*\(3, 3\)"),
        (lambda: B.QR(3, 0), "reflections.*at least 1, got 0"),
        (lambda: B.QR(4, 2, initial=np.eye(4)), "initial.*3 reflections, got 2"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.InvertibleConv1x1([3]), "H, W, C"),
        (lambda: B.InvertibleConv1x1([1, 1, 3], "svd"), "parametrization"),
        (lambda: B.InvertibleConv1x1([1, 1, 2], initial=np.ones((2, 2))), "invertible"),
        (lambda: B.InvertibleConv1x1([1, 1, 2], initial=np.eye(3)), "shape"),
    ],
)
def test_conv1x1_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.InvertibleConv1x1(4), "event_shape must be a sequence.* got 4"),
        (lambda: B.InvertibleConv1x1([4, 4, None]), r"event_shape\[2\] .* got None"),
        (lambda: B.PLU("a"), "event_shape must be an integer or .* got 'a'"),
        (lambda: B.PLU([2.5]), r"event_shape must be an integer .* got \[2.5\]"),
        (lambda: B.PLU(True), "event_shape must be an integer or .* got True"),
        (lambda: B.QR("a"), "event_shape must be an integer or .* got 'a'"),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
