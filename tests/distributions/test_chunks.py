"""Large batches in chunks: the numbers of one pass."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.distributions.support import make_chain, make_flow
from tests.support import close, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks, networks
from tfp_flows.core.xla_where_faster import XLAWhereFaster
from tfp_flows.distributions.in_chunks import in_chunks


class Watching(networks.MLP):
    """Remembers the sizes of batches that it was given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def call(self, x, context=None):
        self.seen.append(x.shape[0])
        return super().call(x, context)


def watched(chunk_size, context_shape=None):
    network = Watching(4, (4,), seed=0)
    coupling = bijectors.AffineCoupling(
        masks.half(4), network, context_shape=context_shape
    )
    flow = Flow(distributions.standard_normal((4,)), coupling, chunk_size=chunk_size)
    perturb(flow, 0.3)
    network.seen.clear()
    return flow, network.seen


BATCHES = (
    ((11,), (11,)),
    ((11,), ()),
    ((), (11,)),
    ((11,), (1,)),
    ((2, 7), (7,)),
    ((2, 7), (2, 1)),
    ((2, 1), (7,)),
)


@pytest.mark.parametrize(
    ("run", "batches"),
    [
        pytest.param(lambda f: f, BATCHES, id="eager"),
        pytest.param(tf.function, BATCHES[4:5], id="function", marks=pytest.mark.slow),
        pytest.param(
            tf.function, BATCHES[1:6:2], id="functions", marks=pytest.mark.slow
        ),
    ],
)
def test_the_numbers_of_one_pass(run, batches):
    """Also where the last chunk is smaller, and where contexts broadcast."""
    flow = make_flow(context_shape=(2,))
    small = flow.copy(chunk_size=4)
    assert small.chunk_size == 4
    for batch, of_context in batches:
        x, context = (
            normal(*batch, 4, dtype="float32"),
            normal(*of_context, 2, seed=1, dtype="float32"),
        )
        for name in ("log_prob", "encode", "decode", "bits_per_dim"):
            expected = getattr(flow, name)(x, context=context)
            found = run(lambda x, c, n=name: getattr(small, n)(x, context=c))(
                x, context
            )
            assert found.shape == expected.shape, (name, batch, of_context)
            close(found, expected, 1e-5)
    context = normal(3, 2, dtype="float32")
    for shape in (5, (2, 5), ()):
        expected = flow.sample_and_log_prob(shape, seed=1, context=context)
        found = run(lambda s=shape: small.sample_and_log_prob(s, 1, context=context))()
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            close(a, b, 1e-5)
        sample = run(lambda s=shape: small.sample(s, 1, context=context))()
        close(sample, expected[0], 1e-5)


def test_no_pass_is_larger():
    flow, seen = watched(5)
    x = normal(12, 4, dtype="float32")
    for call in (flow.log_prob, flow.encode, flow.decode):
        seen.clear()
        call(x)
        assert seen == [4, 4, 4]
    for call in (flow.sample, flow.sample_and_log_prob):
        seen.clear()
        call(12, seed=0)
        assert seen == [4, 4, 4]
    # In a graph, one trace for all.
    seen.clear()
    tf.function(lambda: flow.log_prob(normal(1200, 4, dtype="float32")))()
    assert set(seen) == {5}
    seen.clear()
    flow.log_prob(normal(5, 4, dtype="float32"))
    assert seen == [5]


def test_what_goes_in_one_pass():
    """A tape keeps all of it anyway; an unknown number cannot be divided."""
    flow, seen = watched(5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.log_prob(normal(12, 4, dtype="float32")))
    assert seen == [12]
    assert all(g is not None for g in tape.gradient(loss, flow.trainable_variables))
    seen.clear()
    spec = [tf.TensorSpec([None, 4])]
    close(
        tf.function(flow.log_prob, input_signature=spec)(
            normal(12, 4, dtype="float32")
        ),
        flow.copy(chunk_size=100).log_prob(normal(12, 4, dtype="float32")),
        1e-5,
    )
    assert seen[0] is None


def test_gradients_through_a_function_in_chunks():
    flow = make_flow()
    small, x = flow.copy(chunk_size=4), normal(11, 4, dtype="float32")
    found = []
    for each in (flow, small):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.function(each.log_prob)(x) ** 2)
        found.append(tape.gradient(loss, each.trainable_variables))
    for a, b in zip(*found, strict=True):
        close(tf.convert_to_tensor(a), tf.convert_to_tensor(b), 1e-3)


def test_the_size_follows_from_the_widest_layer():
    wide = flows.real_nvp((4,), layers=2, width=256, seed=0)
    narrow = flows.real_nvp((4,), layers=2, width=64, seed=0)
    assert wide.chunk_size == 2**26 // (4 * 256)
    assert narrow.chunk_size == 4 * wide.chunk_size
    image = flows.glow((8, 8, 1), steps=1, levels=1, width=32, seed=0)
    assert image.chunk_size == 2**26 // (4 * 64 * 32)
    # Networks see an image as a vector, or as 16 tokens with layers of four widths.
    flat = flows.nice((8, 8, 1), layers=2, width=256, bounds=(0, 17), seed=0)
    assert flat.chunk_size == 2**26 // (4 * 256)
    tokens = flows.tarflow((8, 8, 1), patch=2, layers=2, depth=1, width=32, seed=0)
    assert tokens.chunk_size == 2**26 // (4 * 16 * 4 * 32)
    assert Flow(distributions.standard_normal((4,)), make_chain()).chunk_size > 1000
    for wrong, error in ((0, ValueError), (2.5, TypeError), ("3", TypeError)):
        with pytest.raises(error, match="chunk_size"):
            wide.copy(chunk_size=wrong)


def test_many_chunks_are_one_trace(monkeypatch):
    """Small chunks, whose size follows from the widest layer too; 64 at least."""
    flow, seen = watched(None)
    expected = flow.log_prob(normal(1200, 4, dtype="float32"))
    assert seen == [1200]
    # As if its layers were 2**20 times as wide.
    monkeypatch.setattr("tfp_flows.distributions.flow._LARGEST_PASS", 2**10)
    monkeypatch.setattr("tfp_flows.distributions.flow._CHUNK", 1)
    flow = flow.copy(name="chunked")
    seen.clear()
    found = flow.log_prob(normal(1200, 4, dtype="float32"))
    assert set(seen) == {64} and len(seen) < 4
    close(found, expected, 1e-5)
    close(flow.sample(1200, seed=0), flow.copy(chunk_size=1200).sample(1200, seed=0))


@pytest.mark.parametrize("with_context", [False, True])
def test_xla_is_tried_on_the_chunks(monkeypatch, with_context):
    """By `XLAWhereFaster`, here at once: traced without it, and once more for it."""
    patience = functools.partial(XLAWhereFaster, patience=1.0, least=0.0)
    tried = []

    def trying(plain, make_compiled):
        tried.append(patience(plain, make_compiled))
        return tried[-1]

    monkeypatch.setattr("tfp_flows.distributions.in_chunks.XLAWhereFaster", trying)
    flow, seen = watched(5, (2,) if with_context else None)
    x, context = normal(203, 4, dtype="float32"), normal(203, 2, dtype="float32")
    given = {"context": context} if with_context else {}
    found = flow.log_prob(x, **given)
    (chooses,) = tried
    assert chooses._is_decided and set(seen) == {5} and len(seen) == 2
    close(found, flow.copy(chunk_size=1000).log_prob(x, **given), 1e-5)
    z = flow.encode(x, **given)
    close(flow.decode(z, **given), x, 1e-5)
    assert len(tried) == 3


def test_many_calls_do_not_warn_of_retracing(caplog):
    def identity(x):
        return [x]

    for _ in range(6):
        (found,) = in_chunks(identity, 1, [tf.range(9.0)], [0], [0], tf.float32)
    close(found, np.arange(9), 0)
    assert not caplog.text


def test_labels_out_of_range_among_many():
    flow = flows.real_nvp((2,), layers=1, width=4, num_classes=3, normalize=False)
    labels = np.zeros(100, "int32")
    labels[70] = 3
    with pytest.raises(ValueError, match=r"labels in \[0, 3\), got 3"):
        flow.copy(chunk_size=4).log_prob(np.zeros((100, 2), "float32"), context=labels)


def test_where_contexts_are_none():
    flow = make_flow(context_shape=(2,))
    context = normal(11, 2, dtype="float32").numpy()
    context[7, 0] = np.nan
    found = flow.copy(chunk_size=4).log_prob(
        normal(11, 4, dtype="float32"), context=context
    )
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]


@pytest.mark.parametrize("length", [1, 4, 7, 8, 9])
def test_every_length(length):
    x = normal(length, 3, dtype="float32")
    for run in (lambda f: f, tf.function):
        (found,) = run(
            lambda: in_chunks(lambda x: [2.0 * x], 4, [x], [1], [1], tf.float32)
        )()
        np.testing.assert_array_equal(found, 2.0 * x)
