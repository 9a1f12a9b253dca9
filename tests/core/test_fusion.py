"""Splines and mixtures are one loop of XLA in a graph, where that is asked for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.support import close, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks, networks
from tfp_flows.core.fusion import shapes_repeat
from tfp_flows.core.repeat import unrolled
from tfp_flows.transformers import (
    Affine,
    Inverted,
    LogisticMixture,
    RationalQuadratic,
)


class Derived(RationalQuadratic):
    """Does not say that it wants to be compiled."""


class DerivedInverted(Inverted):
    pass


def flow_of(transformer):
    network = networks.MLP(2 * transformer.num_parameters, [4], seed=0)
    coupling = bijectors.Coupling(masks.half(4), network, transformer)
    flow = Flow(distributions.standard_normal([4]), coupling)
    perturb(flow, 0.3)
    return flow


def compiled_functions(function, *specs):
    """How many functions of a graph XLA must compile."""
    graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
    library = graph.as_graph_def().library.function
    return sum(f.attr["_XlaMustCompile"].b for f in library)


X = tf.TensorSpec([8, 4])


@pytest.mark.parametrize(
    ("transformer", "count"),
    [
        (RationalQuadratic(4), 1),
        (LogisticMixture(3), 1),
        (Inverted(LogisticMixture(3)), 1),
        (Affine(), 0),
        (Derived(4), 0),
        (Inverted(Derived(4)), 0),
        (DerivedInverted(RationalQuadratic(4)), 0),
    ],
    ids=repr,
)
def test_the_class_itself_asks(transformer, count):
    assert compiled_functions(flow_of(transformer).log_prob, X) == count


def test_shapes_that_repeat():
    flow, unknown = flow_of(RationalQuadratic(4)), tf.TensorSpec([None, 4])
    assert compiled_functions(flow.log_prob, unknown) == 0
    with shapes_repeat():
        assert compiled_functions(flow.log_prob, unknown) == 1
        with shapes_repeat(False):
            assert compiled_functions(flow.log_prob, unknown) == 0
    assert compiled_functions(flow.log_prob, unknown) == 0
    with unrolled():
        assert compiled_functions(flow.log_prob, X) == 0


def test_layers_share_what_is_compiled():
    flow = flows.neural_spline_flow((4,), layers=3, width=4, normalize=False, seed=0)
    # One function, though a pair of layers has a trace and the last one has its own.
    assert compiled_functions(flow.log_prob, X) == 1


@pytest.mark.parametrize(
    "transformer", [RationalQuadratic(4), Inverted(LogisticMixture(3))], ids=repr
)
def test_numbers_and_gradients(transformer):
    flow = flow_of(transformer)
    x = normal(8, 4, dtype="float32")

    def values(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = flow.log_prob(x)
        return log_prob, tape.gradient(log_prob, [x, *flow.trainable_variables])

    for a, b in zip(
        tf.nest.flatten(tf.function(values)(x)),
        tf.nest.flatten(values(x)),
        strict=True,
    ):
        close(a, b, 1e-4)
    z = flow.encode(x)
    close(tf.function(flow.decode)(z), x, 1e-4)


def test_a_model_compiles_for_many_batches(monkeypatch):
    """Of two sizes, the last one being smaller; few are not worth waiting for."""
    flow = flow_of(RationalQuadratic(4))
    model = tfp_flows.FlowModel(flow)
    model.compile("adam")
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    spec = tf.TensorSpec([None, 4])
    plain = model.predict(x, batch_size=8, verbose=0)
    assert compiled_functions(model.predict_step, spec) == 0
    monkeypatch.setattr("tfp_flows.training.flow_model._ENOUGH_BATCHES", 3)
    found = model.predict(x, batch_size=8, verbose=0)
    assert compiled_functions(model.predict_step, spec) == 1
    np.testing.assert_allclose(found, plain, 1e-4)
    # Each operation for itself: also where one is called between steps of another.
    assert compiled_functions(model.test_step, spec) == 0
    few = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: model.predict(x[:4], verbose=0)
    )
    model.fit(x, batch_size=8, epochs=2, callbacks=[few], verbose=0)
    assert compiled_functions(model.test_step, spec) == 1
    assert compiled_functions(model.predict_step, spec) == 0
