"""Rational-quadratic splines."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.transformers.spline import (
    Spline,
    end_slopes,
    select,
    slope_of,
)

__all__ = ["RationalQuadratic"]


class RationalQuadratic(Spline):
    r"""A monotonic spline of rational-quadratic pieces on $[-B, B]$.

    With the bin $[x_k, x_{k+1}]$ that holds $x$, its width $w$ and height $h$, the
    slopes $\delta_k, \delta_{k+1}$ at its ends, $s = h / w$ and $t = (x - x_k) / w$:

    $$ y = y_k + \frac{h\,(s t^2 + \delta_k t (1 - t))}{q}, \qquad
       \frac{dy}{dx} = \frac{s^2}{q^2}
       \left(\delta_{k+1} t^2 + 2 s t (1 - t) + \delta_k (1 - t)^2\right), \qquad
       q = s + (\delta_k + \delta_{k+1} - 2 s)\, t (1 - t) $$

    (Durkan et al. 2019, "Neural Spline Flows", equations 4 and 5; the inverse is a
    root of a quadratic, equations 6 to 8.) Widths and heights are softmaxes of raw
    parameters, slopes are softpluses. Outside $[-B, B]$ the function is the identity,
    and the slopes at both ends are 1.

    **Angles.** With `circular=True`, numbers are points of a circle of circumference
    $2B$. Both ends share one learned slope, and a learned phase is added to the result,
    so that no point is fixed (Rezende et al. 2020, section 2.1). Numbers outside
    $[-B, B)$ are wrapped into it, and results are inside. The noise should be uniform
    on the circle, and networks should get the sine and cosine of an angle.

    The $3K - 1$ parameters are the raw widths, heights and inner slopes. A circle has
    two more: the slope at the ends and the phase. If all are zero, the function is the
    identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> spline = transformers.RationalQuadratic(bins=4, bound=2.0)
      >>> x = tf.constant([-1.0, 0.5, 3.0])
      >>> y, log_det = spline.forward_and_log_det(
      ...     x, tf.ones([spline.num_parameters, 3]))
      >>> float(y[2]), float(log_det[2])
      (3.0, 0.0)

    Args:
      bins: $K$, the number of pieces, at least 2.
      bound: $B$; 3 unless given, on a circle $\pi$.
      min_bin: least width and height of a bin, as a share of $2B$.
      min_slope: least slope at the ends of a bin, in (0, 1).
      circular: whether numbers are angles.

    Raises:
      ValueError: if `bins` is below 2, `bound` not positive, `min_bin` outside (0, 1 /
        bins), or `min_slope` outside (0, 1).
      TypeError: if one of them is not a number, or `bins` not an integer.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        return ("durkan2019spline", *["rezende2020tori"] * self.circular)

    def __init__(
        self,
        bins: int = 8,
        bound: float | None = None,
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
        circular: bool = False,
    ):
        if bound is None:
            bound = math.pi if circular else 3.0
        super().__init__(bins, bound, min_bin)
        self.min_slope = check_number("min_slope", min_slope, above=0, below=1)
        self.circular = bool(circular)
        # On a circle, numbers jump from B to -B where it is cut.
        self.is_increasing = not self.circular
        self.num_parameters = 3 * self.bins + (1 if circular else -1)

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.circular:
            return super().forward_and_log_det(x, parameters)
        parameters, phase = self._split_phase(parameters)
        y, log_det = super().forward_and_log_det(self._wrap(x), parameters)
        return self._wrap(y + phase), log_det

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.circular:
            return super().inverse_and_log_det(y, parameters)
        parameters, phase = self._split_phase(parameters)
        x, log_det = super().inverse_and_log_det(self._wrap(y - phase), parameters)
        return self._wrap(x), log_det

    def _curve(self, t, s, left, right):
        return _evaluate(t, 1 - t, s, left, right)

    def _inverse_curve(self, u, s, left, right):
        t, rest = _solve(u, s, left, right)
        return t, _evaluate(t, rest, s, left, right)[1]

    def _wrap(self, x):
        # `floormod` is exact, so the result is within the bound however large x is.
        return tf.math.floormod(x + self.bound, 2 * self.bound) - self.bound

    def _split_phase(self, parameters):
        rest, phase = tf.split(parameters, [3 * self.bins, 1], -2)
        return rest, tf.squeeze(phase, -2)

    def _bin(self, value, parameters, known):
        k = self.bins
        # Raw slopes between bins; of a circle those at the left ends.
        sizes, slopes = tf.split(parameters, [2 * k, k if self.circular else k - 1], -2)
        begin, (size,), here = self._find(value, sizes, known)
        if not self.circular:
            return begin, size, end_slopes(slopes, here, self.min_slope)
        # A positive axis: `tf.vectorized_map` rolls the wrong one for a negative.
        right = tf.roll(slopes, -1, slopes.shape.rank - 2)
        raw = tf.stack([select(ends, here) for ends in (slopes, right)])
        return begin, size, tf.unstack(slope_of(raw, self.min_slope))

    def __repr__(self):
        return (
            f"RationalQuadratic(bins={self.bins}, bound={self.bound:.6g}, "
            f"min_bin={self.min_bin}, min_slope={self.min_slope}, "
            f"circular={self.circular})"
        )


def _evaluate(t, rest, s, left, right):
    """The share of the bin's height below the curve, and its log-slope, at `t`.

    `rest` is 1 - `t`.
    """
    # Slopes relative to the bin's own: all terms are positive, and nothing cancels.
    left, right = left / s, right / s
    both, squares = t * rest, tf.square(t) + tf.square(rest)
    q = squares + (left + right) * both
    slope = right * tf.square(t) + 2 * both + left * tf.square(rest)
    share = (tf.square(t) + left * both) / q
    return share, tf.math.log(s) + tf.math.log(slope) - 2 * tf.math.log(q)


def _solve(u, s, left, right):
    r"""The `t` in [0, 1] where the curve is at a share `u` of the height, and 1 - `t`.

    In the quadratic $a t^2 + b t + c = 0$, slopes relative to $s$ make $a = 1 - b$ and
    $c = -u$, so that $b^2 - 4ac = (b - 2u)^2 + 4u (1 - u)$, where nothing cancels, and
    $t : (1 - t) = 2u : m$ with $m = b - 2u + \sqrt{b^2 - 4ac}$.
    """
    d = (left * (1 - u) - right * u) / s
    product = 4 * u * (1 - u)
    # A compiler may round `u` to just outside [0, 1].
    root = tf.sqrt(tf.square(d) + tf.maximum(product, 0.0))
    sum_ = root + tf.abs(d)
    m = tf.where(d > 0, sum_, product / sum_)
    return 2 * u / (2 * u + m), m / (2 * u + m)
