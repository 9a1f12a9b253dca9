"""The mixture of Gaussians."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain
from tests.support import normal, perturb
from tfp_flows import Flow, distributions

tfd = tfp.distributions


def parameters(base) -> dict[str, np.ndarray]:
    normals = base.components_distribution.distribution
    return {
        "weights": np.asarray(base.mixture_distribution.probs_parameter()),
        "mean": np.asarray(normals.loc),
        "scale": np.asarray(normals.scale),
    }


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)]
)
@pytest.mark.parametrize("shape", [(3,), (2, 1, 2)])
def test_density_is_the_formula(shape, dtype, tolerance):
    base = distributions.gaussian_mixture(shape, dtype, components=4, seed=0)
    perturb(base, 0.3)
    assert (base.event_shape, base.batch_shape, base.dtype) == (shape, (), dtype)
    z = normal(6, *shape, dtype=dtype)
    values = parameters(base)
    assert values["mean"].shape == (4, *shape)
    terms = scipy.stats.norm.pdf(
        np.asarray(z, "float64")[:, None], values["mean"], values["scale"]
    )
    axes = tuple(range(2, terms.ndim))
    expected = np.log(terms.prod(axes) @ values["weights"])
    np.testing.assert_allclose(base.log_prob(z), expected, rtol=tolerance)


def test_start():
    values = parameters(distributions.gaussian_mixture((3,), components=5, seed=0))
    np.testing.assert_allclose(values["weights"], np.full(5, 0.2), rtol=1e-6)
    np.testing.assert_array_equal(values["scale"], np.ones((5, 3)))
    distances = np.linalg.norm(values["mean"][:, None] - values["mean"], axis=-1)
    assert distances[~np.eye(5, dtype=bool)].min() > 0.1
    wide = distributions.gaussian_mixture((3,), components=5, seed=0, spread=3.0)
    np.testing.assert_allclose(parameters(wide)["mean"], 3 * values["mean"], 1e-6)
    other = distributions.gaussian_mixture((3,), components=5, seed=1)
    assert np.abs(parameters(other)["mean"] - values["mean"]).min() > 1e-4


def test_variables_get_gradients_from_densities_and_samples():
    base = distributions.gaussian_mixture(
        (2,), components=3, seed=0, reparameterize=True
    )
    perturb(base, 0.3)
    assert len(base.trainable_variables) == len(base.variables) == 3
    with tf.GradientTape(persistent=True) as tape:
        density = tf.reduce_mean(base.log_prob(normal(5, 2, dtype="float32")))
        sample = tf.reduce_mean(base.sample(5, seed=0) ** 2)
    for target in (density, sample):
        for v, g in zip(
            base.trainable_variables,
            tape.gradient(target, base.trainable_variables),
            strict=True,
        ):
            assert np.abs(tf.convert_to_tensor(g)).max() > 0, v.name


def test_gradients_of_samples_are_those_of_the_mean():
    """d/dw E[z] and d/dmu E[z] by samples, against the mean itself."""
    base = distributions.gaussian_mixture(
        (2, 1), "float64", components=3, seed=0, reparameterize=True
    )
    perturb(base, 0.3)
    assert base.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    plain = distributions.gaussian_mixture((2, 1), components=3)
    assert plain.reparameterization_type == tfd.NOT_REPARAMETERIZED
    with tf.GradientTape(persistent=True) as tape:
        sampled = tf.reduce_sum([1.0, 2.0] * base.sample(100000, seed=0)[..., 0], -1)
        sampled = tf.reduce_mean(sampled)
        exact = tf.reduce_sum([1.0, 2.0] * base.mean()[:, 0])
    for v in base.trainable_variables:
        expected = tape.gradient(exact, v)
        expected = 0.0 if expected is None else tf.convert_to_tensor(expected)
        found = tf.convert_to_tensor(tape.gradient(sampled, v))
        np.testing.assert_allclose(found, expected + 0 * found, atol=0.03)


def test_learns_components():
    draw = np.random.default_rng(1)
    x = draw.choice([-2.0, 1.0, 4.0], (600, 1)) + 0.3 * draw.standard_normal((600, 1))
    base = distributions.gaussian_mixture((1,), "float64", 6, spread=3.0, seed=2)
    before = float(tf.reduce_mean(base.log_prob(x)))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(base.log_prob(x))
        variables = base.trainable_variables
        for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
            v.assign_sub(0.3 * tf.convert_to_tensor(g))

    for _ in range(300):
        step()
    after = float(tf.reduce_mean(base.log_prob(x)))
    entropy = np.log(3) + 0.5 * np.log(2 * np.pi * np.e * 0.09)
    assert before < -2.0
    assert after > -entropy - 0.1


def test_in_a_flow_and_copied():
    flow = Flow(distributions.gaussian_mixture((4,), seed=0), make_chain())
    x, log_prob = flow.sample_and_log_prob(5, seed=0, temperature=0.5)
    np.testing.assert_allclose(flow.log_prob(x.numpy()), log_prob, 1e-4)
    again = copy.deepcopy(flow)
    assert not {v.ref() for v in flow.variables} & {v.ref() for v in again.variables}
    perturb(again, 0.3)
    np.testing.assert_allclose(flow.log_prob(x.numpy()), log_prob, 1e-4)
    assert np.abs(again.log_prob(x) - log_prob).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [({"components": 0}, "components.*0"), ({"spread": -1.0}, "spread.*-1")],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        distributions.gaussian_mixture((2,), **options)
