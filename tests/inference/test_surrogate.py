from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tests.inference.support import (
    WithoutDensity,
    Y,
    conjugate,
    fresh,
    gaussian,
    log_evidence,
    normal,
)
from tfp_flows import flows
from tfp_flows.inference import surrogate_posterior

Root = tfd.JointDistributionCoroutine.Root


def coroutine():
    scale = yield Root(tfd.Gamma(2.0, 2.0, name="scale"))
    x = yield tfd.Sample(tfd.Normal(0.0, scale), 3, name="x")
    yield tfd.Independent(tfd.Normal(x, 1.0), 1, name="y")


def auto():
    scale = yield tfd.Gamma(2.0, 2.0, name="scale")
    x = yield tfd.Normal(tf.zeros(3), scale, name="x")
    yield tfd.Normal(x, 1.0, name="y")


PARTS = {
    "scale": tfd.Gamma(2.0, 2.0),
    "x": lambda scale: tfd.Sample(tfd.Normal(0.0, scale), 3),
    "y": lambda x: tfd.Independent(tfd.Normal(x, 1.0), 1),
}
FORMS = {
    "sequential": tfd.JointDistributionSequential(
        [PARTS["scale"], PARTS["x"], PARTS["y"]]
    ),
    "named": tfd.JointDistributionNamed(PARTS),
    "coroutine": tfd.JointDistributionCoroutine(coroutine),
    "auto_sequential": tfd.JointDistributionSequentialAutoBatched(
        [PARTS["scale"], PARTS["x"], PARTS["y"]]
    ),
    "auto_named": tfd.JointDistributionNamedAutoBatched(PARTS),
    "auto_coroutine": tfd.JointDistributionCoroutineAutoBatched(auto),
}


@pytest.mark.parametrize("form", FORMS)
def test_density_in_every_form_of_a_model(form):
    joint = FORMS[form]
    if "sequential" in form:
        pinned = joint.experimental_pin(None, None, Y)
    else:
        pinned = joint.experimental_pin(y=Y)
    surrogate = surrogate_posterior(pinned, normal, affine=False)
    x, log_q = surrogate.experimental_sample_and_log_prob(5, seed=0)
    tf.nest.assert_same_structure(x, pinned.event_shape)
    part = x if "sequential" not in form else dict(zip(("scale", "x"), x, strict=True))
    scale, rest = (
        (part["scale"], part["x"]) if isinstance(part, dict) else (part.scale, part.x)
    )
    assert scale.shape == [5] and rest.shape == [5, 3]
    # The parts of the unconstrained vector are in the order of tf.nest.
    z = tfb.Softplus().inverse(fresh(scale))
    unit = tfd.Normal(0.0, 1.0)
    expected = (
        unit.log_prob(z)
        - tfb.Softplus().forward_log_det_jacobian(z)
        + tf.reduce_sum(unit.log_prob(rest), -1)
    )
    np.testing.assert_allclose(log_q, expected, rtol=1e-4)
    np.testing.assert_allclose(surrogate.log_prob(fresh(x)), expected, rtol=1e-4)


def test_flow_and_affine_map():
    pinned = conjugate()
    surrogate = surrogate_posterior(pinned, layers=1, width=4, seed=0)
    assert surrogate.distribution.event_shape == [1]
    assert len(surrogate.trainable_variables) > 2
    gauss = gaussian(pinned)
    shift, lu = gauss.trainable_variables
    shift.assign([0.5])
    lu.assign([[np.log(2.0)]])
    x = fresh(gauss.sample(7, seed=0))
    np.testing.assert_allclose(
        gauss.log_prob(x), tfd.Normal(0.5, 2.0).log_prob(x["mean"]), rtol=1e-5
    )


def test_sampling_with_density_takes_no_inverse(monkeypatch):
    surrogate = surrogate_posterior(
        FORMS["named"], flows.iaf, observed={"y": Y}, layers=2, width=8, seed=0
    )
    expected = surrogate.log_prob(fresh(surrogate.sample(3, seed=1)))

    def fail(*args, **keywords):
        raise AssertionError("inverse")

    bijector = surrogate.distribution.bijector
    monkeypatch.setattr(bijector, "_inverse_and_log_det", fail)
    _, log_q = surrogate.experimental_sample_and_log_prob(3, seed=1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "part",
    [
        tfd.LKJ(3, 2.0),
        tfd.CholeskyLKJ(3, 2.0),
        tfd.Uniform(2.0, 5.0),
        tfd.HalfNormal(1.0),
        tfd.Beta(2.0, 3.0),
        tfd.TransformedDistribution(
            tfd.Sample(tfd.Normal(0.0, 1.0), 4), tfb.Ascending(), name="ordered"
        ),
    ],
    ids=lambda part: part.name,
)
def test_supports(part):
    joint = tfd.JointDistributionSequential([part, tfd.Normal(0.0, 1.0)])
    surrogate = gaussian(joint)
    x, log_q = surrogate.experimental_sample_and_log_prob(50, seed=0)
    assert x[0].shape == [50, *part.event_shape]
    assert np.isfinite(part.log_prob(x[0])).all()
    if part.event_shape.rank != 2:
        # Inverses from matrices are as exact as TFP's.
        np.testing.assert_allclose(surrogate.log_prob(fresh(x)), log_q, rtol=1e-3)


def test_simplex_with_a_bijector_of_ones_own():
    joint = tfd.JointDistributionNamed(
        {"p": tfd.Dirichlet([1.0, 2.0, 3.0]), "x": tfd.Normal(0.0, 1.0)}
    )
    surrogate = gaussian(
        joint, bijector={"p": tfb.IteratedSigmoidCentered(), "x": None}
    )
    assert surrogate.distribution.event_shape == [3]
    x = surrogate.sample(20, seed=0)
    np.testing.assert_allclose(tf.reduce_sum(x["p"], -1), np.ones(20), rtol=1e-5)
    assert np.isfinite(joint.log_prob(x)).all()


def test_a_single_distribution_and_float64():
    target = tfd.Gamma(np.float64(2.0), 1.0)
    surrogate = surrogate_posterior(target, bins=4, seed=0)
    x = surrogate.sample(4, seed=0)
    assert x.dtype == tf.float64 and x.shape == [4]
    # The density integrates to one.
    grid = np.linspace(1e-4, 30, 20_001)
    density = np.exp(surrogate.log_prob(grid))
    np.testing.assert_allclose(np.trapezoid(density, grid), 1.0, atol=1e-3)


def test_tfp_fits_it_to_the_known_posterior():
    pinned = conjugate()
    surrogate = gaussian(pinned)
    # A rate that falls: at 0.05 the last steps move the mean by 0.04.
    rate = tf_keras.optimizers.schedules.ExponentialDecay(0.05, 100, 0.3)
    losses = tfp.vi.fit_surrogate_posterior(
        pinned.unnormalized_log_prob,
        surrogate,
        optimizer=tf_keras.optimizers.Adam(rate),
        num_steps=300,
        sample_size=64,
        seed=0,
    )
    assert np.mean(losses[-20:]) == pytest.approx(-log_evidence(), abs=0.02)
    mean = surrogate.sample(20_000, seed=1)["mean"].numpy()
    np.testing.assert_allclose(mean.mean(), Y.sum() / 4, atol=0.03)
    np.testing.assert_allclose(mean.std(), 0.5, atol=0.03)


def discrete(part):
    return tfd.JointDistributionNamed({"k": part, "x": tfd.Normal(0.0, 1.0)})


@pytest.mark.parametrize(
    "model, options, error, message",
    [
        (lambda x: x, {}, TypeError, "model must be a .pinned. joint distribution"),
        (discrete(tfd.Bernoulli(0.5)), {}, ValueError, "part 'k' is int32"),
        (discrete(tfd.Poisson(3.0)), {}, ValueError, "discrete part"),
        (
            discrete(tfd.Normal(np.float64(0.0), 1.0)),
            {},
            ValueError,
            "of one dtype; got .*float64",
        ),
        (
            tfd.JointDistributionSequential([tfd.Normal([0.0, 1.0], 1.0)]),
            {},
            ValueError,
            "empty batch shape; its part 0 has .2.",
        ),
        (
            WithoutDensity(),
            {},
            ValueError,
            r"^model has no density, got.*must be a dist",
        ),
        (FORMS["named"], {"observed": {"z": Y}}, ValueError, r"got \['z'\]"),
        (tfd.Normal(0.0, 1.0), {"observed": {"z": Y}}, TypeError, "joint distribution"),
        (
            tfd.Gamma(2.0, 2.0),
            {"bijector": tfb.Identity()},
            ValueError,
            "support must lie within",
        ),
        (conjugate(), {"bijector": tfb.Sigmoid()}, ValueError, "bijector does not map"),
        (conjugate(), {"flow": normal((2,))}, ValueError, r"of shape \(1,\)"),
        (conjugate(), {"flow": normal((1,)), "seed": 0}, ValueError, "options are"),
        (conjugate(), {"flow": 3}, TypeError, "flow must be a function"),
        (conjugate(), {"flow": lambda shape: 3}, TypeError, "flow must make"),
        (
            conjugate(),
            {"flow": lambda shape: tfd.Sample(tfd.Normal(np.float64(0), 1.0), shape)},
            ValueError,
            "dtype float32, got float64",
        ),
        (
            FORMS["named"],
            {"flow": flows.real_nvp, "normalize": True, "layers": 1, "width": 2},
            ValueError,
            "start from data",
        ),
    ],
)
def test_errors(model, options, error, message):
    with pytest.raises(error, match=message):
        surrogate_posterior(model, **{"flow": normal, **options})


def test_a_forgotten_event_is_an_error():
    joint = tfd.JointDistributionSequential(
        [tfd.Normal(0.0, 1.0), lambda m: tfd.Normal(m[..., None] * tf.ones(3), 1.0)]
    )
    with pytest.raises(
        ValueError, match=r"model fails at 64 samples.*\n?.*Independent"
    ):
        gaussian(joint.experimental_pin(None, Y))
