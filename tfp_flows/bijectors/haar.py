"""Haar wavelets: averages and differences of blocks of pixels as channels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.bijectors.squeeze import Squeeze

__all__ = ["Haar"]


class Haar(Squeeze):
    r"""Turns each block of 2x2 pixels into its average and its differences.

    `forward` maps `[H, W, C]` to `[H / 2, W / 2, 4 C]`, as `Squeeze(2)` does. Of a
    block with the rows $a, b$ and $c, d$, the four groups of $C$ channels are

    $$ \tfrac12 (a + b + c + d), \quad \tfrac12 (a - b + c - d), \quad
       \tfrac12 (a + b - c - d), \quad \tfrac12 (a - b - c + d): $$

    the average, and the differences between columns, between rows, and along the
    diagonal (Ardizzone et al. 2019, "Guided Image Generation with Conditional
    Invertible Neural Networks"). The matrix is orthogonal and symmetric,
    so that noise stays noise and the log-determinant is zero. Unlike a squeeze, it
    keeps an image that has half the resolution together, and what lets channels leave
    can let details leave. Flows use `tfb.Invert(Haar())`, since their `forward` goes
    from noise to data.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> bijectors.Haar().forward(tf.ones([2, 2, 1])).numpy().tolist()
      [[[2.0, 0.0, 0.0, 0.0]]]

    Args:
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: (when applied) if 2 does not divide height and width, or 4 the
        channels.
    """

    papers = ("ardizzone2019guided",)

    _fast_paths = frozenset({"untaped"})

    def __init__(self, dtype: Any = None, name: str = "haar"):
        parameters = dict(locals())
        super().__init__(2, dtype, name)
        self._set_parameters(parameters)

    @property
    def _is_permutation(self):
        return False

    def _forward_and_log_det(self, x):
        pixels, log_det = super()._forward_and_log_det(x)
        return _mix(pixels), log_det

    def _inverse_and_log_det(self, y):
        self._inverse_event_shape(y.shape)  # An error where channels do not suit.
        return super()._inverse_and_log_det(_mix(y))


def _mix(x: tf.Tensor) -> tf.Tensor:
    """The four pixels of blocks as averages and differences, or the way back."""
    a, b, c, d = tf.split(0.5 * x, 4, axis=-1)
    return tf.concat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], -1)
