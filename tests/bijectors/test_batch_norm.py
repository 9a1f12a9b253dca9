"""Batch normalisation: both modes, averages, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import normal, perturb
from tfp_flows import bijectors as B

tfb = tfp.bijectors


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_batch_norm_in_both_modes(shape):
    norm = B.BatchNorm(shape, momentum=0.9, dtype="float64")
    perturb(norm)
    y = 3 + 2 * normal(20, *shape)
    axes = tuple(range(len(shape)))
    mean, variance = np.mean(y, axes), np.var(y, axes)
    x, ildj = norm.inverse_and_log_det(y, training=True)
    log_scale, shift = norm._log_scale.numpy(), norm._shift.numpy()
    expected = (y - mean) / np.sqrt(variance + 1e-5) * np.exp(log_scale) + shift
    np.testing.assert_allclose(x, expected, atol=1e-10)
    positions = int(np.prod(shape[:-1]))
    log_det = positions * np.sum(log_scale - 0.5 * np.log(variance + 1e-5))
    np.testing.assert_allclose(ildj, [log_det] * 20)
    np.testing.assert_allclose(norm.moving_mean, mean)
    np.testing.assert_allclose(norm.moving_variance, variance)
    with pytest.raises(ValueError, match=r"forward has no training mode.*averages"):
        norm.forward(x, training=True)
    moved = norm.moving_mean.numpy()
    x, ildj = norm.inverse_and_log_det(y)
    np.testing.assert_array_equal(norm.moving_mean, moved)
    back, fldj = norm.forward_and_log_det(tf.identity(x))
    np.testing.assert_allclose(back, y, atol=1e-10)
    np.testing.assert_allclose(fldj, -ildj)


def test_averages_of_batch_norm():
    """Means of all batches so far, while these are few; then they fade."""
    norm = B.BatchNorm([2], momentum=0.75, dtype="float64")
    mean, variance = 0.0, 1.0
    for share in (1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4):
        y = normal(20, 2, seed=round(99 * share))
        norm.inverse(y, training=True)
        mean += share * (np.mean(y, 0) - mean)
        variance += share * (np.var(y, 0) - variance)
        np.testing.assert_allclose(norm.moving_mean, mean)
        np.testing.assert_allclose(norm.moving_variance, variance)


def test_batch_norm_gradients_flow_through_the_statistics():
    norm = B.BatchNorm([2], dtype="float64")
    y = normal(6, 2)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x, _ = norm.inverse_and_log_det(y, training=True)
        loss = tf.reduce_sum(x**2)
    # Normalised squares sum to a constant but for epsilon (1e-5); with the statistics
    # held fixed the gradient would be of the order of one.
    assert np.abs(tape.gradient(loss, y)).max() < 1e-3


def test_training_reaches_batch_norm_through_a_chain():
    norm = B.BatchNorm([2])
    chain = B.Chain([B.ActNorm([2]), norm, tfb.Scale(2.0)])
    assert chain.keywords == {"training"}
    chain.inverse(normal(8, 2, dtype="float32") + 4, training=True)
    assert np.abs(norm.moving_mean).max() > 0
    with pytest.raises(TypeError, match="training"):
        B.ActNorm([2]).inverse(tf.zeros([1, 2]), training=True)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.BatchNorm([3], momentum=1.0), "momentum"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
