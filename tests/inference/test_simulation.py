from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.inference import simulate

PRIOR = tfd.JointDistributionNamed(
    {"scale": tfd.LogNormal(0.0, 1.0), "mean": tfd.Sample(tfd.Normal(0.0, 1.0), 2)}
)


def simulator(parameters, seed):
    """A NumPy one, whose parts come as arrays."""
    mean, scale = parameters["mean"], parameters["scale"]
    assert type(mean) is type(scale) is np.ndarray
    noise = np.random.default_rng(seed).standard_normal([*mean.shape, 3])
    return mean[..., None] + scale[:, None, None] * noise


def test_pairs():
    parameters, data = simulate(PRIOR, simulator, 250, batch_size=100, seed=3)
    assert parameters["mean"].shape == (250, 2) and parameters["scale"].shape == (250,)
    assert data.shape == (250, 2, 3) and data.dtype == np.float32
    # Each pair belongs together.
    z = (data - parameters["mean"][..., None]) / parameters["scale"][:, None, None]
    assert abs(z.std() - 1) < 0.05
    # No more simulations than were asked for.
    sizes = []
    simulate(
        PRIOR, lambda t: sizes.append(len(t["mean"])) or t["mean"], 250, batch_size=100
    )
    assert sizes == [100, 100, 50]
    # No batch is like another, in parameters or in noise.
    assert len(np.unique(parameters["scale"])) == 250
    assert len(np.unique(np.round(z, 4))) > 1400
    again, same = simulate(PRIOR, simulator, 250, batch_size=100, seed=3)
    np.testing.assert_array_equal(same, data)
    np.testing.assert_array_equal(again["mean"], parameters["mean"])
    assert not np.array_equal(
        simulate(PRIOR, simulator, 250, batch_size=100, seed=4)[1], data
    )


def test_compiled():
    traces = []

    @tf.function
    def add(theta, seed):
        traces.append(type(theta))
        return theta[:, None] + tf.random.stateless_normal([100, 1], seed)

    prior = tfd.Normal(tf.zeros([], tf.float64), 1.0)
    theta, x = simulate(
        prior,
        lambda theta, seed: tf.cast(add(tf.cast(theta, tf.float32), seed), tf.float64),
        250,
        batch_size=100,
        compiled=True,
        seed=0,
    )
    assert len(traces) == 1
    assert theta.shape == (250,) and x.shape == (250, 1) and x.dtype == np.float64
    assert 0.8 < np.std(x[:, 0] - theta) < 1.2
    # A tf.function, called with arrays, gets seeds too.
    _, y = simulate(tfd.Normal(0.0, 1.0), add, 100, batch_size=100, seed=0)
    assert y.shape == (100, 1)


def test_without_seeds():
    theta, x = simulate(tfd.Normal(0.0, 1.0), lambda t: t[:, None] ** 2, 10)
    np.testing.assert_allclose(x[:, 0], theta**2)
    _, x = simulate(tfd.Poisson(3.0), lambda t: t[:, None], 10)
    assert x.dtype == np.float32


def fails(theta):
    return np.sqrt(theta)[:, None]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_invalid_data():
    prior = tfd.Normal(0.0, 1.0)
    theta, x = simulate(prior, fails, 1000, batch_size=300, invalid="drop", seed=0)
    assert 450 < len(theta) == len(x) < 550
    np.testing.assert_allclose(x[:, 0], np.sqrt(theta))
    with pytest.raises(ValueError, match=r"NaN .* (\d+) of the first 300 .* -\d") as e:
        simulate(prior, fails, 1000, batch_size=300, seed=0)
    assert "Narrow the prior" in str(e.value) and 'invalid="drop"' in str(e.value)
    with pytest.raises(ValueError, match="all 10 pairs"):
        simulate(prior, lambda t: t[:, None] * np.nan, 10, invalid="drop")
    # What overflows in the prior's dtype is infinite.
    with pytest.raises(ValueError, match="infinity for 10 of the first 10"):
        simulate(prior, lambda t: np.full([10, 1], 1e300), 10)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (TypeError, "prior must be a TFP distribution, got function", {"prior": fails}),
        (
            ValueError,
            "prior must have an empty batch shape; it has \\(2,\\)",
            {"prior": tfd.Normal([0.0, 0.0], 1.0)},
        ),
        (TypeError, "simulator must be a function", {"simulator": 3}),
        (
            ValueError,
            "\\[10, \\.\\.\\.\\] .* got shape \\(10,\\)",
            {"simulator": lambda t: t},
        ),
        (
            ValueError,
            "got shape \\(9, 1\\)",
            {"simulator": lambda t: t[1:, None]},
        ),
        (TypeError, "got a tuple", {"simulator": lambda t: (t, t)}),
        (TypeError, "real numbers", {"simulator": lambda t: t[:, None] * 1j}),
        (ValueError, "must be a tensor, got None", {"simulator": lambda t: None}),
        (ValueError, "count", {"count": 0}),
        (ValueError, "batch_size", {"batch_size": 0}),
        (ValueError, "invalid must be one of", {"invalid": "skip"}),
    ],
)
def test_errors(error, words, arguments):
    usual = {
        "prior": tfd.Normal(0.0, 1.0),
        "simulator": lambda t: t[:, None],
        "count": 10,
    }
    with pytest.raises(error, match=words):
        simulate(**{**usual, **arguments})
