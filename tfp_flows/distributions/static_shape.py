"""The base class of distributions whose shapes are known at construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.tracked import Tracked

__all__ = ["StaticShape"]


class StaticShape(Tracked):
    """A distribution whose event shape and batch shape are plain integers.

    A subclass implements `_log_prob`, `_call_sample_n` and the moments it has.

    Args:
      event_shape: shape of the event.
      batch_shape: shape of the batch.
      dtype: dtype of values.
      reparameterization_type: `tfd.FULLY_REPARAMETERIZED` or another.
      parameters: the arguments of the subclass's constructor (`dict(locals())`), from
        which `copy` builds another one.
      name: name of the distribution.
    """

    def __init__(
        self,
        *,
        event_shape: Sequence[int],
        batch_shape: Sequence[int] = (),
        dtype: Any,
        reparameterization_type: tfd.ReparameterizationType,
        parameters: Mapping[str, Any],
        name: str,
    ):
        self._static_event_shape = tf.TensorShape(event_shape)
        self._static_batch_shape = tf.TensorShape(batch_shape)
        super().__init__(
            dtype=tf.as_dtype(dtype),
            reparameterization_type=reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters={
                k: v for k, v in parameters.items() if k not in ("self", "__class__")
            },
            name=name,
        )

    @classmethod
    def parameter_properties(
        cls, dtype: Any = tf.float32, num_classes: int | None = None
    ) -> dict[str, Any]:
        """None: TFP may not slice or broadcast any argument."""
        return {}

    def _event_shape(self):
        return self._static_event_shape

    def _event_shape_tensor(self):
        return tf.constant(self._static_event_shape.as_list(), tf.int32)

    def _batch_shape(self):
        return self._static_batch_shape

    def _batch_shape_tensor(self):
        return tf.constant(self._static_batch_shape.as_list(), tf.int32)
