"""What splines share: bins of learned widths and heights, and the line outside."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.transformers.transformer import Transformer, as_rows

__all__ = [
    "Spline",
    "end_slopes",
    "select",
    "slope_of",
    "zero_or_nan",
]


class Spline(Transformer):
    """A function in pieces on $[-B, B]$, and the identity outside.

    Args:
      bins: $K$, the number of pieces, at least 2.
      bound: $B$, positive.
      min_bin: least width and height of a bin, as a share of $2B$.

    Raises:
      ValueError: if `bins` is below 2, `bound` not positive, or `min_bin` outside (0,
        1 / bins).
      TypeError: if one of them is not a number, or `bins` not an integer.
    """

    def __init__(self, bins: int, bound: float, min_bin: float):
        self.bins = check_integer("bins", bins, at_least=2)
        self.bound = check_number("bound", bound, above=0)
        self.min_bin = check_number("min_bin", min_bin, above=0, below=1 / self.bins)

    def _bin(self, value, parameters, known):
        """Where the bin of each value begins, its size, and what its curve depends on.

        See `_find`.

        Returns:
          Two pairs of x and y; and a tuple of tensors. All are `[..., n]`.
        """
        raise NotImplementedError

    def _curve(self, t, s, *curve):
        """The share of the height below the curve, and the spline's log-slope.

        Args:
          t: share of the bin's width, in [0, 1].
          s: slope of the bin, its height over its width.
          *curve: what `_bin` gives.
        """
        raise NotImplementedError

    def _inverse_curve(self, u, s, *curve):
        """The `t` where `_curve` is at a share `u` of the height, and its log-slope."""
        raise NotImplementedError

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        inside, safe = self._inside(x)
        (x_k, y_k), (w, h), curve = self._bin(safe, parameters, 0)
        t = _to_unit((safe + self.bound - x_k) / w)
        share, log_slope = self._curve(t, h / w, *curve)
        y = tf.where(inside, y_k + h * share - self.bound, x)
        return y, tf.where(inside, log_slope, zero_or_nan(x))

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        inside, safe = self._inside(y)
        (x_k, y_k), (w, h), curve = self._bin(safe, parameters, 1)
        u = _to_unit((safe + self.bound - y_k) / h)
        t, log_slope = self._inverse_curve(u, h / w, *curve)
        x = tf.where(inside, x_k + w * t - self.bound, y)
        return x, tf.where(inside, -log_slope, zero_or_nan(y))

    def _inside(self, x):
        """Which entries are within the bound, and `x` with 0 for all others."""
        inside = (x >= -self.bound) & (x <= self.bound)
        return inside, tf.where(inside, x, 0.0)

    def _find(self, value, sizes, known, around=(0,)):
        """The bin that holds each value.

        The ends of all bins along the known axis are computed and compared with the
        value. Of all other parameters, a mask selects those of its bin first, so that
        only these are transformed.

        Args:
          value: `[..., n]`.
          sizes: raw widths, then raw heights, `[..., 2K, n]`.
          known: 0 if `value` is x, 1 if it is y.
          around: which bins' sizes are returned, counted from the one that holds the
            value; beyond the first and the last bin, sizes are 0.

        Returns:
          Where the bin begins, counted from $-B$, a pair of x and y, each `[..., n]`; a
          list of such pairs of sizes; and a mask `[..., K, n]`, which is 1 at the bin.
        """
        sizes = as_rows(sizes, 2, self.bins)
        sizes = tf.exp(sizes - tf.stop_gradient(tf.reduce_max(sizes, -2, True)))
        total = tf.reduce_sum(sizes, -2)
        # A size of min_bin + (1 - K min_bin) softmax, times 2B, is this times `scale`.
        share = 1 - self.bins * self.min_bin
        sizes += tf.expand_dims(self.min_bin / share * total, -2)
        scale = 2 * self.bound * share / total
        position = (value + self.bound) / tf.unstack(scale, axis=-2)[known]
        above, end = [], 0.0
        for size in tf.unstack(tf.unstack(sizes, axis=-3)[known], axis=-2)[:-1]:
            end += size
            above.append(position >= end)
        yes = tf.ones_like(above[0])
        here = [a & ~b for a, b in zip([yes, *above], [*above, ~yes], strict=True)]
        above, here = (
            tf.cast(tf.stack(mask, -2), value.dtype) for mask in ([*above, ~yes], here)
        )
        begin = scale * tf.reduce_sum(sizes * tf.expand_dims(above, -3), -2)
        mask = tf.expand_dims(here, -3)
        found = [
            tf.unstack(scale * select(sizes, mask, offset), axis=-2)
            for offset in around
        ]
        return tf.unstack(begin, axis=-2), found, here


def select(values: tf.Tensor, here: tf.Tensor, offset: int = 0) -> tf.Tensor:
    """The one of `values` `[..., K, n]` where a mask is 1, or one beside it.

    Args:
      values: `[..., K, n]`.
      here: the mask, of this shape.
      offset: 1 for the next one, -1 for the one before; 0 beyond the ends.

    Returns:
      Tensor `[..., n]`.
    """
    if offset > 0:
        values, here = values[..., offset:, :], here[..., :-offset, :]
    elif offset < 0:
        values, here = values[..., :offset, :], here[..., -offset:, :]
    return tf.reduce_sum(values * here, -2)


def end_slopes(
    slopes: tf.Tensor, here: tf.Tensor, min_slope: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The slopes at the left and right end of a bin.

    Args:
      slopes: raw slopes between bins, `[..., K - 1, n]`. At both ends of the line
        nothing is added: a raw slope of 0 means 1.
      here: the mask of the bin, `[..., K, n]`.
      min_slope: see `slope_of`.

    Returns:
      Two tensors `[..., n]`.
    """
    ends = here[..., 1:, :], here[..., :-1, :]
    raw = tf.stack([select(slopes, end) for end in ends])
    return tuple(tf.unstack(slope_of(raw, min_slope)))


def slope_of(raw: tf.Tensor, min_slope: float) -> tf.Tensor:
    """A slope above `min_slope`, which is 1 at a raw number of 0."""
    offset = math.log(math.expm1(1.0 - min_slope))
    return min_slope + tf.nn.softplus(raw + offset)


def zero_or_nan(x: tf.Tensor) -> tf.Tensor:
    """Log-slope of the identity: 0, or NaN at NaN."""
    x = tf.stop_gradient(x)
    return tf.where(tf.math.is_nan(x), x, tf.zeros([], x.dtype))


def _to_unit(t: tf.Tensor) -> tf.Tensor:
    """Clips `t`, which may be outside [0, 1] by rounding, and keeps its gradient."""
    return t + tf.stop_gradient(tf.clip_by_value(t, 0.0, 1.0) - t)
