"""Scales of affine couplings."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.bijectors.cases import conv
from tests.support import normal
from tfp_flows import bijectors as B
from tfp_flows import masks, networks


def test_new_couplings_are_the_identity():
    x = normal(3, 2, 2, 4, dtype="float32")
    for scale in ("exp", "tanh"):
        coupling = B.AffineCoupling(
            masks.channel(4), conv(4, "float32"), scale, event_shape=(2, 2, 4)
        )
        np.testing.assert_array_equal(coupling.forward(x), x)


def test_sigmoid_scale_is_glows():
    coupling = B.AffineCoupling(
        masks.half(2), lambda x: tf.zeros([x.shape[0], 2], x.dtype), "sigmoid"
    )
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(coupling.inverse([[1.0, 1.0]]), [[1.0, sigmoid]])
    np.testing.assert_allclose(
        coupling.inverse_log_det_jacobian([[1.0, 1.0]]), [np.log(sigmoid)], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.AffineCoupling(
                masks.half(4), networks.MLP(4), context_shape=(None, 3)
            ),
            r"context_shape\[0\] must be an integer, got None",
        ),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
