"""Batch normalisation as a bijector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_number, check_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.recompute import recomputing
from tfp_flows.core.shapes import positions_and_channels

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
    * `inverse(y, training=True)`: they are those of the batch, and gradients go through
      them. The call also updates the running averages. Under `tf.distribute` they are
      those of the global batch.
    * `forward(x, training=True)` is an error: a batch of noise does not determine the
      statistics of the data. Samples use the running averages, also while training.

    In both modes, the log-determinant above treats $\mu$ and $v$ as constants. With
    `training=True`, the result for an event depends on the other events of the batch,
    so `forward` does not exactly undo `inverse`.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> norm = bijectors.BatchNorm([1], momentum=0.0)
      >>> norm.inverse(tf.constant([[1.0], [3.0]]), training=True).numpy().round(3)
      array([[-1.], [ 1.]], dtype=float32)
      >>> norm.forward(tf.constant([[0.0]])).numpy()
      array([[2.]], dtype=float32)

    Args:
      event_shape: `[..., C]`; the last axis is the channel.
      momentum: weight of the old running average in [0, 1); the first averages are
        means of all batches so far. Later they lag by about `1 / (1 - momentum)` steps
        behind a flow that changes. In a deep stack the lags multiply: samples and
        densities use averages, and are far off where these are.
      epsilon: added to the variance.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` has no channel, `momentum` is outside [0, 1),
        `epsilon` not positive, or `forward` is called with `training=True`.
      TypeError: if a size is not an integer.
    """

    papers = ("dinh2017real_nvp",)

    _fast_paths = frozenset({"untaped"})
    _free_arguments = frozenset({"epsilon", "momentum"})
    # It changes how averages are estimated, not what they mean.
    _estimation_arguments = frozenset({"momentum"})

    _has_training_mode = True
    # The output does not determine the batch's statistics.
    has_direct_inverse = False

    def __init__(
        self,
        event_shape: Sequence[int],
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        dtype: Any = tf.float32,
        name: str = "batch_norm",
    ):
        parameters = dict(locals())
        self._momentum = check_number("momentum", momentum, at_least=0, below=1)
        self._epsilon = check_number("epsilon", epsilon, above=0)
        dtype = tf.as_dtype(dtype)
        event_shape = check_shape("event_shape", event_shape)
        self._positions, channels = positions_and_channels(event_shape)
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
        zero = tf.zeros([], dtype)
        self._updates = add("updates", zero, **statistics)
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
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

    def _is_increasing(self, **_):
        return True

    def _forward_and_log_det(self, x, training=False):
        if training:
            raise ValueError(
                f"{self.name}: forward has no training mode, since only data have the "
                "statistics of a batch. Leave training out: samples are made with the "
                "running averages, also while training."
            )
        log_scale = self._log_scale_of(self._moving_variance)
        y = (x - self._shift) * tf.exp(-log_scale) + self._moving_mean
        return y, -self._positions * tf.reduce_sum(log_scale)

    def _inverse_and_log_det(self, y, training=False):
        mean, variance = (
            self._observe(y) if training else (self._moving_mean, self._moving_variance)
        )
        log_scale = self._log_scale_of(variance)
        x = (y - mean) * tf.exp(log_scale) + self._shift
        return x, self._positions * tf.reduce_sum(log_scale)

    def _log_scale_of(self, variance):
        return self._log_scale - 0.5 * tf.math.log(variance + self._epsilon)

    def _observe(self, y):
        """Statistics of the (global) batch; also updates the running averages."""
        axes = list(range(y.shape.rank - 1))
        # Not `tf.nn.moments`, whose second derivatives are wrong.
        mean = tf.reduce_mean(y, axes)
        variance = tf.reduce_mean(tf.math.squared_difference(y, mean), axes)
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
        updates = self._updates + 1
        # The first batch replaces the 0 and 1 that were there before any data: what is
        # left of these in each layer of a deep stack would multiply.
        share = tf.maximum(tf.constant(1 - self._momentum, y.dtype), 1 / updates)
        for average, new in (
            (self._moving_mean, mean),
            (self._moving_variance, variance),
        ):
            average.assign(average + share * (new - average))
        self._updates.assign(updates)
        return mean, variance
