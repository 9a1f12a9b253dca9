"""Models and surrogates that the tests of inference share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import Flow, bijectors, distributions, masks
from tfp_flows.inference import surrogate_posterior

Y = np.array([0.5, -1.0, 2.0], "float32")


class WithoutDensity(tfd.Distribution):
    """What a simulator is: samples, and no `log_prob`."""

    def __init__(self):
        kind = tfd.NOT_REPARAMETERIZED
        super().__init__(tf.float32, kind, False, True, parameters={})

    def _event_shape(self):
        return tf.TensorShape([])

    def _batch_shape(self):
        return tf.TensorShape([])

    def _sample_n(self, n, seed=None):
        return tf.zeros([n])

    def _default_event_space_bijector(self):
        return tfb.Identity()


def normal(shape):
    """A flow without variables: the surrogate is multivariate normal."""
    return distributions.standard_normal(shape)


def bent(shape):
    """A flow of two entries that is nonlinear, and far from the identity."""

    def network(x):
        return tf.concat([tf.sin(x), 0.5 * tf.tanh(x)], -1)

    coupling = bijectors.AffineCoupling(masks.half(2), network)
    shift = bijectors.Scaling([2], log_scale=[0.3, -0.4])
    return Flow(normal(shape), bijectors.Chain([shift, coupling]))


def conjugate():
    """A pinned model; its posterior over the mean is N(1/4 sum y, 1/4)."""
    joint = tfd.JointDistributionNamed(
        {
            "mean": tfd.Normal(0.0, 1.0),
            "y": lambda mean: tfd.Sample(tfd.Normal(mean, 1.0), 3),
        }
    )
    return joint.experimental_pin(y=Y)


def log_evidence():
    """The log-density of the observations of `conjugate`."""
    scale = np.linalg.cholesky(np.eye(3) + np.ones([3, 3]))
    return float(tfd.MultivariateNormalTriL(0.0, scale).log_prob(Y.astype("float64")))


def fresh(x):
    """Copies, which no cache of TFP's knows."""
    return tf.nest.map_structure(tf.identity, x)


def gaussian(model, **options):
    """A surrogate that is multivariate normal before the constraints."""
    return surrogate_posterior(model, normal, **options)
