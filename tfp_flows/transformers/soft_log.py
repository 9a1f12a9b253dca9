"""Logarithmic tails."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.transformers.bounds import smooth_bound
from tfp_flows.transformers.transformer import Transformer

__all__ = ["SoftLog"]


class SoftLog(Transformer):
    r"""The identity up to a threshold, and a logarithm beyond it.

    $$ y = \operatorname{sign}(x) \left(\min(|x|, \tau) +
       \log(1 + \max(|x| - \tau, 0))\right) $$

    (Andrade 2024, the log soft extension, LOFT.) At the end of a flow it keeps its
    samples within a reasonable range, and with them the gradients of a variational
    objective. Nothing is bounded: the inverse, $e^{|y| - \tau} - 1 + \tau$ beyond the
    threshold, is beyond the largest number of single precision at $\tau + 89$, and
    returns infinity there. So densities of data want it the other way round, by
    `Inverted`, or a threshold beyond all data.

    The one parameter is the raw logarithm of $\tau$ over the given threshold, bounded
    by 2. If it is zero, the function is the identity up to that threshold.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> y, log_det = transformers.SoftLog(10.0).forward_and_log_det(
      ...     tf.constant([-3.0, 1e6]), tf.zeros([1, 2]))
      >>> [round(float(v), 3) for v in y]
      [-3.0, 23.816]

    Args:
      threshold: $\tau$ at a parameter of zero, positive; the paper's is 100.

    Raises:
      ValueError: if `threshold` is not positive.
      TypeError: if it is not a number.
    """

    papers = ("andrade2024loft",)

    def __init__(self, threshold: float = 100.0):
        self.threshold = check_number("threshold", threshold, above=0)
        self.num_parameters = 1

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        near = self._near(x, parameters)
        beyond = tf.math.log1p(tf.abs(x - near))
        return near + tf.sign(x) * beyond, -beyond

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        near = self._near(y, parameters)
        beyond = tf.abs(y - near)
        return near + tf.sign(y) * tf.math.expm1(beyond), beyond

    def _near(self, x, parameters):
        """The nearest number within the threshold."""
        threshold = self.threshold * tf.exp(smooth_bound(parameters, 2.0))
        threshold = tf.squeeze(threshold, -2) + tf.zeros_like(x)
        return tf.clip_by_value(x, -threshold, threshold)

    def __repr__(self):
        return f"SoftLog(threshold={self.threshold})"
