"""Mixtures that start from data, against TFP, scikit-learn and their own samples."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.mixture import GaussianMixture

from tests.support import perturb
from tfp_flows import FlowModel, distributions, flows, training
from tfp_flows.distributions import FittedMixture

tfd = tfp.distributions


def clusters(n=600, dtype="float32"):
    """Two slanted clusters of unequal size in three dimensions."""
    draw = np.random.default_rng(0)
    slant = np.array([[1.0, 0.9, 0.0], [0.0, 0.2, 0.0], [0.0, 0.5, 1.0]])
    which = draw.random(n) < 0.3
    x = draw.normal(size=(n, 3)) @ slant + np.where(which, 6.0, -1.0)[:, None]
    return x.astype(dtype)


def by_tfp(base):
    """The same mixture of TFP's parts."""
    inverse = tf.linalg.inv(tf.convert_to_tensor(base._factors))
    covariances = inverse @ tf.linalg.matrix_transpose(inverse)
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=base._logits),
        tfd.MultivariateNormalTriL(base._means, tf.linalg.cholesky(covariances)),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_density_and_moments_are_those_of_tfp(dtype):
    base = perturb(FittedMixture((3,), components=4, dtype=dtype, seed=0))
    z = tf.constant(clusters(20, dtype))
    reference = by_tfp(base)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(
        base.log_prob(z), reference.log_prob(z), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(base.mean(), reference.mean(), rtol=10 * tolerance)
    np.testing.assert_allclose(
        base.variance(), reference.variance(), rtol=10 * tolerance
    )
    assert base.log_prob(z[0]).shape == () and base.log_prob(z[:0]).shape == (0,)
    assert base.log_prob(tf.reshape(z, [4, 5, 3])).shape == (4, 5)
    assert base.prob(z).dtype == dtype


def test_images():
    base = perturb(FittedMixture((2, 2, 1), components=2, seed=0))
    z = base.sample((3, 5), seed=0)
    assert z.shape == (3, 5, 2, 2, 1) and base.mean().shape == (2, 2, 1)
    flat = FittedMixture((4,), components=2)
    for mine, other in zip(flat.variables, base.variables, strict=True):
        mine.assign(other)
    np.testing.assert_allclose(
        base.log_prob(z), flat.log_prob(tf.reshape(z, [3, 5, 4])), rtol=1e-5
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_samples_are_of_the_density(compiled):
    base = FittedMixture((3,), components=2, seed=0)
    base.initialize(clusters())
    draw = tf.function(
        lambda seed: base.sample(20_000, seed=seed), jit_compile=compiled
    )
    z = draw(tf.constant([3, 4])).numpy()
    np.testing.assert_allclose(z.mean(0), base.mean(), atol=0.1)
    np.testing.assert_allclose(z.var(0), base.variance(), rtol=0.05)
    assert (z[:, 0] > 2.5).mean() == pytest.approx(0.3, abs=0.04)
    # Within a cluster, the slant is there.
    far = z[z[:, 0] > 2.5]
    assert np.corrcoef(far.T)[0, 1] == pytest.approx(
        np.corrcoef(clusters()[clusters()[:, 0] > 2.5].T)[0, 1], abs=0.1
    )
    if not compiled:  # XLA draws other numbers of the same seed
        again = base.sample(20_000, seed=tf.constant([3, 4]))
        np.testing.assert_array_equal(z, again)
    assert base.sample(0, seed=0).shape == (0, 3)
    assert base.sample(seed=0).shape == (3,)


def test_it_starts_as_the_mixture_of_scikit_learn():
    x = clusters(dtype="float64")
    base = FittedMixture((3,), components=2, dtype="float64", seed=0)
    assert base.needs_initialization
    base.initialize(x)
    assert not base.needs_initialization
    reference = GaussianMixture(2, random_state=0).fit(x)
    np.testing.assert_allclose(
        base.log_prob(x), reference.score_samples(x), rtol=1e-4, atol=1e-4
    )
    before = [v.numpy() for v in base.variables]
    base.initialize(2 * x)
    for value, variable in zip(before, base.variables, strict=True):
        np.testing.assert_array_equal(value, variable)


def test_a_ridge_widens():
    x = clusters(dtype="float64")
    base = FittedMixture((3,), 2, ridge=0.5, dtype="float64", seed=0)
    base.initialize(x)
    reference = GaussianMixture(2, reg_covar=0.5, random_state=0).fit(x)
    np.testing.assert_allclose(base.log_prob(x), reference.score_samples(x), rtol=1e-4)
    for wrong, error in ((-1.0, ValueError), ("much", TypeError)):
        with pytest.raises(error, match="ridge"):
            FittedMixture((3,), ridge=wrong)


def test_every_variable_gets_a_gradient():
    base = FittedMixture((3,), components=2, seed=0)
    base.initialize(clusters())
    assert len(base.trainable_variables) == 3
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(base.log_prob(clusters(50)))
    for gradient in tape.gradient(loss, base.trainable_variables):
        assert np.abs(gradient).max() > 0


def test_errors():
    base = FittedMixture((3,), components=5)
    with pytest.raises(ValueError, match="components=5 to 4 examples"):
        base.initialize(clusters(4))
    with pytest.raises(ValueError, match="NaN or infinite"):
        base.initialize(np.full((9, 3), np.nan))
    with pytest.raises(ValueError, match="components"):
        FittedMixture((3,), components=0)
    with pytest.raises(ValueError, match="not understood"):
        flows.real_nvp((3,), base={"name": "fitted_mixture", "spread": 1.0})


@pytest.mark.parametrize("name", ["maf", "neural_spline_flow"])
def test_a_flow_starts_as_the_best_mixture_of_its_data(name, tmp_path):
    x = clusters() * [1.0, 10.0, 0.1] + 3.0
    base = {"name": "fitted_mixture", "components": 2}
    flow = getattr(flows, name)((3,), layers=2, width=8, base=base, seed=0)
    assert flow.needs_initialization
    training.initialize(flow, x)
    assert not flow.needs_initialization
    reference = GaussianMixture(2, random_state=0).fit(x).score(x)
    assert np.mean(flow.log_prob(x)) == pytest.approx(reference, abs=0.02)
    # And nothing of that is lost in a file, nor set anew when training goes on.
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-5))
    model.fit(x, epochs=1, verbose=0)
    assert np.mean(flow.log_prob(x)) == pytest.approx(reference, abs=0.02)
    model.save(tmp_path / "model.keras")
    again = training.load_model(tmp_path / "model.keras").flow
    assert not again.needs_initialization
    np.testing.assert_allclose(again.log_prob(x), flow.log_prob(x), rtol=1e-5)


def test_fit_sets_it_before_the_first_step():
    base = {"name": "fitted_mixture", "components": 2}
    flow = flows.maf((3,), layers=1, width=8, base=base, seed=0)
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-5))
    history = model.fit(clusters(), epochs=1, verbose=0).history
    reference = GaussianMixture(2, random_state=0).fit(clusters()).score(clusters())
    assert history["nll"][0] == pytest.approx(-reference, abs=0.05)


def test_in_a_distribution_of_tfp():
    base = FittedMixture((3,), components=2, seed=0)
    shift = tfp.bijectors.Shift(tf.Variable([1.0, 2.0, 3.0]))
    model = FlowModel(tfd.TransformedDistribution(base, shift))
    assert training.needs_initialization(model.flow)
    model.compile(keras.optimizers.Adam(1e-5))
    model.fit(clusters(), epochs=1, verbose=0)
    assert not training.needs_initialization(model.flow)
    reference = GaussianMixture(2, random_state=0).fit(clusters()).score(clusters())
    found = np.mean(model.flow.log_prob(clusters()))
    assert found == pytest.approx(reference, abs=0.02)


def test_copies_and_words():
    base = FittedMixture((3,), components=2, seed=0)
    assert repr(base).startswith("FittedMixture(")
    copied = base.copy(components=3)
    assert isinstance(copied, distributions.FittedMixture) and copied.components == 3
