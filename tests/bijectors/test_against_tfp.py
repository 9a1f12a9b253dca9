"""Bijectors that TFP has too give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.bijectors.cases import made, mlp
from tests.support import normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, transformers

tfb = tfp.bijectors
tfd = tfp.distributions


def same(ours, theirs, x, ndims):
    np.testing.assert_allclose(ours.forward(x), theirs.forward(x), atol=1e-12)
    np.testing.assert_allclose(ours.inverse(x), theirs.inverse(x), atol=1e-12)
    for name in ("forward_log_det_jacobian", "inverse_log_det_jacobian"):
        got = getattr(ours, name)(x, event_ndims=ndims)
        want = getattr(theirs, name)(x, event_ndims=ndims)
        np.testing.assert_allclose(got, tf.broadcast_to(want, got.shape), atol=1e-12)


def test_affine_coupling_is_real_nvp():
    network = mlp(6, "float64")
    ours = B.AffineCoupling(masks.half(6), network, scale="exp", dtype="float64")
    perturb(ours)

    def shift_and_log_scale(x, output_units):
        return tf.split(network(x), 2, axis=-1)

    theirs = tfb.RealNVP(3, shift_and_log_scale_fn=shift_and_log_scale)
    same(ours, theirs, normal(5, 6), 1)


def test_additive_coupling_is_shift_only_real_nvp():
    network = mlp(3, "float64")
    ours = B.AdditiveCoupling(masks.half(6), network, dtype="float64")
    perturb(ours)
    theirs = tfb.RealNVP(3, shift_and_log_scale_fn=lambda x, n: (network(x), None))
    same(ours, theirs, normal(5, 6), 1)


@pytest.mark.parametrize("axis", [-1, -2])
def test_permutation_is_permute(axis):
    order = [2, 0, 3, 1]
    same(
        B.Permutation(order, axis=axis),
        tfb.Permute(order, axis=axis),
        normal(3, 4, 4),
        2,
    )


def test_scaling_is_scale():
    log_scale = normal(4)
    same(
        B.Scaling(log_scale=log_scale),
        tfb.Scale(log_scale=log_scale),
        normal(3, 4),
        1,
    )


def test_scaling_is_a_prior_of_another_standard_deviation():
    """Dinh et al. 2014, section 3.3, with -s for s."""
    s, x = normal(4), normal(7, 4, seed=1)
    scaled = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64)), B.Scaling(log_scale=s)
    )
    prior = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64), tf.exp(s))
    np.testing.assert_allclose(scaled.log_prob(x), prior.log_prob(x), atol=1e-12)


def test_batch_of_scalings():
    log_scale = normal(3, 1, 4)
    ours = B.Scaling(log_scale=log_scale, event_shape=(4,))
    theirs = tfb.Scale(log_scale=log_scale)
    x = normal(2, 4)
    assert ours.experimental_batch_shape() == (3, 1)
    assert ours.forward_log_det_jacobian(x).shape == (3, 2)
    np.testing.assert_allclose(ours.forward(x), theirs.forward(x))
    base = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64))
    assert tfd.TransformedDistribution(base, ours).sample(5).shape == (5, 3, 1, 4)


@pytest.mark.parametrize("parametrization", ["plu", "dense"])
def test_conv1x1_is_scale_matvec_lu(parametrization):
    ours = B.InvertibleConv1x1([2, 3, 4], parametrization, seed=1, dtype="float64")
    perturb(ours)
    matrix = ours.matrix
    lower_upper, permutation = tf.linalg.lu(matrix)
    theirs = tfb.ScaleMatvecLU(lower_upper, permutation)
    x = normal(5, 2, 3, 4)
    np.testing.assert_allclose(ours.forward(x), theirs.forward(x), atol=1e-10)
    np.testing.assert_allclose(ours.inverse(x), theirs.inverse(x), atol=1e-10)
    # The log-determinant of Glow, table 1: height times width times log|det W|.
    expected = 6 * np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(ours.forward_log_det_jacobian(x), [expected] * 5)
    np.testing.assert_allclose(
        theirs.forward_log_det_jacobian(x, event_ndims=3), [expected] * 5
    )


def test_conv1x1_learns_a_permutation_of_channels():
    order = np.eye(3)[[2, 0, 1]]
    conv = B.InvertibleConv1x1([1, 1, 3], initial=order, dtype="float64")
    image = tf.constant([[[[1.0, 2.0, 3.0]]]], tf.float64)
    np.testing.assert_array_equal(conv.forward(image)[0, 0, 0], [3.0, 1.0, 2.0])
    np.testing.assert_array_equal(conv.inverse_log_det_jacobian(image), [0.0])


def test_conv1x1_starts_as_a_haar_rotation():
    matrices = np.stack(
        [B.InvertibleConv1x1([1, 1, 3], seed=i).matrix for i in range(200)]
    )
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), identity, atol=1e-5
    )
    # Under the Haar measure each entry has mean 0 and variance 1/3.
    assert np.abs(matrices.mean(0)).max() < 5 * np.sqrt(1 / 3 / 200)
    np.testing.assert_allclose((matrices**2).mean((0,)), 1 / 3, atol=0.12)
    assert 0.3 < (np.linalg.det(matrices) > 0).mean() < 0.7


def test_squeeze_is_space_to_depth():
    x = normal(2, 4, 6, 3)
    np.testing.assert_array_equal(
        B.Squeeze(2).forward(x), tf.nn.space_to_depth(tf.cast(x, tf.float64), 2)
    )


def test_logit_is_composed_of_tfp():
    ours = B.Logit(0.05, 0.0, 256.0)
    theirs = tfb.Chain(
        [
            tfb.Scale(tf.constant(256.0, tf.float64)),
            tfb.Scale(tf.constant(1 / 0.9, tf.float64)),
            tfb.Shift(tf.constant(-0.05, tf.float64)),
            tfb.Sigmoid(),
        ]
    )
    y = tf.constant([[0.0, 1.0, 128.0, 255.999]], tf.float64)
    np.testing.assert_allclose(ours.inverse(y), theirs.inverse(y), atol=1e-12)
    np.testing.assert_allclose(
        ours.inverse_log_det_jacobian(y, 1),
        theirs.inverse_log_det_jacobian(y, 1),
        rtol=1e-10,
    )


def test_masked_autoregressive_is_tfps():
    network = made(5, "float64")
    ours = B.MaskedAutoregressive(network, transformers.Affine("exp"), dtype="float64")
    perturb(ours)
    theirs = tfb.MaskedAutoregressiveFlow(lambda x: tf.split(network(x), 2, axis=-1))
    same(ours, theirs, normal(4, 5), 1)
