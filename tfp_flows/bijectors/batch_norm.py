"""Batch normalisation as a bijector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.recompute import recomputing

__all__ = ["BatchNorm"]


class BatchNorm(JointBijector):
    r"""Normalises the data's channels on their way to noise.

    With mean $\mu$ and variance $v$ of each channel,

    $$ x = \frac{y - \mu}{\sqrt{v + \epsilon}}\, e^{\gamma} + \beta, \qquad
       \log|\det \partial x / \partial y| =
       n \sum_c \left(\gamma_c - \tfrac12 \log(v_c + \epsilon)\right), $$

    with $n$ the number of positions (height times width of an image). This is Dinh et
    al. 2017, section 3.7 and equations 16 and 17; `forward` is the exact inverse.

    * `training=False` (the default): $\mu$ and $v$ are running averages.
    * `inverse(y, training=True)`: they are those of the batch, which also moves the
      running averages; gradients flow through them. Under `tf.distribute` they are
      those of the global batch.
    * `forward(x, training=True)` undoes the last `inverse(y, training=True)`: it uses
      the statistics of that batch.

    Each event alone is mapped as if $\mu$ and $v$ were constants; that is the
    log-determinant above, in both modes.

    Args:
      event_shape: `[..., C]`; the last axis is the channel.
      momentum: weight of the old running average in [0, 1).
      epsilon: added to the variance.
      dtype: dtype of values, float32 by default.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      ValueError: if `momentum` is outside [0, 1).
    """

    _has_training_mode = True
    # The batch's statistics are not in what it is turned into.
    has_direct_inverse = False

    def __init__(
        self,
        event_shape: Sequence[int],
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: Any = tf.float32,
        validate_args: bool = False,
        name: str = "batch_norm",
    ):
        parameters = dict(locals())
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}.")
        dtype = tf.as_dtype(dtype)
        *positions, channels = map(int, event_shape)
        self._positions = math.prod(positions)
        self._momentum, self._epsilon = momentum, epsilon
        zeros, ones = tf.zeros([channels], dtype), tf.ones([channels], dtype)
        self._shift = self._add_variable("shift", zeros)
        self._log_scale = self._add_variable("log_scale", zeros)
        statistics = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            # They are the same on all replicas: reading them needs no communication.
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        add = self._add_variable
        self._moving_mean = add("moving_mean", zeros, **statistics)
        self._moving_variance = add("moving_variance", ones, **statistics)
        self._batch_mean = add("batch_mean", zeros, **statistics)
        self._batch_variance = add("batch_variance", ones, **statistics)
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def moving_mean(self) -> tf.Variable:
        """Running average of the mean, `[C]`."""
        return self._moving_mean

    @property
    def moving_variance(self) -> tf.Variable:
        """Running average of the variance, `[C]`."""
        return self._moving_variance

    def _forward_and_log_det(self, x, training=False):
        mean, variance = (
            (self._batch_mean, self._batch_variance)
            if training
            else (self._moving_mean, self._moving_variance)
        )
        log_scale = self._log_scale - 0.5 * tf.math.log(variance + self._epsilon)
        y = (x - self._shift) * tf.exp(-log_scale) + mean
        return y, -self._positions * tf.reduce_sum(log_scale)

    def _inverse_and_log_det(self, y, training=False):
        mean, variance = (
            self._observe(y) if training else (self._moving_mean, self._moving_variance)
        )
        log_scale = self._log_scale - 0.5 * tf.math.log(variance + self._epsilon)
        x = (y - mean) * tf.exp(log_scale) + self._shift
        return x, self._positions * tf.reduce_sum(log_scale)

    def _observe(self, y):
        """Statistics of the (global) batch; moves the running averages."""
        axes = list(range(y.shape.rank - 1))
        mean, variance = tf.nn.moments(y, axes)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            # Replicas may have different numbers of examples, and some none at all.
            total = tf.distribute.ReduceOp.SUM
            n = tf.cast(tf.reduce_prod(tf.shape(y)[:-1]), y.dtype)
            n, sums = replica.all_reduce(total, [n, tf.reduce_sum(y, axes)])
            mean = sums / n
            squares = tf.reduce_sum(tf.math.squared_difference(y, mean), axes)
            variance = replica.all_reduce(total, squares) / n
        if recomputing():
            return mean, variance
        self._batch_mean.assign(mean)
        self._batch_variance.assign(variance)
        for average, new in (
            (self._moving_mean, mean),
            (self._moving_variance, variance),
        ):
            average.assign(self._momentum * average + (1 - self._momentum) * new)
        return mean, variance
