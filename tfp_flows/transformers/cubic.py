"""Cubic splines."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.core.roots import monotone_root
from tfp_flows.transformers.spline import Spline

__all__ = ["Cubic"]


class Cubic(Spline):
    r"""A monotonic spline of cubic pieces on $[-B, B]$.

    In a bin whose slopes at the ends, relative to the bin's own, are $\delta_0$ and
    $\delta_1$, the share of the height below the curve is

    $$ u = \delta_0\, t (1 - t)^2 + t^2 (3 - 2 t) - \delta_1\, t^2 (1 - t) $$

    (Durkan et al. 2019, "Cubic-Spline Flows".) Slopes are no parameters: between two
    bins of widths $w_k$ and own slopes $s_k$ they are $\min(2 s_{k-1}, 2 s_k,
    (s_{k-1} w_k + s_k w_{k-1}) / (w_{k-1} + w_k))$, which keeps the spline monotonic
    (Steffen 1990). Here the slope at both ends of the interval is that of the identity
    outside, 1, unless a bin there is flatter than 1/3: then it is three times the
    bin's. The inverse is found by Newton's method; its derivatives come from the
    implicit function theorem.

    The $2K$ parameters are raw widths and heights, whose softmaxes count. If all are
    zero, the function is the identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> spline = transformers.Cubic(bins=4, bound=2.0)
      >>> x = tf.constant([-1.0, 0.5, 3.0])
      >>> y, log_det = spline.forward_and_log_det(
      ...     x, tf.ones([spline.num_parameters, 3]))
      >>> float(y[2]), float(log_det[2])
      (3.0, 0.0)

    Args:
      bins: $K$, the number of pieces, at least 2.
      bound: $B$.
      min_bin: least width and height of a bin, as a share of $2B$.

    Raises:
      ValueError: if `bins` is below 2, `bound` not positive, or `min_bin` outside (0, 1
        / bins).
      TypeError: if one of them is not a number, or `bins` not an integer.
    """

    papers = ("durkan2019cubic",)

    has_direct_inverse = False

    def __init__(self, bins: int = 8, bound: float = 3.0, min_bin: float = 1e-3):
        super().__init__(bins, bound, min_bin)
        self.num_parameters = 2 * self.bins

    def _curve(self, t, s, left, right):
        share, slope = _evaluate(t, left, right)
        return share, tf.math.log(slope * s)

    def _inverse_curve(self, u, s, left, right):
        t = monotone_root(
            lambda t: _evaluate(t, left, right), u, tf.zeros_like(u), tf.ones_like(u)
        )
        return t, self._curve(t, s, left, right)[1]

    def _bin(self, value, parameters, known):
        """Where the bin of a value begins, its size, relative slopes at its ends."""
        begin, around, _ = self._find(value, parameters, known, (-1, 0, 1))
        before, size, after = around
        w, h = size
        slope = h / w

        def end(beside):
            """The slope beside another bin, or at an end of the interval."""
            is_end = tf.equal(beside[0], 0)
            width, height = (tf.where(is_end, tf.ones_like(w), b) for b in beside)
            other = height / width
            mean = (other * w + slope * width) / (width + w)
            between = tf.minimum(2 * tf.minimum(other, slope), mean)
            return tf.where(is_end, tf.minimum(3 * slope, 1.0), between) / slope

        return begin, size, (end(before), end(after))

    def __repr__(self):
        return (
            f"Cubic(bins={self.bins}, bound={self.bound:.6g}, min_bin={self.min_bin})"
        )


def _evaluate(t, left, right):
    """The share of the bin's height below the curve, and its slope, at `t`."""
    rest = 1 - t
    share = t * (left * tf.square(rest) + t * (3 - 2 * t - right * rest))
    slope = left * rest * (1 - 3 * t) + t * (6 * rest + right * (3 * t - 2))
    return share, slope
