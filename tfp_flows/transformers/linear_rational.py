"""Linear-rational splines."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.transformers.spline import Spline, end_slopes, select

__all__ = ["LinearRational"]

# How near to an end of its bin the point may come at which its two pieces meet.
_MARGIN = 0.025


class LinearRational(Spline):
    r"""A monotonic spline of linear-rational pieces on $[-B, B]$, two in each bin.

    In a bin, $t$ goes from 0 to 1, and the share $u$ of the height below the curve does
    too. Both pieces are a ratio of linear functions, and meet at $t = \lambda$:

    $$ u = \frac{m\, u_\lambda\, t}{a (\lambda - t) + m\, t} \quad (t \le \lambda),
       \qquad 1 - u = \frac{m\, (1 - u_\lambda) (1 - t)}
       {b (t - \lambda) + m (1 - t)} \quad (t > \lambda) $$

    (Dolatabadi et al. 2020, "Invertible Generative Modeling using Linear Rational
    Splines", algorithm 1.) The slopes at the ends of the bin, relative to the bin's
    own, are $\delta_0$ and $\delta_1$; the weights are $a = 1$, $b = \sqrt{\delta_0 /
    \delta_1}$ and $m = \lambda a \delta_0 + (1 - \lambda) b \delta_1$, and $u_\lambda =
    \lambda b / ((1 - \lambda) a + \lambda b)$. The inverse is linear-rational, too,
    without the square root of a rational-quadratic one.

    Widths and heights are softmaxes of raw parameters, slopes are softpluses, $\lambda$
    a sigmoid. Outside $[-B, B]$ the function is the identity, and the slopes at both
    ends are 1. The $4K - 1$ parameters are the raw widths, heights, inner slopes and
    $\lambda$. If all are zero, the function is the identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> spline = transformers.LinearRational(bins=4, bound=2.0)
      >>> x = tf.constant([-1.0, 0.5, 3.0])
      >>> y, log_det = spline.forward_and_log_det(
      ...     x, tf.ones([spline.num_parameters, 3]))
      >>> float(y[2]), float(log_det[2])
      (3.0, 0.0)

    Args:
      bins: $K$, the number of pairs of pieces, at least 2.
      bound: $B$.
      min_bin: least width and height of a bin, as a share of $2B$.
      min_slope: least slope at the ends of a bin, in (0, 1).

    Raises:
      ValueError: if `bins` is below 2, `bound` not positive, `min_bin` outside (0, 1 /
        bins), or `min_slope` outside (0, 1).
      TypeError: if one of them is not a number, or `bins` not an integer.
    """

    papers = ("dolatabadi2020rational",)

    def __init__(
        self,
        bins: int = 8,
        bound: float = 3.0,
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
    ):
        super().__init__(bins, bound, min_bin)
        self.min_slope = check_number("min_slope", min_slope, above=0, below=1)
        self.num_parameters = 4 * self.bins - 1

    def _curve(self, t, s, *curve):
        left = t <= curve[0]
        share, log_slope = _evaluate(tf.where(left, t, 1 - t), *_piece(left, *curve))
        return tf.where(left, share, 1 - share), log_slope + tf.math.log(s)

    def _inverse_curve(self, u, s, *curve):
        left = u <= curve[1]
        end, middle, length, height = piece = _piece(left, *curve)
        u = tf.where(left, u, 1 - u)
        t = end * length * u / (middle * (height - u) + end * u)
        _, log_slope = _evaluate(t, *piece)
        return tf.where(left, t, 1 - t), log_slope + tf.math.log(s)

    def _bin(self, value, parameters, known):
        """Where the bin of a value begins, its size, and `(lambda, u_lambda, b, m)`."""
        k = self.bins
        sizes, slopes, meet = tf.split(parameters, [2 * k, k - 1, k], -2)
        begin, ((w, h),), here = self._find(value, sizes, known)
        ends = end_slopes(slopes, here, self.min_slope)
        left, right = (end * (w / h) for end in ends)
        meet = _MARGIN + (1 - 2 * _MARGIN) * tf.sigmoid(select(meet, here))
        b = tf.sqrt(left / right)
        middle = meet * left + (1 - meet) * b * right
        height = meet * b / (1 - meet + meet * b)
        return begin, (w, h), (meet, height, b, middle)

    def __repr__(self):
        return (
            f"LinearRational(bins={self.bins}, bound={self.bound:.6g}, "
            f"min_bin={self.min_bin}, min_slope={self.min_slope})"
        )


def _piece(left, meet, height, b, middle):
    """Of the left or right piece: its weights at the end and where they meet, its size.

    Sizes are shares of the bin's width and height; the right piece is seen from the
    right end.
    """
    return (
        tf.where(left, tf.ones_like(b), b),
        middle,
        tf.where(left, meet, 1 - meet),
        tf.where(left, height, 1 - height),
    )


def _evaluate(t, end, middle, length, height):
    """The share of the bin's height, and the log-slope, at `t` from the piece's end."""
    q = end * (length - t) + middle * t
    slope = tf.math.log(end * middle * length * height) - 2 * tf.math.log(q)
    return middle * height * t / q, slope
