"""Chains whose gradients rebuild their inputs."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows
from tests.support import fast_and_slow, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks
from tfp_flows.core.recompute import reconstruction_errors

tfb = tfp.bijectors


def members(count=2):
    """Members of all kinds: from [6] to [2, 3], with contexts [3]."""
    found = [B.Permutation("reverse", 3), tfb.Reshape([2, 3], [6])]
    for i in range(count):
        mask = masks.alternating(6)
        network = networks.MLP(6, [8], seed=i, dtype="float64")
        found += [
            B.ActNorm([6], dtype="float64"),
            B.PLU(6, seed=i, dtype="float64"),
            B.AffineCoupling(
                mask if i % 2 else ~mask, network, context_shape=(3,), dtype="float64"
            ),
        ]
    found += [
        tfb.Scale(tf.constant(2.0, tf.float64)),
        tfb.Invert(B.Planar(6, dtype="float64")),
        B.Chain([B.BatchNorm([6], dtype="float64"), B.Scaling([6], dtype="float64")]),
    ]
    for b in found:
        perturb(b)
    return found


def gradients(chain, method, x, context):
    with tf.GradientTape() as tape:
        tape.watch([x, context])
        y, log_det = getattr(chain, method)(x, context=context)
        weights = tf.range(1, 1 + tf.shape(x)[0])
        loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(
            log_det * tf.cast(weights, log_det.dtype)
        )
    sources = [x, context, *chain.trainable_variables]
    return [y, log_det, *tape.gradient(loss, sources)]


@pytest.mark.parametrize(
    ("method", "checkpoint_every", "compiles", "count"),
    [
        ("forward_and_log_det", 2, False, 1),
        ("inverse_and_log_det", None, True, 1),
        pytest.param("forward_and_log_det", 2, True, 2, marks=pytest.mark.slow),
        pytest.param("inverse_and_log_det", None, True, 2, marks=pytest.mark.slow),
    ],
)
def test_eager_function_and_xla(method, checkpoint_every, compiles, count):
    bijectors = members(count)
    plain = B.Chain(bijectors)
    frugal = B.Chain(
        bijectors, recompute_gradients=True, checkpoint_every=checkpoint_every
    )
    shape = (5, 2, 3) if method.startswith("inv") else (5, 6)
    x, context = normal(*shape), normal(5, 3, seed=1)
    expected = gradients(plain, method, x, context)
    unknown = [tf.TensorSpec([None, *shape[1:]], x.dtype)]
    unknown.append(tf.TensorSpec([None, 3], x.dtype))

    def evaluate(x, context):
        return gradients(frugal, method, x, context)

    compiled = [tf.function(evaluate, jit_compile=True)] if compiles else []
    for function in (
        evaluate,
        tf.function(evaluate, input_signature=unknown),
        *compiled,
    ):
        found = function(x, context)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


class Counting(tf.Module):
    """A conditioner that counts its calls and watches what it returns."""

    def __init__(self, size, name=None):
        super().__init__(name=name)
        self.weight = tf.Variable(normal(size, size) * 0.3)
        self.calls, self.returned = 0, []

    def __call__(self, x):
        self.calls += 1
        out = tf.tanh(x @ self.weight)
        self.returned.append(weakref.ref(out))
        return out


def watched(size):
    """A network of Keras's, and references to what each of its calls has computed."""
    computed = []

    def activation(h):
        out = tf.tanh(h)
        computed.append(weakref.ref(out))
        return out

    return keras.layers.Dense(size, activation, dtype="float64"), computed


@pytest.mark.parametrize("recompute", [False, True])
def test_nothing_is_kept_and_a_conditioner_runs_twice(recompute):
    mask = masks.half(6)
    networks, computed = zip(*[watched(3) for _ in range(4)], strict=True)
    chain = B.Chain(
        [
            B.AdditiveCoupling(mask if i % 2 else ~mask, network, dtype="float64")
            for i, network in enumerate(networks)
        ],
        recompute_gradients=recompute,
    )
    for references in computed:
        references.clear()
    x = normal(5, 6)
    with tf.GradientTape() as tape:
        y = chain.inverse(x)
        loss = tf.reduce_sum(y**2)
    gc.collect()
    alive = [r() is not None for references in computed for r in references]
    assert alive == [not recompute] * 4
    gradient = tape.gradient(loss, chain.trainable_variables)
    assert all(g is not None for g in gradient)
    assert [len(references) for references in computed] == [1 + recompute] * 4


class Steepness(B.JointBijector):
    """A user's bijector, whose log-determinant is a derivative that a tape takes."""

    def __init__(self):
        self.slope = tf.Variable(0.5, dtype=tf.float64)
        super().__init__(
            forward_min_event_ndims=1, dtype=tf.float64, parameters={}, name="steepness"
        )

    def _forward_and_log_det(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x + tf.sin(self.slope * x) / 2
        slopes = tape.gradient(y, x, unconnected_gradients="zero")
        return y, tf.reduce_sum(tf.math.log(slopes), -1)

    def _inverse_and_log_det(self, y):
        x = y
        # Each step leaves a third of the error, or less.
        for _ in range(30):
            x = y - tf.sin(self.slope * x) / 2
        return x, -self._forward_and_log_det(x)[1]


@pytest.mark.parametrize("compiled", fast_and_slow([None, False, True], None, False))
def test_derivatives_in_a_value_are_not_lost(compiled):
    network = networks.LipschitzMLP(2, [8], dtype="float64")
    residual = B.ResidualFlow(network, (2,), dtype="float64")
    first, *others = (Steepness() for _ in range(5))
    inner = [B.Chain(others[:2]), tfb.Chain(others[2:3])]
    bijectors = [first, residual, *inner, *others[3:]]
    for b in bijectors:
        perturb(b, 0.1)
    x = normal(5, 2)

    def evaluate(recompute):
        chain = B.Chain(bijectors, recompute_gradients=recompute)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = chain.forward_and_log_det(x)
            loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det**2)
        return [y, log_det, *tape.gradient(loss, [x, *chain.trainable_variables])]

    frugal = evaluate
    if compiled is not None:
        frugal = tf.function(evaluate, autograph=False, jit_compile=compiled)
    for a, b in zip(frugal(True), evaluate(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("of", fast_and_slow(["x", "variables"], "variables"))
def test_gradients_of_gradients_are_refused(of):
    chain = B.Chain(members(1), recompute_gradients=True)
    x, context = normal(4, 6), normal(4, 3, seed=1)
    targets = x if of == "x" else chain.trainable_variables

    def second(chain):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y, log_det = chain.forward_and_log_det(x, context=context)
                # Linear in what the chain returns: its own gradient alone matters.
                loss = tf.reduce_sum(y) + tf.reduce_sum(log_det)
            first = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(first, targets)

    for function in (second, tf.function(second)):
        with pytest.raises(NotImplementedError, match="recompute_gradients=False"):
            function(chain)
    found = second(chain.copy(recompute_gradients=False))
    assert any(g is not None for g in tf.nest.flatten(found))


def test_a_variable_of_two_members_gets_both_gradients():
    coupling = B.AdditiveCoupling(masks.half(4), Counting(2), dtype="float64")
    bijectors = [coupling, B.Permutation("reverse", 4), coupling]
    x = normal(3, 4)

    def gradient(chain):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(chain.forward(x)))
        return tape.gradient(loss, coupling.conditioner.weight)

    np.testing.assert_allclose(
        gradient(B.Chain(bijectors, recompute_gradients=True)),
        gradient(B.Chain(bijectors)),
        rtol=1e-9,
    )


@pytest.mark.slow
def test_single_precision_through_a_deep_flow():
    arguments = {"levels": 2, "steps": 12, "width": 8, "seed": 0}
    x = tf.cast(normal(2, 8, 8, 1), tf.float32)
    found = []
    for recompute in (False, True):
        flow = tfp_flows.flows.glow(
            (8, 8, 1), recompute_gradients=recompute, **arguments
        )
        perturb(flow.bijector, 0.05)
        flow.bijector.initialize(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(x))
        found.append(tape.gradient(loss, flow.trainable_variables))
    for a, b in zip(*found, strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * scale)


def test_empty_batch():
    flow = tfp_flows.flows.real_nvp((4,), width=8, recompute_gradients=True)
    x = tf.zeros([0, 4])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.log_prob(x))
    for gradient in tape.gradient(loss, flow.trainable_variables):
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


def test_errors_between_checkpoints():
    """A scale of 1e-6 loses digits, which a checkpoint after it gives back."""
    lossy = [tfb.Shift(1e4), tfb.Scale(1e-6), tfb.Shift(1.0)]
    x = tf.cast(normal(4, 2), tf.float32)
    worst = {}
    for every in (None, 1):
        chain = B.Chain(lossy, recompute_gradients=True, checkpoint_every=every)
        with reconstruction_errors() as errors:
            chain.forward(x)
        assert len(errors) == (1 if every is None else 3)
        worst[every] = max(map(float, errors))
    # Of single steps, the worst loses a part of what all three lose together.
    assert worst[None] > 1e-3
    assert worst[1] <= worst[None]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="checkpoint_every needs recompute_gradients"):
        B.Chain([], checkpoint_every=2)
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        B.Chain([], recompute_gradients=True, checkpoint_every=0)
