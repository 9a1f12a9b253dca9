"""A row of bijectors: what is done once for all of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support import normal
from tfp_flows import bijectors as B
from tfp_flows import masks
from tfp_flows.core.event_split import AxisPartition


class Plus(B.AdditiveCoupling):
    """Adds one to what a coupling returns."""

    def _forward_and_log_det(self, x, context=None):
        y, log_det = super()._forward_and_log_det(x, context)
        return y + 1, log_det

    def _inverse_and_log_det(self, y, context=None):
        return super()._inverse_and_log_det(y - 1, context)


@pytest.mark.parametrize(
    ("mask", "size"),
    [(masks.half(5), 5), (masks.alternating(6), 6), (masks.alternating(5), 5)],
    ids=["halves", "pairs", "indices"],
)
def test_couplings_in_a_row_take_an_event_apart_once(mask, size, monkeypatch):
    def coupling(kept, kind=B.AdditiveCoupling):
        changed = int((~kept).sum())
        return kind(
            kept, lambda x: tf.reduce_sum(x, -1, True) * tf.ones([changed], x.dtype)
        )

    scale = B.ActNorm([size], dtype="float64")
    other = np.arange(size) == 0
    chain = B.Chain(
        [
            *(coupling(mask), coupling(~mask), coupling(mask)),
            scale,
            *(coupling(~mask), coupling(~mask)),
            *(coupling(mask, Plus), coupling(other)),
        ]
    )
    x = normal(4, size)
    y = x
    for b in reversed(chain.bijectors):
        y = b.forward(y)
    calls = []
    for name in ("take_apart", "put_together"):
        method = getattr(AxisPartition, name)
        monkeypatch.setattr(
            AxisPartition,
            name,
            lambda self, x, n=name, m=method: (calls.append(n), m(self, x))[1],
        )
    got, log_det = chain.forward_and_log_det(x)
    np.testing.assert_allclose(got, y, rtol=1e-12)
    np.testing.assert_allclose(log_det, np.zeros(4), atol=1e-12)
    assert calls == ["take_apart", "put_together"] * 4
    np.testing.assert_allclose(chain.inverse(y), x, rtol=1e-9, atol=1e-9)
