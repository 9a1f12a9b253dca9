"""A distribution over a model's parameters, made of one over vectors."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfp_flows.core.tfp_internals import TRANSFORMED_DISTRIBUTION

__all__ = ["OverParameters"]


class OverParameters(TRANSFORMED_DISTRIBUTION):
    """A `tfd.TransformedDistribution` whose density is 0 outside of the support.

    There TFP's bijectors of constrained parameters have inverses that are NaN or
    infinite, and so would be the log-density; here it is minus infinity. NaN in
    parameters gives NaN.

    Args:
      distribution: one over vectors.
      bijector: from vectors to the parameters.
      name: name of the distribution.
    """

    def _log_prob(self, y: Any, **keywords: Any) -> tf.Tensor:
        log_prob = super()._log_prob(y, **keywords)
        # TFP's cache has the inverse from before.
        vector = self.bijector.inverse(y)
        outside = tf.reduce_any(~tf.math.is_finite(vector), -1)
        ranks = tf.nest.flatten(
            tf.nest.map_structure(lambda _, s: s.rank, self.dtype, self.event_shape)
        )
        for part, rank in zip(tf.nest.flatten(y), ranks, strict=True):
            outside &= ~tf.reduce_any(tf.math.is_nan(part), list(range(-rank, 0)))
        return tf.where(outside, tf.constant(-math.inf, log_prob.dtype), log_prob)
