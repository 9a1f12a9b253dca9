"""Flows whose codes are known without them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import Flow, distributions

tfb = tfp.bijectors


def linear_flow(shape=(3,), scale=2.0, base=None, dtype="float64"):
    """x = scale * z, so that codes are known without the flow."""
    base = base or distributions.standard_normal(shape, dtype)
    return Flow(base, tfb.Scale(tf.constant(scale, dtype)))


def of_classes(size=2):
    """Normals about (3, 0, ...) and about (0, -5, ...)."""
    means = np.zeros((2, size))
    means[0, 0], means[1, 1] = 3, -5
    return distributions.ClassConditionalNormal(
        (size,), 2, "float64", mean=tf.constant(means)
    )
