"""Images by their maxima: an exact density, which integrates to one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import Flow, bijectors, distributions, flows
from tfp_flows.distributions import MaxPooled

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")


def gaps_given_maxima(pooled, dtype="float64"):
    """Gaps that are wider where the maxima are larger."""

    def given(z):
        rate = tf.exp(-0.3 * z)[..., None] * np.array([0.5, 1.0, 2.0])
        return tfd.Independent(tfd.Exponential(rate), 4)

    return distributions.Conditional(given, (*pooled, 3), pooled, dtype)


def test_the_density_integrates_to_one():
    pooled = (1, 1, 1)
    flow = distributions.standard_normal(pooled, "float64")
    images = MaxPooled(flow, gaps_given_maxima(pooled))
    edges = np.linspace(-12, 4, 41)
    middle = (edges[1:] + edges[:-1]) / 2
    step = edges[1] - edges[0]
    # Without ties, where the density jumps.
    axes = [middle + step * (i - 1.5) / 4 for i in range(4)]
    x = np.array(list(itertools.product(*axes))).reshape(-1, 2, 2, 1)
    parts = [np.exp(images.log_prob(part)).sum() for part in np.split(x, 16)]
    total = np.sum(parts) * step**4
    assert total == pytest.approx(1, abs=0.02)


def test_by_hand():
    images = MaxPooled(distributions.standard_normal((1, 2, 1), "float64"))
    x = np.array([[1.0, 2.0, 0.0, -1.0], [0.5, -1.0, 3.0, 2.5]])[..., None]
    # Maxima 2 and 3; gaps 1, 1.5, 3 and 3, 4, 0.5, of rate 1.
    normal = -0.5 * (4 + 9) - np.log(2 * np.pi)
    expected = normal - (1 + 1.5 + 3) - (3 + 4 + 0.5) - 2 * np.log(4)
    np.testing.assert_allclose(images.log_prob(x), expected)


def test_samples_have_the_density():
    pooled = (2, 1, 2)
    flow = flows.maf((2, 1, 2), layers=1, width=4, normalize=False, seed=0)
    images = MaxPooled(flow, gaps_given_maxima(pooled, "float32"))
    x = images.sample(4000, seed=0).numpy()
    assert x.shape == (4000, 4, 2, 2)
    patches = x.reshape(4000, 2, 2, 1, 2, 2).transpose(0, 1, 3, 5, 2, 4)
    patches = patches.reshape(4000, 2, 1, 2, 4)
    maxima = patches.max(-1)
    # Of the maxima, the flow; each pixel is the largest as often.
    drawn = flow.sample(4000, seed=5).numpy()
    np.testing.assert_allclose(maxima.mean(0), drawn.mean(0), atol=0.1)
    shares = np.bincount(patches.argmax(-1).ravel()) / maxima.size
    np.testing.assert_allclose(shares, 0.25, atol=0.02)
    gaps = np.sort(maxima[..., None] - patches, -1)[..., 1:]
    expected = np.exp(0.3 * maxima).mean() * (2 + 1 + 0.5)
    assert gaps.sum(-1).mean() == pytest.approx(expected, rel=0.1)


def test_a_flow_of_the_gaps_starts_from_data_and_trains():
    shape = (2, 2, 1, 3)
    chain = bijectors.Chain([bijectors.ActNorm(shape), bijectors.BatchNorm(shape)])
    gaps = Flow(distributions.standard_normal(shape), chain)
    images = MaxPooled(distributions.standard_normal(shape[:-1]), gaps)
    flow = Flow(images, tfb.Shift(1.0))
    x = np.random.default_rng(0).normal(3.0, 2.0, (64, 4, 4, 1)).astype("float32")
    assert flow.needs_initialization
    flow.initialize(x)
    assert not flow.needs_initialization
    assert flow.keywords == images.keywords == {"training"}
    # Averages of the start, of which the first batch in training takes the place.
    before, of_batch = (flow.log_prob(x[:8], training=t) for t in (False, True))
    assert np.abs(of_batch - before).max() > 1e-3
    with pytest.raises(TypeError, match="samples"):
        images.log_prob(x, samples=3)


def test_among_bijectors_with_gradients_and_graphs():
    pooled = flows.glow((2, 2, 1), levels=1, steps=1, width=4, seed=0)
    chain = bijectors.Chain([bijectors.ActNorm([4, 4, 1])])
    flow = Flow(MaxPooled(pooled), chain)
    x = np.random.default_rng(0).normal(3.0, 2.0, (64, 4, 4, 1)).astype("float32")
    assert flow.needs_initialization
    flow.initialize(x)
    assert not flow.needs_initialization
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(x)
        loss = tf.reduce_mean(log_prob)
    gradients = tape.gradient(loss, flow.trainable_variables)
    assert all(np.isfinite(g).all() for g in gradients)
    (rate,) = flow.distribution.gaps.trainable_variables
    (of_rate,) = [
        g for g, v in zip(gradients, flow.trainable_variables, strict=True) if v is rate
    ]
    assert of_rate.shape == (1, 3) and np.abs(of_rate).min() > 0
    for jit in (False, True):
        run = tf.function(flow.log_prob, jit_compile=jit)
        np.testing.assert_allclose(run(x), log_prob, rtol=1e-4)
    assert flow.log_prob(x[:0]).shape == (0,)
    assert flow.log_prob(x.reshape(8, 8, 4, 4, 1)).shape == (8, 8)
    assert flow.sample((2, 3), seed=0).shape == (2, 3, 4, 4, 1)
    assert flow.exactness == "exact"


def test_errors():
    images = distributions.standard_normal((1, 1, 1))
    for error, arguments, words in (
        (TypeError, (1,), "flow must be"),
        (ValueError, (distributions.standard_normal((2,)),), r"images \[H, W, C\]"),
        (TypeError, (images, 1), "gaps"),
        (ValueError, (images, images), r"event shape \(1, 1, 1, 3\)"),
        (ValueError, (images, gaps_given_maxima((1, 1, 1))), "float32"),
    ):
        with pytest.raises(error, match=words):
            MaxPooled(*arguments)
