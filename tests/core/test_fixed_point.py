"""Gradients of fixed points, and of what a custom gradient runs once more."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.fixed_point import gradients_of_arguments


def test_what_runs_again_waits_for_the_gradient():
    """Otherwise a graph holds the activations of all layers at once."""

    @tf.custom_gradient
    def layer(x):
        def gradient(upstream):
            (found,) = gradients_of_arguments(tf.tanh, (x,), upstream)
            return found

        return tf.tanh(x), gradient

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = tf.exp(layer(x))
        return tape.gradient(out, x)

    x = tf.constant([0.3, -2.0])
    value = np.tanh(x)
    np.testing.assert_allclose(gradient(x), np.exp(value) * (1 - value**2), rtol=1e-5)
    graph = gradient.get_concrete_function(x).graph
    first, again = (op for op in graph.get_operations() if op.type == "Tanh")
    assert not ancestors(first) & {"Exp"}
    assert "Exp" in ancestors(again)


def ancestors(op):
    """Types of all operations that an operation waits for."""
    found, left = set(), [op]
    while left:
        op = left.pop()
        before = {t.op for t in op.inputs} | set(op.control_inputs)
        left += before - found
        found |= before
    return {op.type for op in found}
