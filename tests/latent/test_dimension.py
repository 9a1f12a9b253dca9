"""Dimensions that are known: a plane in space."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.latent.support import linear_flow
from tests.support import close_to_largest, perturb
from tfp_flows import Flow, bijectors, distributions, flows, latent

tfd = tfp.distributions

DRAW = np.random.default_rng(0)
# Two axes of a plane in five dimensions, orthonormal, and their complement.
AXES = np.linalg.qr(DRAW.normal(size=(5, 5)))[0]
DEVIATIONS = np.array([3.0, 1.0])


def plane(noise):
    """The density of a Gaussian plane with noise about it."""
    scales = np.array([*np.sqrt(DEVIATIONS**2 + noise**2), *[noise] * 3])
    return tfd.MultivariateNormalTriL(
        scale_tril=np.linalg.cholesky(AXES @ np.diag(scales**2) @ AXES.T)
    )


def points(count, noise, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, 2)) * DEVIATIONS @ AXES[:, :2].T
    return x + noise * draw.normal(size=(count, 5))


def test_noise_slope_of_the_true_densities():
    noise = np.array([0.01, 0.02, 0.04])
    x = points(50, 0.0)
    log_prob = [plane(n).log_prob(x) for n in noise]
    np.testing.assert_allclose(
        latent.dimension_from_noise(log_prob, noise, 5), 2.0, atol=0.01
    )


def test_jacobian_of_a_linear_map():
    """x = A z, of which the singular values are those of A, everywhere."""
    matrix = AXES * np.array([3.0, 1.0, 0.1, 0.2, 0.05])
    flow = Flow(
        distributions.standard_normal((5,), "float64"),
        tfp.bijectors.ScaleMatvecTriL(tf.linalg.cholesky(matrix @ matrix.T)),
    )
    found = latent.jacobian_singular_values(flow, points(5, 0.1), batch_size=2)
    close_to_largest(found, np.tile([3.0, 1.0, 0.2, 0.1, 0.05], [5, 1]))
    assert latent.dimension_from_spectrum(found) == 2


def test_jacobian_of_an_image_and_with_a_context():
    values = latent.jacobian_singular_values(
        linear_flow((2, 3), 2.0), np.ones((4, 2, 3))
    )
    close_to_largest(values, np.full((4, 6), 2.0))
    flow = perturb(flows.real_nvp((3,), layers=2, width=4, num_classes=2, seed=0))
    x = np.ones((1, 3), "float32")
    found = latent.jacobian_singular_values(flow, x, context=1)
    # Their product is the volume.
    noise = flow.distribution.log_prob(flow.encode(x, context=[1]))
    close_to_largest(np.log(found).sum(1), noise - flow.log_prob(x, context=[1]), 1e-4)
    assert (np.diff(found) <= 0).all()


def test_scale_spectrum():
    scaling = bijectors.Scaling(log_scale=np.log([0.1, 5.0, 1.0]), dtype="float64")
    flow = Flow(distributions.standard_normal((3,), "float64"), scaling)
    close_to_largest(latent.scale_spectrum(flow), [5.0, 1.0, 0.1])
    nice = flows.nice((4,), width=4, seed=0)
    (found,) = (m for m in nice.bijector.submodules if isinstance(m, bijectors.Scaling))
    perturb(found)
    expected = np.exp(found.inverse_log_det_jacobian(tf.ones(4), 1))
    close_to_largest(1 / np.prod(latent.scale_spectrum(nice)), expected, 1e-5)


def test_errors():
    x = np.zeros(5)
    with pytest.raises(ValueError, match=r"x must be \[N, "):
        latent.jacobian_singular_values(linear_flow((5,)), x)
    with pytest.raises(ValueError, match="flow must have one Scaling"):
        latent.scale_spectrum(linear_flow((5,)))
    for wrong in ([1.0], [[[1.0, 2.0]]], np.zeros((0, 2))):
        with pytest.raises(ValueError, match=r"spectrum must be \[D\] or \[N, D\]"):
            latent.dimension_from_spectrum(wrong)
    for wrong in ([1.0, 2.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="positive numbers in descending order"):
            latent.dimension_from_spectrum(wrong)
    for words, log_prob, noise in (
        (r"noise must be \[S\]", np.zeros((2, 1)), [0.1, 0.0]),
        ("two or more deviations", np.zeros((2, 1)), [0.1, 0.1]),
        (
            r"log_prob must be \[2, N\], got shape \(3, 1\)",
            np.zeros((3, 1)),
            [0.1, 0.2],
        ),
        ("log_prob must be finite", [[np.nan], [0.0]], [0.1, 0.2]),
    ):
        with pytest.raises(ValueError, match=words):
            latent.dimension_from_noise(log_prob, noise, 5)
