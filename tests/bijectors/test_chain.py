"""Chains: order, members and the context of members."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import normal
from tfp_flows import bijectors as B
from tfp_flows import masks

tfb = tfp.bijectors


def test_chain_refuses_what_is_no_bijector():
    with pytest.raises(TypeError, match=r"bijectors\[1\]"):
        B.Chain([B.ActNorm([3]), keras.layers.Dense(3)])


def test_chain_order_is_tfps():
    one, two = tfb.Scale(2.0), tfb.Shift(1.0)
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(
        B.Chain([one, two]).forward(x), tfb.Chain([one, two]).forward(x)
    )
    np.testing.assert_array_equal(B.Chain([one, two]).forward(x), 2 * (x + 1))


def test_empty_chain_is_the_identity():
    x = normal(3, 2)
    y, fldj = B.Chain([]).forward_and_log_det(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(fldj, np.zeros((3, 2)))


def test_context_reaches_members_of_tfps_compositions():
    coupling = B.AdditiveCoupling(
        masks.half(2), lambda x, c: x + c, context_shape=(1,), name="mine"
    )
    nested = B.Chain([tfb.Chain([tfb.Invert(coupling), tfb.Shift(1.0)]), coupling])
    assert nested.context_shape == (1,)
    x, c = tf.constant([[1.0, 2.0]]), tf.constant([[10.0]])
    # + (1 + 10), shift by 1, - (2 + 10).
    np.testing.assert_allclose(nested.forward(x, context=c), [[2.0, 2.0]])
    np.testing.assert_allclose(nested.inverse([[2.0, 2.0]], context=c), x)
    # TFP's own way to pass a keyword through its Chain.
    chain = tfb.Chain([coupling])
    np.testing.assert_allclose(chain.forward(x, mine={"context": c}), [[1.0, 13.0]])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Chain([B.ActNorm([3]), B.ActNorm([4])]), "does not take"),
        (lambda: B.Chain([B.ActNorm([3]), B.ActNorm([3], dtype="float64")]), "dtype"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
