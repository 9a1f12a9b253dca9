"""What tells a bound from a density, and what a bound of one's own needs."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import Flow, FlowModel, bijectors, distributions, flows, models
from tfp_flows.distributions import LowerBound

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")


class Absolute(LowerBound):
    """The absolute values of what a flow gives; signs are drawn, half of them minus."""

    def __init__(self, flow, samples=1, name="absolute"):
        parameters = dict(locals())
        super().__init__(
            flow,
            event_shape=flow.event_shape,
            samples=samples,
            parameters=parameters,
            name=name,
        )

    def _lift(self, x, samples, seed):
        shape = tf.concat([samples, tf.shape(x)], 0)
        u = tf.random.stateless_uniform(shape, seed, dtype=x.dtype)
        log_q = tf.zeros(shape[:-1], x.dtype) - x.shape[-1] * np.log(2.0)
        return tf.where(u < 0.5, x, -x), log_q

    def _drop(self, v):
        return tf.abs(v)

    def _valid(self, x):
        return x, tf.reduce_all(x >= 0, -1)


def test_a_surjection_of_a_users():
    base = distributions.standard_normal((1,), "float64")
    flow = Absolute(Flow(base, bijectors.Scaling([1], [0.5], dtype="float64")))
    x = np.array([[0.3], [2.0], [-1.0]])
    half = tfd.HalfNormal(np.exp(0.5)).log_prob(x[:2, 0])
    # Of a symmetric density, either sign tells all.
    np.testing.assert_allclose(flow.log_prob(x, seed=0)[:2], half)
    assert np.isneginf(flow.log_prob(x, seed=0)[2])
    assert np.min(flow.sample(100, seed=0)) > 0
    assert flow.copy(samples=3).samples == 3
    bits = flow.bits_per_dim(x[:2], seed=0)
    np.testing.assert_allclose(bits, -half / np.log(2))


def real_nvp(**options):
    return flows.real_nvp((2,), layers=1, width=4, seed=0, **options)


def integers():
    return real_nvp(bounds=(0, 4), dequantize="uniform")


def rows():
    return real_nvp(dequantize={"name": "mixed", "columns": ["real", 3]})


def estimated():
    return flows.residual_flow((20,), layers=1, width=4, seed=0)


@pytest.mark.parametrize(
    ("make", "exactness"),
    [
        (real_nvp, "exact"),
        (lambda: real_nvp(num_classes=2).given([0]), "exact"),
        (estimated, "estimate"),
        (integers, "bound"),
        (rows, "bound"),
        (lambda: Flow(integers(), bijectors.Scaling([2])), "bound"),
        (lambda: distributions.Augmented(real_nvp(), _noise()), "bound"),
        (lambda: distributions.MaxPooled(_images()), "exact"),
        (lambda: FlowModel(real_nvp()), "exact"),
        (lambda: FlowModel(real_nvp(), dequantize=True), "bound"),
        (lambda: FlowModel(rows()), "bound"),
        (lambda: models.FlowVAE(_dense(), _dense(), 2), "bound"),
    ],
)
def test_exactness(make, exactness):
    assert make().exactness == exactness


def _noise():
    return distributions.standard_logistic((1,))


def _images():
    return distributions.standard_normal((2, 2, 1))


def _dense():
    return keras.layers.Dense(4)


def test_warnings_are_of_columns_that_are_not_declared():
    draw = np.random.default_rng(0)
    codes, counts = draw.integers(0, 3, 64), draw.integers(0, 99, 64)
    x = np.stack([codes, counts], 1).astype("float32")
    for kind, warns in (("integer", False), ("real", True)):
        dequantize = {"name": "mixed", "columns": [3, kind]}
        model = FlowModel(real_nvp(dequantize=dequantize))
        model.compile("adam")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, epochs=1, verbose=0)
        texts = [str(w.message) for w in caught if "whole numbers" in str(w.message)]
        assert len(texts) == warns
        assert all(r"(1,)" in text for text in texts)


def test_units_of_a_bound_without_normalisation():
    """The check of units goes through what is drawn, of another shape."""
    columns = [3, "real"]
    base = distributions.standard_normal((3,))
    flow = Flow(base, bijectors.ActNorm([3]))
    model = FlowModel(distributions.MixedDequantization(flow, columns))
    model.compile("adam")
    x = np.random.default_rng(0).normal(5000, 1, (64, 2)).astype("float32")
    x[:, 0] = np.arange(64) % 3
    model.fit(x, epochs=1, verbose=0)


def test_errors():
    with pytest.raises(TypeError, match="flow must be"):
        Absolute(distributions.standard_normal((1,)))
    with pytest.raises(ValueError, match="samples must be at least 1"):
        Absolute(real_nvp(), samples=0)
