from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tests.inference.support import WithoutDensity, Y, conjugate, gaussian, log_evidence
from tfp_flows import flows
from tfp_flows.inference import VariationalModel
from tfp_flows.training import TrainingDiverged

COVARIANCE = np.array([[2.0, 1.2], [1.2, 1.0]], "float32")
NORMAL = tfd.MultivariateNormalTriL([1.0, -2.0], np.linalg.cholesky(COVARIANCE))


def test_bound_is_the_evidence_of_a_gaussian():
    surrogate = gaussian(NORMAL)
    model = VariationalModel(
        lambda x: NORMAL.log_prob(x) + 3.0, surrogate, path_gradient=True
    )
    model.compile(keras.optimizers.Adam(0.05))
    history = model.fit(400, verbose=0, seed=0)
    assert history.history["bound"][-1] == pytest.approx(3.0, abs=1e-2)
    assert history.history["loss"][-1] == -history.history["bound"][-1]
    assert history.history["ess"][-1] > 0.99
    found = model.importance_sampling()
    assert found.bound == pytest.approx(3.0, abs=1e-3)
    assert found.pareto_k < 0.5
    sample = surrogate.sample(50_000, seed=0).numpy()
    np.testing.assert_allclose(sample.mean(0), [1.0, -2.0], atol=0.03)
    np.testing.assert_allclose(np.cov(sample.T), COVARIANCE, atol=0.05)


def test_the_target_may_be_a_flow():
    """Its variables are not trained, nor does the model track them."""
    target = flows.real_nvp((2,), layers=1, width=4, normalize=False, seed=0)
    before = [v.numpy() for v in target.variables]
    model = VariationalModel(target, gaussian(NORMAL))
    model.compile(run_eagerly=True)
    assert np.isfinite(model.fit(2, verbose=0, seed=0).history["loss"]).all()
    for a, b in zip(before, target.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "importance_weighted", "importance_size": 4, "sample_size": 64},
        {
            "objective": "importance_weighted",
            "path_gradient": True,
            "sample_size": 16,
        },
        {"objective": "forward_kl", "sample_size": 200},
    ],
    ids=["importance_weighted", "doubly reparametrised", "forward_kl"],
)
def test_objectives_find_a_conjugate_posterior(options):
    pinned = conjugate()
    surrogate = gaussian(pinned)
    model = VariationalModel(pinned, surrogate, **options)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 200))
    )
    model.fit(200, verbose=0, seed=0)
    mean = surrogate.sample(20_000, seed=0)["mean"].numpy()
    assert mean.mean() == pytest.approx(Y.sum() / 4, abs=0.04)
    assert mean.std() == pytest.approx(0.5, abs=0.04)
    assert model.importance_sampling().log_evidence == pytest.approx(
        log_evidence(), abs=0.01
    )


def test_forward_kl_from_samples():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    samples = {"mean": np.random.default_rng(0).normal(3.0, 0.2, size=1000)}
    model = VariationalModel(pinned, surrogate, "forward_kl")
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(300, samples, batch_size=200, verbose=0, seed=0)
    mean = surrogate.sample(20_000, seed=0)["mean"].numpy()
    assert mean.mean() == pytest.approx(3.0, abs=0.04)
    assert mean.std() == pytest.approx(0.2, abs=0.02)


def test_like_keras(tmp_path, capsys):
    surrogate = gaussian(NORMAL)
    model = VariationalModel(NORMAL, surrogate)
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs)))
    )
    model.fit(25, steps_per_epoch=10, callbacks=callback, verbose=2, seed=0)
    assert seen == [(i, ["bound", "ess", "loss"]) for i in range(3)]
    assert model.optimizer.iterations == 30
    assert "bound:" in capsys.readouterr().out
    model.save_weights(tmp_path / "a.weights.h5")
    again = gaussian(NORMAL)
    VariationalModel(NORMAL, again).load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(again.sample(3, seed=0), surrogate.sample(3, seed=0))


def test_seeds_make_runs_reproducible():
    found = [tfd.Normal(tf.Variable(0.0), 1.0) for _ in range(3)]
    for q, seed in zip(found, (7, 7, 8), strict=True):
        VariationalModel(tfd.Normal(1.0, 1.0), q).fit(3, verbose=0, seed=seed)
    assert found[0].loc == found[1].loc != found[2].loc


def test_variables_of_flow_surrogate_and_target():
    flow = flows.real_nvp((2,), layers=2, width=4, normalize=False, seed=0)
    model = VariationalModel(NORMAL, flow)
    assert len(model.trainable_variables) == len(flow.trainable_variables)
    build = tfp.experimental.vi
    surrogate = build.build_factored_surrogate_posterior(event_shape=[[], [3]])
    model = VariationalModel(lambda a, b: a + tf.reduce_sum(b, -1), surrogate)
    assert len(model.trainable_variables) == 4
    surrogate = build.build_affine_surrogate_posterior([[], [3]], operators="tril")
    model = VariationalModel(lambda a, b: a + tf.reduce_sum(b, -1), surrogate)
    assert sum(v.value.shape.num_elements() for v in model.trainable_variables) == 14


def test_hyperparameters_of_the_model():
    # Empirical Bayes: the prior's mean is the mean of the observations.
    prior = tf.Variable(0.0)
    joint = tfd.JointDistributionSequential(
        [tfd.Normal(prior, 1.0), lambda m: tfd.Sample(tfd.Normal(m, 1.0), 3)]
    )
    pinned = joint.experimental_pin(None, Y)
    model = VariationalModel(
        pinned, gaussian(pinned), variables=[prior], path_gradient=True
    )
    model.compile(keras.optimizers.Adam(0.2))
    model.fit(300, verbose=0, seed=0)
    assert prior.numpy() == pytest.approx(Y.mean(), abs=0.02)


@pytest.mark.slow
def test_compiled_by_xla_and_float64():
    target = tfd.MultivariateNormalDiag(np.zeros(2), [1.0, 3.0])
    flow = flows.real_nvp(
        (2,), layers=2, width=8, normalize=False, seed=0, dtype="float64"
    )
    model = VariationalModel(target, flow, path_gradient=True)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=True)
    history = model.fit(600, verbose=0, seed=0)
    assert history.history["bound"][-1] == pytest.approx(0.0, abs=0.05)


def test_errors():
    q = tfd.Normal(tf.Variable(0.0), 1.0)
    with pytest.raises(TypeError, match="surrogate must be a TFP distribution"):
        VariationalModel(NORMAL, lambda x: x)
    with pytest.raises(TypeError, match="target must be"):
        VariationalModel(3, q)
    with pytest.raises(ValueError, match="objective must be one of 'reverse_kl'"):
        VariationalModel(q, q, "elbo")
    with pytest.raises(TypeError, match="forward_kl has no option 'path_gradient'"):
        VariationalModel(q, q, "forward_kl", path_gradient=True)
    with pytest.raises(ValueError, match="no trainable variable"):
        VariationalModel(q, tfd.Normal(0.0, 1.0))
    model = VariationalModel(tfd.Gamma(2.0, 1.0), q)
    with pytest.raises(ValueError, match=r"not finite .nan. at .* of 64 samples"):
        model.fit(1, verbose=0)
    model = VariationalModel(tfd.Uniform(-2.0, 2.0), q)
    with pytest.raises(ValueError, match=r"not finite .-inf. at .* of 64 samples"):
        model.fit(1, verbose=0)
    with pytest.raises(ValueError, match="samples is for forward_kl"):
        model.fit(1, samples=[0.0])
    model = VariationalModel(q, q, "forward_kl")
    with pytest.raises(ValueError, match="of event shape"):
        model.fit(1, samples=np.zeros([5, 2]))


@pytest.mark.parametrize("joint", [False, True], ids=["plain", "joint"])
def test_a_target_without_a_density(joint):
    target, q = WithoutDensity(), tfd.Normal(tf.Variable(0.0), 1.0)
    if joint:
        target, q = (tfd.JointDistributionNamed({"a": part}) for part in (target, q))
    model = VariationalModel(target, q)
    with pytest.raises(ValueError, match=r"^target has no density.*: WithoutDensity"):
        model.fit(1, verbose=0)


def test_divergence_ends_the_fit():
    q = tfd.Normal(tf.Variable(0.0), 1.0)
    model = VariationalModel(lambda x: -tf.exp(tf.square(x)), q)
    model.compile(keras.optimizers.SGD(1e3), steps_per_execution=1)
    with pytest.raises(TrainingDiverged):
        model.fit(20, verbose=0, seed=0)
    assert np.isfinite(q.loc)
