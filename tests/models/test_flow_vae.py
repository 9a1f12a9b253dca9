from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.support import perturb
from tfp_flows import flows
from tfp_flows.models import FlowVAE
from tfp_flows.training import TrainingDiverged

DRAW = np.random.default_rng(0)
NOISE, SHIFT = 0.5, DRAW.normal(size=5)
# Orthogonal directions, so that the posterior is a diagonal normal.
WEIGHTS = np.linalg.qr(DRAW.normal(size=(5, 2)))[0].T * [[2.0], [0.7]]
LOG_SCALE = np.array([0.4, -0.3], "float32")
PLAIN = {"normalize": False, "seed": 0}
CONTEXT = {"context_shape": (3,), "normalize_context": False, **PLAIN}


@keras.saving.register_keras_serializable("test_flow_vae")
def gaussian(loc):
    return tfd.Independent(tfd.Normal(loc, NOISE), 1)


def linear(posterior=None, prior=None, **options):
    """Factor analysis: z ~ N(0, I), x ~ N(z W + b, 0.25 I), whose density is known."""
    return built(
        FlowVAE(
            keras.layers.Identity(),
            keras.layers.Dense(5),
            2,
            posterior,
            prior,
            gaussian,
            **options,
        )
    )


def built(vae):
    vae.build((None, 5))
    vae.decoder.set_weights([WEIGHTS, SHIFT])
    return vae


def marginal(mean=(0.0, 0.0), scale=(1.0, 1.0)):
    """The density of x, for z ~ N(mean, scale^2)."""
    loading = WEIGHTS.T * np.asarray(scale)
    covariance = loading @ loading.T + NOISE**2 * np.eye(5)
    loc = np.asarray(mean) @ WEIGHTS + SHIFT
    return tfd.MultivariateNormalTriL(loc, np.linalg.cholesky(covariance))


def set_posterior(vae):
    """Makes the linear layer give the true posterior."""
    precision = 1.0 + np.sum(WEIGHTS**2, 1) / NOISE**2
    kernel = WEIGHTS.T / (NOISE**2 * precision)
    scale = precision**-0.5 - 1e-5
    raw = np.log(np.expm1(scale)) - np.log(np.e - 1)
    vae.head.set_weights([np.c_[kernel, np.zeros((5, 2))], np.r_[-SHIFT @ kernel, raw]])


X = marginal().sample(16, seed=1).numpy()


def test_with_the_true_posterior_the_bound_is_the_evidence():
    vae = linear(importance_size=3)
    set_posterior(vae)
    exact = marginal().log_prob(X)
    found = vae.predict(X, verbose=0)
    np.testing.assert_allclose(found["bound"], exact, atol=1e-3)
    np.testing.assert_allclose(found["bound"], vae(X)["bound"], atol=1e-3)
    np.testing.assert_allclose(vae.log_likelihood(X, 2, batch_size=7), exact, atol=1e-3)
    vae.compile(run_eagerly=True)
    scores = vae.evaluate(X, verbose=0, return_dict=True)
    assert scores["bound"] == pytest.approx(np.mean(exact), abs=1e-3)
    assert scores["loss"] == pytest.approx(-scores["bound"], rel=1e-5)


POSTERIORS = {
    "gaussian": lambda: None,
    "planar": lambda: flows.planar((2,), layers=2, explicit="sampling", **CONTEXT),
    "sylvester": lambda: flows.sylvester(
        (2,), layers=1, columns=2, explicit="sampling", **CONTEXT
    ),
    "iaf": lambda: flows.iaf((2,), layers=2, width=8, **CONTEXT),
    "without_context": lambda: flows.iaf((2,), layers=1, width=8, **PLAIN),
}
SLOW = ("planar", "sylvester", "without_context")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in POSTERIORS
    ],
)
def test_any_posterior_estimates_the_evidence(name):
    posterior = POSTERIORS[name]()
    if posterior is not None:
        perturb(posterior)
    vae = linear(posterior, importance_size=2000)
    vae.head.set_weights([0.2 * w for w in vae.head.get_weights()])
    x = X[:3].astype("float32")
    z, log_q = vae.encode(x, 4, seed=0)
    assert (z.shape, log_q.shape) == ((4, 3, 2), (4, 3))
    exact = marginal().log_prob(X[:3]).numpy()
    found = [vae(x) for _ in range(8)]
    estimates = [part["bound"] for part in found]
    error = np.std(estimates, axis=0) / np.sqrt(8)
    assert (np.abs(np.mean(estimates, 0) - exact) < 4 * error + 0.02).all()
    assert error.max() < 0.1
    # One sample at a time is a bound, and no estimate.
    bound = np.mean([part["reconstruction"] - part["kl"] for part in found], axis=0)
    assert (bound < exact - 0.1).all()


def test_a_flow_as_the_prior():
    prior = tfd.MultivariateNormalDiag([0.0, 0.0], tf.Variable(np.exp(LOG_SCALE)))
    vae = linear(prior=prior, importance_size=1000)
    set_posterior(vae)  # Not quite, as the prior is another one.
    exact = marginal(scale=np.exp(LOG_SCALE)).log_prob(X).numpy()
    keras.utils.set_random_seed(0)
    found = vae(X.astype("float32"))["bound"].numpy()
    np.testing.assert_allclose(found, exact, atol=0.1)
    # The same estimate, sample by sample.
    np.testing.assert_allclose(vae.log_likelihood(X, 200, seed=0), exact, atol=0.2)
    sample = vae.sample(4000, seed=0).numpy()
    np.testing.assert_allclose(sample.mean(0), SHIFT, atol=0.15)
    expected = marginal(scale=np.exp(LOG_SCALE)).covariance()
    np.testing.assert_allclose(np.cov(sample.T), expected, atol=0.6)


def test_more_samples_raise_the_bound():
    bounds = []
    for k in (1, 4, 64):
        vae = linear(importance_size=k)
        vae.head.set_weights([0 * w for w in vae.head.get_weights()])
        keras.utils.set_random_seed(0)
        bounds.append(np.mean(vae.predict(X, verbose=0)["bound"]))
    assert bounds[0] + 1 < bounds[1] < bounds[2] - 1
    assert bounds[2] < np.mean(marginal().log_prob(X))


def test_the_weight_of_the_divergence():
    vae = linear()
    vae.compile(run_eagerly=True)
    found = vae(X.astype("float32"))
    parts = [np.mean(found[name]) for name in ("reconstruction", "kl", "bound")]
    assert parts[2] == pytest.approx(parts[0] - parts[1], rel=1e-4)
    for weight in (1.0, 0.25):
        vae.kl_weight.assign(weight)
        loss = vae.compute_loss(y_pred=found)
        assert float(loss) == pytest.approx(weight * parts[1] - parts[0], rel=1e-4)


def pixels(posterior=None, prior=None, **options):
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8, "relu")])
    decoder = keras.Sequential([keras.layers.Dense(6), keras.layers.Reshape((2, 3))])
    return FlowVAE(encoder, decoder, 2, posterior, prior, **options)


def test_bernoulli_pixels():
    vae = pixels()
    vae.build((None, 2, 3))
    for layer in (vae.head, vae.decoder):
        layer.set_weights([0 * w for w in layer.get_weights()])
    grey = DRAW.uniform(size=(10, 2, 3))
    # Logits of 0 know nothing, and the posterior is the prior.
    found = vae.predict(grey, verbose=0)
    np.testing.assert_allclose(found["bound"], -6 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(found["kl"], 0.0, atol=1e-4)
    np.testing.assert_allclose(vae.decode(np.zeros((4, 3, 2))).mean(), 0.5)
    # A pixel of 0.3 is white with probability 0.3.
    vae.decoder.layers[0].bias.assign([3.0] * 6)
    expected = 6 * (0.3 * np.log(tf.sigmoid(3.0)) + 0.7 * np.log(tf.sigmoid(-3.0)))
    found = vae.log_likelihood(np.full((2000, 2, 3), 0.3), 1, 500, seed=0)
    assert found.mean() == pytest.approx(expected, rel=0.03)
    again = vae.log_likelihood(np.full((2000, 2, 3), 0.3), 1, 500, seed=0)
    np.testing.assert_array_equal(found, again)


@pytest.mark.slow
def test_everything_is_trained_and_saved(tmp_path):
    prior = flows.real_nvp((2,), layers=2, width=4, **PLAIN)
    vae = pixels(POSTERIORS["iaf"](), prior, importance_size=2)
    vae.compile(keras.optimizers.Adam(0.03))
    x = np.tile([[[1, 1, 0], [0, 0, 1]], [[0, 0, 1], [1, 1, 0]]], (16, 1, 1))
    vae.fit(x, batch_size=8, epochs=1, verbose=0)
    before = [v.numpy() for v in vae.trainable_variables]
    history = vae.fit(x, batch_size=8, epochs=8, validation_data=x, verbose=0).history
    assert history["bound"][-1] > history["bound"][0]
    assert {"val_bound", "val_kl", "val_reconstruction"} < set(history)
    moved = [
        not np.array_equal(v, old)
        for v, old in zip(vae.trainable_variables, before, strict=True)
    ]
    assert len(moved) == 32 and all(moved)
    vae.kl_weight.assign(0.5)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.models.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(
        loaded.log_likelihood(x, 4, seed=0), vae.log_likelihood(x, 4, seed=0), rtol=1e-6
    )
    assert loaded.importance_size == 2 and loaded.optimizer.iterations == 36
    assert float(loaded.kl_weight) == 0.5
    loaded.fit(tf.data.Dataset.from_tensor_slices(x).batch(8), verbose=0, shuffle=False)
    vae.save_weights(tmp_path / "vae.weights.h5")


def test_a_likelihood_of_ones_own_is_saved(tmp_path):
    vae = linear()
    vae.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(
        loaded.log_likelihood(X, 4, seed=0), vae.log_likelihood(X, 4, seed=0)
    )
    vae.likelihood = lambda loc: gaussian(loc)
    with pytest.raises(ValueError, match="likelihood is a lambda"):
        vae.save(tmp_path / "b.keras")


class Bare(keras.Model):
    """An autoencoder whose posterior is a plain attribute."""

    def __init__(self, posterior):
        super().__init__()
        self.encoder = keras.layers.Dense(3)
        self.posterior = posterior

    def call(self, x):
        z, log_q = self.posterior.sample_and_log_prob(context=self.encoder(x))
        return log_q + tf.reduce_sum(z, -1)


@pytest.mark.parametrize("name", ["planar", "iaf"])
def test_a_bare_flow_in_a_model_of_ones_own_is_refused(name):
    with pytest.raises(ValueError, match=r"does not track them.*FlowModel"):
        Bare(POSTERIORS[name]())(X)


def test_divergence_ends_the_fit():
    vae = linear()
    vae.compile(keras.optimizers.SGD(1e6), run_eagerly=True)
    with pytest.raises(TrainingDiverged):
        vae.fit(X, epochs=5, batch_size=4, verbose=0)


def make(encoder=None, decoder=None, latent_size=2, *args, **options):
    return FlowVAE(
        encoder or keras.layers.Dense(4),
        decoder or keras.layers.Dense(5),
        latent_size,
        *args,
        **options,
    )


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: make(3), TypeError, "encoder must be a Keras layer"),
        (lambda: make(None, 3), TypeError, "decoder must be a Keras layer"),
        (lambda: make(latent_size=0), ValueError, "latent_size must be at least 1"),
        (lambda: make(likelihood="beta"), TypeError, "likelihood must be 'bernoulli'"),
        (lambda: make(importance_size=0), ValueError, "importance_size must be"),
        (lambda: make(posterior=3), TypeError, "posterior must be a flow"),
        (
            lambda: make(prior=flows.real_nvp((3,), **PLAIN)),
            ValueError,
            r"prior must be a flow over \(2,\)",
        ),
        (
            lambda: make(prior=flows.iaf((2,), **CONTEXT)),
            ValueError,
            "prior must take no context",
        ),
        (
            lambda: make(posterior=flows.iaf((2,), num_classes=3, normalize=False)),
            ValueError,
            "posterior must take a vector as its context",
        ),
        (
            lambda: make(prior=flows.real_nvp((2,))),
            ValueError,
            "prior has parts that start from data",
        ),
        (
            lambda: make(prior=flows.real_nvp((2,), dtype="float64", **PLAIN)),
            ValueError,
            "prior must be of dtype float32",
        ),
        (lambda: make().fit(X), ValueError, r"x must lie in \[0, 1\]"),
        (lambda: linear().fit(X * np.nan), ValueError, "x holds NaN"),
        (lambda: linear().fit(X[:, :4]), ValueError, r"x must have shape \[batch, 5\]"),
        (lambda: make().fit(np.zeros((4, 6))), ValueError, "decoder must give"),
        (
            lambda: make().fit(np.zeros((4, 5, 5))),
            ValueError,
            r"encoder must give features \[batch, F\]",
        ),
        (
            lambda: linear().compute_loss(X, np.zeros(16), linear()(X)),
            ValueError,
            "x must come without labels",
        ),
    ],
)
def test_errors(build, error, match):
    with pytest.raises(error, match=match):
        build()
