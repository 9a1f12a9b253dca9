"""Networks of sigmoids."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.transformers.support import (
    parameters_of,
    smooth_bound,
    values,
)
from tfp_flows import transformers


def test_a_sigmoid_network_is_its_formula():
    network = transformers.SigmoidNetwork(3)
    assert network.num_parameters == 2 * 3**2 + 5 * 3
    theta = parameters_of(network, 1)
    parts = np.split(theta[:, 0].numpy(), np.cumsum([9, 0, 3, 3, 3, 9, 3]))

    def softmax(rows):
        return np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)

    h = x = np.linspace(-4, 4, 9)
    h = h[None]
    for i, (own, inner) in enumerate([(2 * np.eye(3), 1), (0, 3)]):
        w, u, a, b = parts[4 * i : 4 * i + 4]
        w = softmax(w.reshape(-1, 3) + own)
        a = np.exp(smooth_bound(a, 3.0))[:, None]
        b = (b - np.linspace(-0.7, 0.7, 3))[:, None]
        u = softmax(u.reshape(3, inner)) if inner > 1 else np.ones([3, 1])
        f = w @ (1 / (1 + np.exp(-(a * (u @ h) + b))))
        h = np.log(f / (1 - f))
    np.testing.assert_allclose(values(network, x, theta), h[0], atol=1e-12)


def test_a_single_layer_is_a_mixture():
    """The deep sigmoidal flow (DSF) of one layer, in the other parametrisation."""
    network = transformers.SigmoidNetwork(4, 1, max_log_scale=5.0)
    theta = parameters_of(network, 1)
    w, a, b = tf.split(theta, 3)
    b -= np.linspace(-0.7, 0.7, 4)[:, None]
    means = -b * np.exp(-smooth_bound(a, 5.0)) - np.linspace(-1, 1, 4)[:, None]
    mixture = tf.concat([w, means, -a, tf.zeros([2, 1], "float64")], 0)
    x = np.linspace(-4, 4, 9)
    want = values(transformers.LogisticMixture(4), x, mixture)
    np.testing.assert_allclose(values(network, x, theta), want, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.SigmoidNetwork(0), "width must be at least 1"),
        (lambda: transformers.SigmoidNetwork(layers=0), "layers must be at least 1"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
