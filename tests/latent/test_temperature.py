"""Temperatures that are known, and flows at them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import SMALL
from tests.latent.support import linear_flow, of_classes
from tests.support import close_to_largest, perturb
from tfp_flows import distributions, flows, latent


@pytest.fixture
def glow():
    flow = flows.glow(
        (4, 4, 1), levels=2, steps=1, width=4, seed=0, dtype="float64", normalize=False
    )
    flow.initialize(np.random.default_rng(0).normal(size=(8, 4, 4, 1)))
    return perturb(flow, 0.1)


def mean_log_prob(flow, x):
    return float(tf.reduce_mean(flow.log_prob(x)))


BASES = {
    "normal": distributions.standard_normal,
    "logistic": distributions.standard_logistic,
    # Not one of independent entries.
    "mixture": lambda shape, dtype: distributions.gaussian_mixture(
        shape, components=2, dtype=dtype, seed=0
    ),
}


@pytest.mark.parametrize("base", BASES)
def test_it_is_the_most_likely(base):
    flow = linear_flow((3,), 2.0, BASES[base]((3,), "float64"))
    x = flow.sample(500, seed=0, temperature=1.3)
    best = latent.fit_temperature(flow, x)
    assert best.shape == ()
    assert best == pytest.approx(1.3, abs=0.1)
    near = [mean_log_prob(latent.tempered(flow, best * c), x) for c in (0.98, 1, 1.02)]
    assert near[1] > near[0] and near[1] > near[2]


def test_closed_form():
    base = distributions.diagonal_normal((2,), "float64")
    mean, scale = base.trainable_variables
    mean.assign([5.0, -1.0])
    scale.assign(np.log([2.0, 0.5]))
    x = np.array([[5 + 2 * 3, -1.0], [5.0, -1 + 0.5 * 4]])
    found = latent.fit_temperature(linear_flow((2,), 1.0, base), x)
    close_to_largest(found, np.sqrt((9 + 16) / 4))


def test_levels(glow):
    first, second = latent.level_slices(glow)
    z = np.random.default_rng(0).normal(size=(300, 16))
    z[:, first] *= 0.5
    z[:, second] *= 2.0
    x = glow.decode(z)
    found = latent.fit_temperature(glow, x, per_level=True)
    np.testing.assert_allclose(found, [0.5, 2.0], rtol=0.05)
    both = mean_log_prob(latent.tempered(glow, found), x)
    one = mean_log_prob(latent.tempered(glow, latent.fit_temperature(glow, x)), x)
    assert both > one > mean_log_prob(glow, x)
    # The gain is of the codes alone: log T, and the squares that are 1 afterwards.
    gain = sum(
        np.square(z[:, s]).mean() / 2 * 8 - 4 - 8 * np.log(t)
        for s, t in zip((first, second), found, strict=True)
    )
    close_to_largest(both - mean_log_prob(glow, x), gain, 1e-6)


def test_levels_of_a_logistic_base():
    flow = flows.glow(
        (4, 4, 1), levels=2, steps=1, width=4, seed=0, base="logistic", normalize=False
    )
    flow.initialize(np.random.default_rng(0).normal(size=(8, 4, 4, 1)))
    z = flow.distribution.sample(300, seed=0).numpy()
    z[:, 8:] *= 2.0
    found = latent.fit_temperature(flow, flow.decode(z), per_level=True)
    np.testing.assert_allclose(found, [1.0, 2.0], rtol=0.06)


def test_tempered_samples(glow):
    flow = latent.tempered(glow, [0.5, 0.0001])
    close_to_largest(
        flow.decode(flow.encode(flow.sample(2, seed=0))), flow.sample(2, seed=0)
    )
    z = glow.encode(flow.sample(500, seed=0)).numpy()
    assert z[:, :8].std() == pytest.approx(0.5, abs=0.02)
    assert z[:, 8:].std() < 2e-4
    assert flow.trainable_variables == glow.trainable_variables
    x, log_prob = flow.sample_and_log_prob(3, seed=1)
    close_to_largest(flow.log_prob(x), log_prob, 1e-6)


def test_tempered_is_what_sampling_does():
    flow = SMALL["nice_odd_reverse"].make(dtype="float64")
    flow.distribution.trainable_variables[0].assign(np.arange(5.0))
    close_to_largest(
        latent.tempered(flow, 0.7).sample(4, seed=3),
        flow.sample(4, seed=3, temperature=0.7),
        1e-6,
    )
    close_to_largest(latent.tempered(flow, 0.7).noise_moments()[0], np.arange(5.0))


def test_errors(glow, nice):
    x = np.zeros([2, 4])
    with pytest.raises(ValueError, match="has no levels"):
        latent.fit_temperature(nice, x, per_level=True)
    with pytest.raises(ValueError, match="base without context"):
        latent.fit_temperature(linear_flow((2,), base=of_classes()), x[:, :2])
    with pytest.raises(ValueError, match="base without context"):
        latent.tempered(linear_flow((2,), base=of_classes()), 0.5)
    mixture = linear_flow((3,), 1.0, BASES["mixture"]((3,), "float64"))
    with pytest.raises(ValueError, match="needs a base of independent entries"):
        latent.fit_temperature(mixture, x[:, :3], per_level=True)
    with pytest.raises(ValueError, match=r"must have 2 entries, .* got 3"):
        latent.tempered(glow, [1.0, 1.0, 1.0])
    for wrong in (0.0, -1.0, np.nan, [[1.0]]):
        with pytest.raises(ValueError, match="temperature must be positive"):
            latent.tempered(nice, wrong)
