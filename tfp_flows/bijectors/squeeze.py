"""Reshapes blocks of pixels into channels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event

__all__ = ["Squeeze"]


class Squeeze(JointBijector):
    r"""Turns each block of factor x factor pixels into channels of one pixel.

    `forward` maps `[H, W, C]` to `[H / factor, W / factor, factor^2 C]`: channel
    $(i \cdot factor + j) C + c$ holds channel $c$ of the pixel in row $i$ and column
    $j$ of the block. The log-determinant is zero (Dinh et al. 2017, section 3.6 and
    figure 3). Flows use `tfb.Invert(Squeeze(2))`, since their `forward` goes from noise
    to data.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> bijectors.Squeeze(2).forward(tf.zeros([4, 6, 1])).shape
      TensorShape([2, 3, 4])

    Args:
      factor: side of a block.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `factor` is less than 2, or (when applied) does not divide height
        and width, or its square the channels.
      TypeError: if `factor` is not an integer.
    """

    papers = ("dinh2017real_nvp",)

    _fast_paths = frozenset({"untaped"})

    def __init__(self, factor: int = 2, dtype: Any = None, name: str = "squeeze"):
        parameters = dict(locals())
        self._factor = check_integer("factor", factor, at_least=2)
        super().__init__(
            forward_min_event_ndims=3,
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def factor(self) -> int:
        """Side of a block."""
        return self._factor

    @property
    def _is_permutation(self):
        return True

    def _forward_event_shape(self, shape):
        if shape.rank is None:
            return shape
        *batch, height, width, channels = shape.as_list()
        f = self._factor
        return tf.TensorShape(
            [
                *batch,
                self._divide(height, f, "height"),
                self._divide(width, f, "width"),
                None if channels is None else channels * f * f,
            ]
        )

    def _inverse_event_shape(self, shape):
        if shape.rank is None:
            return shape
        *batch, height, width, channels = shape.as_list()
        f = self._factor
        return tf.TensorShape(
            [
                *batch,
                None if height is None else height * f,
                None if width is None else width * f,
                self._divide(channels, f * f, "number of channels"),
            ]
        )

    def _divide(self, size, by, what):
        if size is None:
            return None
        if size % by:
            raise ValueError(
                f"{self.name}: the {what} must be divisible by {by}, got {size}. Pad "
                "or crop the images, or use fewer levels."
            )
        return size // by

    def _forward_and_log_det(self, x):
        *_, height, width, channels = self._forward_event_shape(x.shape)
        f = self._factor
        blocks = (height, f, width, f, x.shape[-1])
        return _shuffle(x, blocks, (height, width, channels)), tf.zeros([], x.dtype)

    def _inverse_and_log_det(self, y):
        *_, height, width, channels = self._inverse_event_shape(y.shape)
        f = self._factor
        blocks = (y.shape[-3], y.shape[-2], f, f, channels)
        return _shuffle(y, blocks, (height, width, channels)), tf.zeros([], y.dtype)


def _shuffle(x, blocks, event):
    """Reshapes events to five axes, swaps two of them, and reshapes to `event`."""
    if None in blocks:
        raise ValueError(f"squeeze needs a static event shape, got {x.shape[-3:]}.")
    rank = x.shape.rank - 3
    # Rows and columns of a block stand at 1 and 3 (squeeze) or at 2 and 3 (its
    # inverse); both orders are undone by swapping axes 1 and 2.
    x = reshape_event(x, 3, blocks)
    order = [*range(rank), *(rank + i for i in (0, 2, 1, 3, 4))]
    return reshape_event(tf.transpose(x, order), 5, event)
