"""Bounds of raw parameters."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import transformers


@pytest.mark.parametrize(
    ("transformer", "which", "bound"),
    [
        (transformers.Affine("exp", 3.0), 1, 3.0),
        (transformers.Affine("sigmoid", 3.0), 1, 3.0),
        (transformers.LogisticMixture(1), 3, 2.0),
        (transformers.LogisticMixture(1), 2, 5.0),
    ],
    ids=["exp", "sigmoid", "mixture", "component"],
)
def test_bounds_are_reached_by_no_number_and_stop_none(transformer, which, bound):
    """Log-scales stay inside their bound, and no raw one loses its gradient."""
    raw = tf.constant([-1e4, -60.0, -6.0, 0.0, 6.0, 60.0], "float32")
    if getattr(transformer, "scale", "") == "sigmoid":
        # Its other end is that of the sigmoid itself.
        raw = raw[:4]
    with tf.GradientTape() as tape:
        tape.watch(raw)
        theta = tf.stack(
            [
                raw if i == which else tf.zeros_like(raw)
                for i in range(transformer.num_parameters)
            ]
        )
        _, log_det = transformer.forward_and_log_det(tf.zeros_like(raw), theta)
    gradient = tape.gradient(log_det, raw)
    assert (np.abs(log_det) < bound + 2).all()
    if which == 1:
        assert (np.abs(log_det) < bound).all()
    assert (np.abs(gradient) > 0).all()
