"""The Student-t base."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain
from tests.support import normal
from tfp_flows import Flow, distributions

tfd = tfp.distributions


def freedom(base) -> np.ndarray:
    return np.asarray(base.distribution.df)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)]
)
@pytest.mark.parametrize("learned", [True, False])
def test_density_is_scipys(dtype, tolerance, learned):
    df = [1.5, 5.0, 300.0]
    base = distributions.student_t((3,), dtype, df=df, learned=learned)
    assert (base.event_shape, base.batch_shape, base.dtype) == ((3,), (), dtype)
    assert len(base.trainable_variables) == learned
    np.testing.assert_allclose(freedom(base), df, rtol=10 * tolerance)
    z = 5 * normal(20, 3, dtype=dtype)
    expected = scipy.stats.t(np.asarray(df)).logpdf(z).sum(-1)
    np.testing.assert_allclose(base.log_prob(z), expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_in_the_degrees_of_freedom(dtype):
    """Finite for the heaviest and the lightest tails, far out; right in between."""
    base = distributions.student_t((3,), dtype, df=[1.011, 6.0, 1e5])
    (variable,) = base.trainable_variables

    def gradient(z):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(base.log_prob(tf.constant(z, dtype)))
        return tape.gradient(loss, variable).numpy()

    for far in (0.0, 1e-10, 50.0, 1e10, 1e18):
        assert np.isfinite(gradient([[far, -far, far]])).all()
    if dtype == "float64":
        z = 3 * normal(9, 3, dtype=dtype).numpy()
        found, step, values = gradient(z)[1], np.array([0.0, 1e-6, 0.0]), []
        for change in (step, -2 * step):
            variable.assign_add(change)
            values.append(float(tf.reduce_sum(base.log_prob(z))))
        np.testing.assert_allclose(found, (values[0] - values[1]) / 2e-6, 1e-6)


def test_starts_with_a_variance_and_keeps_a_mean():
    base = distributions.student_t((2,))
    assert (freedom(base) > 2).all()
    base.trainable_variables[0].assign([-200.0, 200.0])
    np.testing.assert_allclose(freedom(base), [1.01, 201.01], rtol=1e-5)
    np.testing.assert_array_equal(base.mean(), [0.0, 0.0])
    assert np.isfinite(base.log_prob([[1e6, 1e6]])).all()


def test_samples_are_reparametrised():
    """Of heavier tails, the larger samples: E|z| falls with the degrees of freedom."""
    base = distributions.student_t((2,), "float64", df=[3.0, 8.0])
    assert base.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    (variable,) = base.trainable_variables
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(tf.abs(base.sample(200000, seed=0)), 0)
        loss = tf.reduce_sum(mean)
    gradient = tape.gradient(loss, variable).numpy()
    steps = 0.05 * np.eye(2)
    for i in range(2):
        # d/da E|z|, by the exact mean of the half-t distribution.
        low, high = (
            _mean_of_absolute(1.01 + np.log1p(np.exp(variable.numpy() + s)))[i]
            for s in (-steps[i], steps[i])
        )
        np.testing.assert_allclose(gradient[i], (high - low) / 0.1, rtol=0.05)


def _mean_of_absolute(df):
    log_ratio = scipy.special.gammaln((df + 1) / 2) - scipy.special.gammaln(df / 2)
    return 2 * np.sqrt(df / np.pi) * np.exp(log_ratio) / (df - 1)


def test_learns_the_degrees_of_freedom_of_data():
    x = np.random.default_rng(0).standard_t([2.5, 12.0], (4000, 2))
    base = distributions.student_t((2,), "float64")
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(base.log_prob(x))
        (gradient,) = tape.gradient(loss, base.trainable_variables)
        # Steps in proportion to the scale on which the likelihood changes.
        base.trainable_variables[0].assign_sub(freedom(base) ** 2 * 4 * gradient)
    light = freedom(base)[1]
    np.testing.assert_allclose(freedom(base)[0], 2.5, rtol=0.1)
    assert 9 < light < 17


def test_in_a_flow():
    flow = Flow(distributions.student_t((4,)), make_chain())
    x, log_prob = flow.sample_and_log_prob(5, seed=0, temperature=0.5)
    np.testing.assert_allclose(flow.log_prob(x.numpy()), log_prob, 1e-4)
    # The tail is polynomial: ten times as far is not much less likely.
    far, farther = flow.log_prob([[1e3] * 4, [1e4] * 4]).numpy()
    assert -4 * 6 * np.log(10) * 1.1 < farther - far < -4 * 6 * np.log(10) * 0.9


@pytest.mark.parametrize("df", [1.0, -3.0, [5.0, 0.0], np.nan])
def test_errors(df):
    with pytest.raises(ValueError, match=r"df must be above 1\.01"):
        distributions.student_t((2,), df=df)
