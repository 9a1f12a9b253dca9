"""Parameters of transformers, and what several of their formulas share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def parameters_of(transformer, n, scale=1.0, seed=0, dtype="float64"):
    draw = np.random.default_rng(seed)
    shape = (transformer.num_parameters, n)
    return tf.constant(scale * draw.standard_normal(shape), dtype)


def values(transformer, x, theta):
    return transformer.forward_and_log_det(tf.constant(x), theta)[0]


def smooth_bound(x, bound):
    return 2 * bound / np.pi * np.arctan(np.pi * x / (2 * bound))


def widths_and_heights(spline, theta):
    """Ends of bins along both axes, from the definition."""
    k, ends = spline.bins, []
    for raw in (theta[:k, 0].numpy(), theta[k : 2 * k, 0].numpy()):
        share = spline.min_bin + (1 - k * spline.min_bin) * np.exp(raw) / np.exp(
            raw
        ).sum(0)
        ends.append(np.append(0, np.cumsum(share)) * 2 * spline.bound - spline.bound)
    return ends
