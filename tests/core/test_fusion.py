"""Splines and mixtures are one loop of XLA in a graph, where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.support import close, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks, networks
from tfp_flows.core.fusion import fusing
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
    with fusing():
        assert compiled_functions(flow_of(transformer).log_prob, X) == count


def test_where_it_is_done():
    flow = flow_of(RationalQuadratic(4))
    assert compiled_functions(flow.log_prob, X) == 0
    with fusing():
        assert compiled_functions(flow.log_prob, tf.TensorSpec([None, 4])) == 1
        with fusing(False):
            assert compiled_functions(flow.log_prob, X) == 0
        with unrolled():
            assert compiled_functions(flow.log_prob, X) == 0

        def gradient(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(flow.log_prob(x))
            return tape.gradient(loss, flow.trainable_variables)

        assert compiled_functions(gradient, X) == 0
    assert compiled_functions(flow.log_prob, X) == 0


def test_layers_share_what_is_compiled():
    flow = flows.neural_spline_flow((4,), layers=3, width=4, normalize=False, seed=0)
    # One function, though a pair of layers has a trace and the last one has its own.
    with fusing():
        assert compiled_functions(flow.log_prob, X) == 1


@pytest.mark.parametrize(
    "transformer", [RationalQuadratic(4), Inverted(LogisticMixture(3))], ids=repr
)
def test_the_numbers(transformer):
    flow, x = flow_of(transformer), normal(8, 4, dtype="float32")
    with fusing():
        found = tf.function(flow.log_prob)(x), tf.function(flow.encode)(x)
        again = tf.function(flow.decode)(found[1])
    close(found[0], flow.log_prob(x), 1e-4)
    close(found[1], flow.encode(x), 1e-4)
    close(again, x, 1e-4)


def test_gradients_from_outside():
    """Of a function that was compiled when no tape recorded."""
    flow, x = flow_of(RationalQuadratic(4)), normal(8, 4, dtype="float32")
    with fusing():
        compiled = tf.function(flow.log_prob)
        compiled(x)
    found = []
    for log_prob in (compiled, flow.log_prob):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(log_prob(x))
        found.append(tape.gradient(loss, flow.trainable_variables))
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-3)


def test_many_batches_and_chunks(monkeypatch):
    """Each operation of a model decides for itself, by the number of batches."""
    flow = flow_of(RationalQuadratic(4))
    model = tfp_flows.FlowModel(flow)
    model.compile("adam")
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    spec = tf.TensorSpec([None, 4])
    plain = model.predict(x, batch_size=8, verbose=0)
    assert compiled_functions(model.predict_step, spec) == 0
    for module in ("training.flow_model", "distributions.in_chunks"):
        monkeypatch.setattr(f"tfp_flows.{module}.ENOUGH_CALLS", 3)
    data = tf.data.Dataset.from_tensor_slices(x).batch(8)
    found = model.predict(data, verbose=0)
    assert compiled_functions(model.predict_step, spec) == 1
    assert compiled_functions(model.test_step, spec) == 0
    np.testing.assert_allclose(found, plain, 1e-4)
    nll = model.evaluate(x, batch_size=8, verbose=0, return_dict=True)["nll"]
    assert compiled_functions(model.test_step, spec) == 1
    np.testing.assert_allclose(nll, -plain.mean(), 1e-5)
    model.predict(x[:4], verbose=0)
    assert compiled_functions(model.predict_step, spec) == 0
    chunked = flow.copy(chunk_size=8)
    assert compiled_functions(chunked.log_prob, tf.TensorSpec([16, 4])) == 0
    assert compiled_functions(chunked.log_prob, tf.TensorSpec([24, 4])) == 1
