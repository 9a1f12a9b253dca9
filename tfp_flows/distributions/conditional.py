"""Base distributions that depend on a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.shapes import broadcast_context

tfd = tfp.distributions

__all__ = ["Conditional"]


class Conditional(tfd.Distribution):
    """A distribution whose parameters are computed from a context.

    `log_prob`, `sample`, `mean`, `stddev` and the like take `context`, `[*batch,
    *context_shape]`. The batch of `log_prob` is what that of the value and that of the
    context broadcast to; a sample is `[*sample_shape, *batch, *event_shape]`.

    As the base of a `Flow`, it gets the context of the flow; the bijector may take the
    same one, or none.

    Args:
      function: maps contexts `[*batch, *context_shape]` to a distribution of batch
        shape `batch` and event shape `event_shape`. Its variables are seen if it is a
        `tf.Module`; a Keras layer inside one belongs into a
        `tfp_flows.core.conditioner.Conditioner`.
      event_shape: shape of the event.
      context_shape: shape of one context.
      dtype: dtype of values.
      validate_args: kept for TFP.
      name: name of the distribution.

    Raises:
      TypeError: if `function` does not return a TFP distribution.
      ValueError: if that has another event shape, or another batch than the contexts'.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tfd.Distribution],
        event_shape: Sequence[int],
        context_shape: Sequence[int],
        dtype: Any = tf.float32,
        validate_args: bool = False,
        name: str = "conditional",
    ):
        parameters = dict(locals())
        self._function = function
        self._event = tuple(map(int, event_shape))
        self._context_shape = tuple(map(int, context_shape))
        dtype = tf.as_dtype(dtype)
        with tf.init_scope():
            one = function(tf.zeros((1, *self._context_shape), dtype))
        if not isinstance(one, tfd.Distribution):
            raise TypeError(
                f"function must return a TFP distribution, got {type(one).__name__}."
            )
        found = tuple(one.batch_shape), tuple(one.event_shape)
        if found != ((1,), self._event):
            raise ValueError(
                "function must return a distribution with the batch shape of the "
                f"context and event shape {self._event}; of batch shape (1,) it made "
                f"{found[0]}, and event shape {found[1]}."
            )
        super().__init__(
            dtype=dtype,
            reparameterization_type=one.reparameterization_type,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters={
                k: v for k, v in parameters.items() if k not in ("self", "__class__")
            },
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}

    @property
    def context_shape(self) -> tuple[int, ...]:
        """Shape of one context."""
        return self._context_shape

    def given(self, context: Any) -> tfd.Distribution:
        """The distribution under contexts `[*batch, *context_shape]`.

        Raises:
          ValueError: if the context is missing or of a wrong shape.
        """
        # Broadcasting with one number checks, and converts, the context alone.
        _, context = self._broadcast(tf.zeros([], self.dtype), 0, context)
        return self._function(context)

    def _broadcast(self, value, ndims, context):
        return broadcast_context(value, ndims, context, self._context_shape, self.name)

    def _log_prob(self, value, context=None):
        value, context = self._broadcast(value, len(self._event), context)
        return self._function(context).log_prob(value)

    def _call_sample_n(self, sample_shape, seed, context=None, **_):
        return self.given(context).sample(sample_shape, seed)

    def _mean(self, context=None):
        return self.given(context).mean()

    def _mode(self, context=None):
        return self.given(context).mode()

    def _stddev(self, context=None):
        return self.given(context).stddev()

    def _variance(self, context=None):
        return self.given(context).variance()

    def _entropy(self, context=None):
        return self.given(context).entropy()

    def _event_shape(self):
        return tf.TensorShape(self._event)

    def _event_shape_tensor(self):
        return tf.constant(self._event, tf.int32)

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.zeros([0], tf.int32)
