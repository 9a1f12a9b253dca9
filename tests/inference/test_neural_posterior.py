"""Posteriors of models whose posterior is known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, diagnostics, distributions, flows
from tfp_flows.inference import NeuralPosterior, simulate

RATES = tfd.JointDistributionNamed(
    {"rate": tfd.Gamma(3.0, 3.0), "scale": tfd.Sample(tfd.Uniform(2.0, 5.0), 1)}
)


def waits(parameters, seed):
    """Five times, and one of the scale: an array of two axes."""
    draw = np.random.default_rng(seed)
    rate, scale = parameters["rate"][:, None], parameters["scale"]
    x = draw.exponential(size=[len(rate), 5]) / rate
    return np.concatenate([x, scale + 0.1 * draw.normal(size=scale.shape)], -1)[
        ..., None
    ]


def small(prior, shape, **options):
    options = {"flow": flows.maf, "layers": 1, "width": 16, "seed": 0, **options}
    return NeuralPosterior(prior, shape, **options)


def adam(posterior, rate=0.01):
    posterior.model.compile(keras.optimizers.Adam(rate))
    return posterior


@pytest.mark.slow
def test_structured_and_constrained_posterior():
    theta, x = simulate(RATES, waits, 3000, seed=0)
    posterior = adam(small(RATES, (6, 1), layers=2), 0.02)
    history = posterior.fit(
        theta, x, epochs=12, batch_size=200, validation_split=0.1, verbose=0
    )
    assert history.history["val_nll"][-1] < history.history["val_nll"][0]
    # Sums of 2, 5 and 8: the posterior of the rate is Gamma(3 + 5, 3 + sum).
    observed = np.stack([np.full(6, s / 5) for s in (2.0, 5.0, 8.0)])[..., None]
    observed[:, 5] = 3.0
    found = posterior.given(observed.astype("float32"))
    assert found.batch_shape == (3,)
    samples = found.sample(4000, seed=0)
    exact = tfd.Gamma(8.0, 3.0 + np.array([2.0, 5.0, 8.0], "float32"))
    mean, deviation = exact.mean(), exact.stddev()
    np.testing.assert_allclose(np.mean(samples["rate"], 0), mean, rtol=0.12)
    np.testing.assert_allclose(np.std(samples["rate"], 0), deviation, rtol=0.25)
    # The scale is 3 with an error of 0.1, and always within its prior.
    scale = samples["scale"].numpy()
    assert scale.shape == (4000, 3, 1) and scale.min() >= 2 and scale.max() <= 5
    np.testing.assert_allclose(scale.mean(0), 3.0, atol=0.2)
    assert found.log_prob(samples).shape == (4000, 3)
    # Its density is that of the parameters, not of the unconstrained numbers.
    one = posterior.given(observed[0].astype("float32"))
    grid = np.linspace(0.02, 6.0, 150, dtype="float32")
    other = np.linspace(2.001, 4.999, 150, dtype="float32")
    rate, scale = (g.ravel() for g in np.meshgrid(grid, other))
    p = np.exp(one.log_prob({"rate": rate, "scale": scale[:, None]}))
    assert p.sum() * (grid[1] - grid[0]) * (other[1] - other[0]) == pytest.approx(
        1.0, abs=0.05
    )


def test_calibrated_and_not():
    prior = tfd.MultivariateNormalDiag([0.0, 5.0], [1.0, 10.0])
    scale = np.array([1.0, 10.0], "float32")

    def simulator(theta, seed):
        return theta + scale * np.random.default_rng(seed).normal(size=theta.shape)

    theta, x = simulate(prior, simulator, 4000, seed=0)
    posterior = adam(small(prior, (2,)), 0.005)
    posterior.fit(theta, x, epochs=20, batch_size=200, verbose=0)
    truth, data = simulate(prior, simulator, 200, seed=1)
    found = posterior.given(data)
    center = (np.array([0.0, 5.0]) + data) / 2
    samples, log_p = found.experimental_sample_and_log_prob(99, seed=[0, 1])
    errors = (np.mean(samples, 0) - center) / scale
    assert np.sqrt(np.mean(errors**2)) < 0.2
    calibrated = diagnostics.simulation_based_calibration(truth, samples)
    covers = diagnostics.expected_coverage(found.log_prob(truth), log_p)
    assert calibrated.p_value > 0.002 and covers.p_value > 0.002
    wrong = center + 0.6 * (samples - center)
    assert diagnostics.simulation_based_calibration(truth, wrong).p_value < 0.01


def unit_square():
    return tfd.Independent(tfd.Uniform([0.0, 0.0], [1.0, 1.0]), 1)


def test_edges_of_the_support_are_left_out():
    prior = unit_square()
    theta, x = simulate(prior, lambda t: t, 400, seed=0)
    theta[0, 0], theta[1, 1] = 0.0, 1.0
    posterior = small(prior, (2,))
    options = {"validation_data": (theta, x), "sample_weight": np.ones(400)}
    posterior.fit(theta, x, epochs=1, verbose=0, **options)
    assert posterior.given(x[5]).sample(3).shape == (3, 2)
    theta[:10, 1] = 1.5
    with pytest.raises(ValueError, match="support of the prior; 10 of 400"):
        posterior.fit(theta, x, epochs=1, verbose=0)


def test_single_numbers_have_a_default_flow():
    posterior = NeuralPosterior(tfd.Normal(0.0, 1.0), (3,), layers=1, bins=4, seed=0)
    assert posterior.model.flow.event_shape == (1,)
    assert posterior.given(np.zeros([2, 3], "float32")).batch_shape == (2,)


def test_encoders_and_own_distributions():
    keras.utils.set_random_seed(0)
    prior = tfd.MultivariateNormalDiag(tf.zeros(2))
    encoder = keras.Sequential(
        [keras.layers.Conv1D(4, 3), keras.layers.GlobalAveragePooling1D()]
    )
    posterior = small(prior, (8, 3), context_encoder=encoder)
    assert posterior.model.flow.context_shape == (8, 3)
    assert len(encoder.trainable_variables) == 2
    kernel = encoder.trainable_variables[0]
    before = kernel.numpy()
    ones = np.ones([1, 8, 3])
    theta, x = simulate(prior, lambda t: ones * t[:, :1, None], 64, seed=0)
    # Data far from 0 are normalised in front of the encoder.
    posterior.fit(theta, 1e6 + x, epochs=1, verbose=0)
    assert not np.array_equal(before, kernel.numpy())
    linear = tf.Variable(tf.ones([2]))
    own = distributions.Conditional(
        lambda c: tfd.Independent(tfd.Normal(c * linear, 1.0), 1), (2,), (2,)
    )
    flow = distributions.Flow(own, bijectors.Scaling([2]))
    log_p = NeuralPosterior(prior, (2,), flow).given([1.0, 2.0]).log_prob([1.0, 2.0])
    np.testing.assert_allclose(log_p, -np.log(2 * np.pi), rtol=1e-5)


def test_weights_are_kept(tmp_path):
    theta, x = simulate(unit_square(), lambda t: t, 100, seed=0)
    first, second = (small(unit_square(), (2,), seed=i) for i in (0, 1))
    first.fit(theta, x, epochs=1, verbose=0)
    first.model.save_weights(tmp_path / "p.weights.h5")
    second.model.load_weights(tmp_path / "p.weights.h5")
    np.testing.assert_allclose(
        *(p.given(x[:5]).log_prob(theta[:5]) for p in (first, second))
    )


NORMAL = tfd.MultivariateNormalDiag([0.0, 0.0])


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "prior must be a TFP distribution", {"prior": lambda x: x}),
        (ValueError, "discrete part has no such bijector", {"prior": tfd.Poisson(1.0)}),
        (ValueError, "prior must have real", {"prior": tfd.Bernoulli(0.5)}),
        (ValueError, "prior must have an empty batch", {"prior": tfd.Normal([0.0], 1)}),
        (ValueError, "data_shape must have one axis", {"data_shape": ()}),
        (TypeError, "data_shape", {"data_shape": 3}),
        (TypeError, "flow must be a function", {"flow": 3}),
        (TypeError, "flow must make a TFP", {"flow": lambda shape, **_: 3}),
        (ValueError, "context_shape \\(3,\\), got", {"flow": NORMAL}),
        (ValueError, "options are for", {"flow": NORMAL, "layers": 2}),
        (TypeError, "no option 'depths'", {"depths": 2}),
        (ValueError, "prior's dtype float32, got float64", {"dtype": "float64"}),
        (ValueError, "bijector does not map", {"bijector": {"a": None}}),
    ],
)
def test_errors(error, words, arguments):
    with pytest.raises(error, match=words):
        NeuralPosterior(**{"prior": NORMAL, "data_shape": (3,), **arguments})


def test_errors_of_data():
    posterior = small(NORMAL, (3,))
    theta, x = np.zeros([20, 2]), np.zeros([20, 3])
    for words, arguments in {
        "equally many, got \\[19, 20\\]": (theta[1:], x),
        "of shape \\(2,\\) is given as \\(20, 3\\)": (x, theta),
        "structure of the prior": ({"a": theta}, x),
        "support of the prior; 20 of 20": (theta + np.nan, x),
    }.items():
        with pytest.raises(ValueError, match=words):
            posterior.fit(*arguments, verbose=0)
    with pytest.raises(ValueError, match=r"context must end in \(3,\)"):
        posterior.given(np.zeros([4]))
