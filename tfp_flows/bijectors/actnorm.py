"""Activation normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_number, check_shape
from tfp_flows.core.shapes import positions_and_channels
from tfp_flows.core.starts_from_data import StartsFromData

__all__ = ["ActNorm"]


class ActNorm(StartsFromData):
    r"""A learned shift and positive scale for each channel.

    $$ y = e^{s} \odot x + b, \qquad
       \log|\det \partial y / \partial x| = n \sum_c s_c, $$

    with $n$ the number of positions (height times width of an image; 1 for a vector).
    `initialize` sets $b$ and $e^{s}$ to the mean and the standard deviation of each
    channel of one batch of data. Then `inverse` maps this batch to zero mean and unit
    variance (Kingma & Dhariwal 2018, section 3.1; their scale is $e^{-s}$, and their
    bias $-b$). Before, the bijector is the identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> actnorm = bijectors.ActNorm([1])
      >>> actnorm.initialize(tf.constant([[1.0], [3.0]])).numpy().round(3)
      array([[-1.], [ 1.]], dtype=float32)
      >>> actnorm.shift.numpy()
      array([2.], dtype=float32)

    Args:
      event_shape: `[..., C]`; the last axis is the channel.
      epsilon: added to the variance at initialisation, in squared units of the data.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` has no channel, or `epsilon` is not positive.
      TypeError: if a size is not an integer.
    """

    papers = ("kingma2018glow",)

    _fast_paths = frozenset({"untaped"})
    _free_arguments = frozenset({"epsilon"})

    def __init__(
        self,
        event_shape: Sequence[int],
        epsilon: float = 1e-6,
        dtype: Any = tf.float32,
        name: str = "actnorm",
    ):
        parameters = dict(locals())
        dtype = tf.as_dtype(dtype)
        event_shape = check_shape("event_shape", event_shape)
        self._positions, channels = positions_and_channels(event_shape)
        self._epsilon = check_number("epsilon", epsilon, above=0)
        # One variable for both, since an optimiser's step costs operations for each.
        self._shift_and_log_scale = self._add_variable(
            "shift_and_log_scale", tf.zeros([2, channels], dtype)
        )
        self._add_start()
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def shift(self) -> tf.Tensor:
        """$b$, of shape `[C]`."""
        return tf.unstack(self._shift_and_log_scale)[0]

    @property
    def log_scale(self) -> tf.Tensor:
        """$s$, of shape `[C]`, in nats."""
        return tf.unstack(self._shift_and_log_scale)[1]

    def _is_increasing(self, **_):
        return True

    def _forward_and_log_det(self, x):
        shift, log_scale = tf.unstack(self._shift_and_log_scale)
        return x * tf.exp(log_scale) + shift, self._positions * tf.reduce_sum(log_scale)

    def _inverse_and_log_det(self, y):
        shift, log_scale = tf.unstack(self._shift_and_log_scale)
        x = (y - shift) * tf.exp(-log_scale)
        return x, -self._positions * tf.reduce_sum(log_scale)

    def _set_from(self, y):
        axes = list(range(y.shape.rank - 1))
        mean, variance = tf.nn.moments(y, axes)
        # A constant channel keeps its scale: several ActNorms in a row would each
        # enlarge whatever training adds to it.
        varies = tf.reduce_min(y, axes) < tf.reduce_max(y, axes)
        log_scale = 0.5 * tf.math.log(variance + self._epsilon)
        log_scale = tf.where(varies, log_scale, tf.zeros_like(log_scale))
        self._shift_and_log_scale.assign(tf.stack([mean, log_scale]))
