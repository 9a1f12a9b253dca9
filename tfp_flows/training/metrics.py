"""Metrics of log-densities. They tell Keras's callbacks that lower is better."""

from __future__ import annotations

import math
from typing import Any

import keras

from tfp_flows.core.keras_internals import set_direction

__all__ = ["BitsPerDim", "NegativeLogLikelihood"]


class _OfLogDensities(keras.metrics.Mean):
    """The weighted mean of a quantity that is better if it is lower."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # For `EarlyStopping("val_nll")` and its like.
        set_direction(self, "down")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds examples; `y_pred` are log-densities, `y_true` is not used."""
        return super().update_state(y_pred * -self._unit(), sample_weight)

    def _unit(self) -> float:
        return 1.0

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="tfp_flows")
class NegativeLogLikelihood(_OfLogDensities):
    """The mean of `-log_prob`, in nats per example.

    Example:
      >>> import tensorflow as tf
      >>> nll = NegativeLogLikelihood()
      >>> nll.update_state(None, tf.constant([-1.0, -3.0]))
      >>> float(nll.result())
      2.0

    Args:
      name: name of the metric.
      dtype: dtype of the mean.
    """

    def __init__(self, name: str = "nll", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)


@keras.saving.register_keras_serializable(package="tfp_flows")
class BitsPerDim(_OfLogDensities):
    r"""The mean of $-\log_2 p(x) / D$, in bits per dimension.

    Example:
      >>> import tensorflow as tf
      >>> bits = BitsPerDim(size=2)
      >>> bits.update_state(None, tf.math.log([0.25, 0.0625]))
      >>> round(float(bits.result()), 4)
      1.5

    Args:
      size: number $D$ of the entries of an example.
      name: name of the metric.
      dtype: dtype of the mean.
    """

    def __init__(self, size: int, name: str = "bits_per_dim", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.size = size

    def _unit(self):
        return 1.0 / (self.size * math.log(2.0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}
