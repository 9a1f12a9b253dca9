"""What is particular to block neural autoregressive flows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import flows

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

SMALL = {"layers": 2, "width": 4, "seed": 0, "dtype": "float64"}


def test_a_density_of_one_entry_integrates_to_one():
    flow = perturb(flows.bnaf((1,), **SMALL), 0.5)
    grid = np.linspace(-60, 60, 24_001)[:, None]
    log_prob = flow.log_prob(tf.constant(grid)).numpy()
    assert abs(np.exp(log_prob).mean() * 120 - 1) < 1e-3


def test_densities_need_no_loop():
    flow = flows.bnaf((3,), **SMALL)
    graph = tf.function(flow.log_prob).get_concrete_function(
        tf.zeros([2, 3], "float64")
    )
    assert not any("While" in op.type for op in graph.graph.get_operations())


def test_samples_have_the_density_that_is_told():
    flow = perturb(flows.bnaf((3,), num_classes=2, **SMALL), 0.5)
    context = [0, 1, 1, 0, 1]
    x, log_prob = flow.sample_and_log_prob(seed=0, context=context)
    again = flow.log_prob(tf.constant(x.numpy()), context=context)
    np.testing.assert_allclose(again, log_prob, rtol=1e-9, atol=1e-9)


def test_layers_go_through_the_entries_in_both_orders():
    """The first layer alone leaves the first entry to itself; two leave none."""
    x = tf.constant([[0.3, -1.0, 2.0]], "float64")

    def seen(layers):
        flow = perturb(flows.bnaf((3,), **{**SMALL, "layers": layers}), 0.5)
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = flow.encode(x)
        return np.abs(tape.jacobian(z, x).numpy().reshape([3, 3])) > 0

    # Noise comes in the reverse order.
    np.testing.assert_array_equal(seen(1)[::-1], np.tril(np.ones([3, 3])) > 0)
    assert seen(2).all()


def test_a_context_that_is_no_vector():
    with pytest.raises(ValueError, match=r"context_shape must be.*vector"):
        flows.bnaf((3,), context_shape=(2, 2), **SMALL)
