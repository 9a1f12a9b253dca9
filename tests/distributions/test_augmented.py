"""Flows over data and more: the bound against integrals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tests.support import perturb
from tfp_flows import Flow, bijectors, distributions, flows
from tfp_flows.distributions import Augmented

# New flows are looked at, which no data have initialised.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*single feature:UserWarning"),
]

GRID = np.linspace(-9, 9, 721)


def flow(size=2, dtype="float64", **options):
    made = flows.maf(
        (size,), layers=2, width=8, normalize=False, seed=0, dtype=dtype, **options
    )
    perturb(made, 0.3)
    return made


def given_x(dtype="float64"):
    """Noise whose mean depends on the data."""
    made = flows.iaf(
        (1,),
        layers=1,
        width=4,
        context_shape=(1,),
        normalize=False,
        normalize_context=False,
        base="logistic",
        seed=2,
        dtype=dtype,
    )
    perturb(made, 0.1)
    return made


def plain():
    return distributions.standard_logistic((1,), "float64")


@pytest.mark.parametrize("noise", [plain, given_x])
def test_a_bound_that_rises_to_the_integral(noise):
    inner = flow()
    augmented = Augmented(inner, noise())
    x = np.array([[-0.5], [0.4], [1.5]])
    pairs = np.stack(np.broadcast_arrays(x, GRID), -1)
    step = GRID[1] - GRID[0]
    exact = np.log(np.exp(inner.log_prob(pairs)).sum(1) * step)
    many = np.repeat(x[:, None], 4000, 1)
    gaps = []
    for samples in (1, 8):
        values = augmented.log_prob(many, samples=samples, seed=0).numpy()
        gaps.append(exact - values.mean(1))
        assert (gaps[-1] > -4 * values.std(1) / np.sqrt(4000)).all()
    assert gaps[0].mean() > 1.5 * gaps[1].mean() > 0
    found = augmented.log_prob(x, samples=100_000, seed=1)
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_the_posterior_makes_the_bound_exact():
    """Of a Gaussian, q(u|x) = p(u|x): every draw is log p(x)."""
    matrix = np.array([[1.0, 0.0], [0.7, 0.5]])
    base = distributions.standard_normal((2,), "float64")
    inner = Flow(base, bijectors.PLU(2, initial=matrix, dtype="float64"))
    from tensorflow_probability import distributions as tfd

    noise = distributions.Conditional(
        lambda x: tfd.Independent(tfd.Normal(0.7 * x, np.float64(0.5)), 1),
        (1,),
        (1,),
        "float64",
    )
    augmented = Augmented(inner, noise)
    x = np.array([[0.3], [-1.2]])
    for seed in (0, 1):
        found = augmented.log_prob(x, seed=seed)
        np.testing.assert_allclose(found, tfd.Normal(0.0, 1.0).log_prob(x[:, 0]))


def test_samples_shapes_gradients_and_graphs():
    inner = flow(dtype="float32")
    augmented = Augmented(inner, given_x("float32"), samples=3)
    x = augmented.sample(7, seed=0)
    np.testing.assert_array_equal(x, inner.sample(7, seed=0)[:, :1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(augmented.log_prob(x, seed=0))
    for gradient in tape.gradient(loss, augmented.trainable_variables):
        assert np.abs(gradient).max() > 0
    for jit in (False, True):
        run = tf.function(lambda x: augmented.log_prob(x, seed=0), jit_compile=jit)
        found = run(x)
        assert np.isfinite(found).all()
        if not jit:
            expected = augmented.log_prob(x, seed=0)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert augmented.log_prob(tf.zeros([2, 0, 1])).shape == (2, 0)
    assert augmented.exactness == "bound"
    assert augmented.copy(samples=2).samples == 2


def test_images_and_contexts():
    inner = flows.glow((4, 4, 2), levels=1, steps=1, width=4, num_classes=2, seed=0)
    augmented = Augmented(inner, distributions.standard_normal((4, 4, 1)))
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
    labels = np.arange(5) % 2
    assert augmented.needs_initialization
    augmented.initialize(x, labels)
    assert augmented.log_prob(x, context=labels).shape == (5,)
    assert augmented.sample(2, context=labels).shape == (2, 5, 4, 4, 1)


def test_errors():
    inner = flow()
    for error, arguments, words in (
        (TypeError, (inner.distribution, plain()), "flow must be"),
        (TypeError, (inner, 1), "noise"),
        (ValueError, (flow(1), plain()), "fewer entries"),
        (ValueError, (inner, distributions.standard_normal((1,))), "float64"),
        (ValueError, (flow(3), given_x()), r"context_shape \(2,\)"),
    ):
        with pytest.raises(error, match=words):
            Augmented(*arguments)


def test_as_the_base_of_a_flow_it_takes_its_keywords():
    augmented = Augmented(
        flow(3, "float32"), distributions.standard_normal((1,)), samples=1
    )
    shifted = Flow(augmented, tfb.Shift([1.0, 2.0]))
    assert shifted.exactness == "bound" and {"seed", "samples"} <= shifted.keywords
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    for given in ({"seed": 3}, {"seed": 3, "samples": 7}):
        expected = augmented.log_prob(x - [1.0, 2.0], **given)
        np.testing.assert_allclose(shifted.log_prob(x, **given), expected, rtol=1e-5)
    other = shifted.log_prob(x, seed=4)
    assert np.abs(other - shifted.log_prob(x, seed=3)).max() > 1e-4
