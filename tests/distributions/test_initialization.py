"""What of a flow depends on data."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain
from tests.support import close, normal
from tfp_flows import Flow, bijectors, distributions

tfb = tfp.bijectors


class Standardize(keras.layers.Layer):
    """Contexts by their own mean, which it takes from a batch."""

    def __init__(self):
        super().__init__()
        self.mean = self.add_weight(shape=(2,), initializer="zeros", trainable=False)
        self.seen = False

    @property
    def needs_initialization(self):
        return not self.seen

    def initialize(self, context):
        assert context.shape.rank == 2
        self.mean.assign(tf.reduce_mean(context, 0))
        self.seen = True

    def call(self, context):
        return context - self.mean


def standardized(x):
    return (x - x.mean(0)) / x.std(0)


def test_returns_the_noise():
    flow = Flow(distributions.standard_normal((4,)), bijectors.ActNorm([4]))
    assert flow.needs_initialization
    x = 3.0 + 2.0 * normal(50, 4, dtype="float32").numpy()
    close(flow.initialize(x), standardized(x), 1e-4)
    assert not flow.needs_initialization
    close(flow.encode(x), standardized(x), 1e-4)
    # Once: what is set stays.
    close(
        flow.initialize(5.0 * x), standardized(x) * 5 + 4 * x.mean(0) / x.std(0), 1e-3
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda actnorm: tfb.Chain([tfb.Scale(2.0), actnorm]),
        lambda actnorm: bijectors.Chain([tfb.Chain([actnorm]), tfb.Shift(1.0)]),
    ],
    ids=["tfp_chain", "nested"],
)
def test_through_tfps_compositions(wrap):
    flow = Flow(distributions.standard_normal((4,)), wrap(bijectors.ActNorm([4])))
    x = 3.0 + 2.0 * normal(50, 4, dtype="float32")
    z = flow.initialize(x)
    assert not flow.needs_initialization
    close(z, flow.encode(x), 1e-4)
    close(tf.math.reduce_std(z, 0), np.ones(4), 1e-3)


def test_a_base_that_is_a_flow():
    inner = Flow(distributions.standard_normal((4,)), bijectors.ActNorm([4]))
    flow = Flow(inner, bijectors.Scaling([4]))
    assert flow.needs_initialization
    flow.initialize(3.0 + 2.0 * normal(50, 4, dtype="float32"))
    assert not flow.needs_initialization
    assert not inner.needs_initialization


def test_the_encoder_of_the_context_comes_first():
    encoder = Standardize()
    flow = Flow(
        distributions.standard_normal((4,)),
        make_chain(context_shape=(2,)),
        context_encoder=encoder,
        context_shape=(2,),
    )
    x, context = (
        normal(5, 6, 4, dtype="float32"),
        100.0 + normal(5, 6, 2, dtype="float32"),
    )
    z = flow.initialize(x, context)
    assert not flow.needs_initialization
    close(encoder.mean, tf.reduce_mean(context, (0, 1)), 1e-4)
    # The chain was set by what the encoder made of the contexts.
    close(z, flow.encode(x, context=context), 1e-4)
    close(tf.math.reduce_std(z, (0, 1)), np.ones(4), 0.2)


def test_errors():
    flow = Flow(distributions.standard_normal((4,)), make_chain(context_shape=(2,)))
    with pytest.raises(ValueError, match="context is required"):
        flow.initialize(normal(5, 4, dtype="float32"))
    with pytest.raises(ValueError, match="empty batch"):
        flow.initialize(normal(0, 4, dtype="float32"), normal(0, 2, dtype="float32"))
    with pytest.raises(ValueError, match=r"must end in \(4,\)"):
        flow.initialize(normal(5, 3, dtype="float32"), normal(5, 2, dtype="float32"))
    assert flow.needs_initialization


@pytest.mark.parametrize("compiled", [False, True])
def test_log_prob_warns_once(compiled):
    flow = Flow(distributions.standard_normal((4,)), make_chain())
    log_prob = tf.function(flow.log_prob) if compiled else flow.log_prob
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Variational inference samples first, and needs no data.
        flow.sample(2)
        flow.sample_and_log_prob(2)
    with pytest.warns(UserWarning, match=r"training\.initialize.*FlowModel\.fit"):
        log_prob(normal(3, 4, dtype="float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_prob(normal(3, 4, dtype="float32"))
        log_prob(normal(5, 4, dtype="float32"))
        ready = Flow(distributions.standard_normal((4,)), make_chain())
        ready.initialize(normal(5, 4, dtype="float32"))
        ready.log_prob(normal(3, 4, dtype="float32"))
        Flow(distributions.standard_normal((4,)), tfb.Exp()).log_prob([[1.0] * 4])
