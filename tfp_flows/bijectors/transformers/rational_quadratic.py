"""Rational-quadratic splines."""

from __future__ import annotations

import math

import tensorflow as tf

__all__ = ["RationalQuadratic"]


class RationalQuadratic:
    r"""A monotonic spline of rational-quadratic pieces on $[-B, B]$.

    With the bin $[x_k, x_{k+1}]$ that holds $x$, its width $w$ and height $h$, the
    slopes $\delta_k, \delta_{k+1}$ at its ends, $s = h / w$ and $t = (x - x_k) / w$:

    $$ y = y_k + \frac{h\,(s t^2 + \delta_k t (1 - t))}{q}, \qquad
       \frac{dy}{dx} = \frac{s^2}{q^2}
       \left(\delta_{k+1} t^2 + 2 s t (1 - t) + \delta_k (1 - t)^2\right), \qquad
       q = s + (\delta_k + \delta_{k+1} - 2 s)\, t (1 - t) $$

    (Durkan et al. 2019, "Neural Spline Flows", equations 4 and 5; the inverse is a
    root of a quadratic, equations 6 to 8.) Widths and heights are softmaxes of their
    raw parameters, slopes softplus. Outside $[-B, B]$ the function is the identity, and
    the slopes at both ends are 1.

    **Angles.** With `circular=True` numbers are points of a circle of circumference
    $2B$. Both ends have one learned slope, and a learned phase is added to the result,
    so that no point stays where it is (Rezende et al. 2020, section 2.1). A number
    outside $[-B, B)$ stands for the same point of the circle inside it, and results
    are inside. The noise should be uniform on the circle, and networks that see an
    angle should see its sine and cosine.

    The parameters are the raw widths, heights and inner slopes, and for a circle the
    slope at the ends and the phase: $3K - 1$ of them, or $3K + 1$. Zeros are the
    identity.

    Args:
      bins: $K$, the number of pieces, at least 2.
      bound: $B$; 3 unless given, on a circle $\pi$.
      min_bin: least width and height of a bin, as a share of $2B$.
      min_slope: least slope at the ends of a bin, in (0, 1).
      circular: whether numbers are angles.

    Raises:
      ValueError: if `bins` is below 2, `bound` or `min_bin` not positive, the bins do
        not fit, or `min_slope` is outside (0, 1).
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float | None = None,
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
        circular: bool = False,
    ):
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}.")
        bound = (math.pi if circular else 3.0) if bound is None else float(bound)
        if not 0 < bound < math.inf:
            raise ValueError(f"bound must be positive, got {bound}.")
        if not 0 < min_bin * bins < 1:
            raise ValueError(
                f"min_bin must be positive and below 1 / bins = {1 / bins:.3g}, got "
                f"{min_bin}."
            )
        if not 0 < min_slope < 1:
            raise ValueError(f"min_slope must be in (0, 1), got {min_slope}.")
        self.bins, self.bound = int(bins), bound
        self.min_bin, self.min_slope = float(min_bin), float(min_slope)
        self.circular = bool(circular)
        self.num_parameters = 3 * self.bins + (1 if circular else -1)

    def forward_and_log_det(self, x, parameters):
        knots, phase = self._knots(parameters)
        x = self._wrap(x)
        inside, safe = self._inside(x)
        x_k, w, y_k, h, left, right = _bin(safe, knots[0], *knots)
        t = (safe - x_k) / w
        share, log_det = _evaluate(t, 1 - t, h / w, left, right)
        y = tf.where(inside, y_k + h * share, x)
        return self._wrap(y + phase), tf.where(inside, log_det, 0.0)

    def inverse_and_log_det(self, y, parameters):
        knots, phase = self._knots(parameters)
        y = self._wrap(y - phase)
        inside, safe = self._inside(y)
        x_k, w, y_k, h, left, right = _bin(safe, knots[1], *knots)
        t, rest = _solve((safe - y_k) / h, h / w, left, right)
        _, log_det = _evaluate(t, rest, h / w, left, right)
        x = tf.where(inside, x_k + t * w, y)
        return x, tf.where(inside, -log_det, 0.0)

    def _inside(self, x):
        """Whether entries are within the bound, and values that are in any case."""
        inside = (x >= -self.bound) & (x <= self.bound)
        return inside, tf.where(inside, x, 0.0)

    def _wrap(self, x):
        if not self.circular:
            return x
        # The remainder is exact, and so never outside the bound, however large x is.
        return tf.math.floormod(x + self.bound, 2 * self.bound) - self.bound

    def _knots(self, parameters):
        """`x_k`, `y_k` and slopes `[..., K + 1, n]`, and the phase."""
        k = self.bins
        raw_widths, raw_heights, raw_slopes, phase = tf.split(
            parameters, [k, k, k - 1 + self.circular, int(self.circular)], axis=-2
        )
        offset = math.log(math.expm1(1.0 - self.min_slope))
        slopes = self.min_slope + tf.nn.softplus(raw_slopes + offset)
        ends = slopes[..., :1, :] if self.circular else tf.ones_like(slopes[..., :1, :])
        slopes = slopes[..., 1:, :] if self.circular else slopes
        slopes = tf.concat([ends, slopes, ends], -2)
        knots = self._positions(raw_widths), self._positions(raw_heights), slopes
        return knots, (tf.squeeze(phase, -2) if self.circular else 0.0)

    def _positions(self, raw):
        shares = self.min_bin + (1 - self.bins * self.min_bin) * tf.nn.softmax(raw, -2)
        inner = tf.cumsum(shares[..., :-1, :], -2) * (2 * self.bound) - self.bound
        end = tf.fill(tf.shape(raw[..., :1, :]), tf.cast(self.bound, raw.dtype))
        return tf.concat([-end, inner, end], -2)

    def __repr__(self):
        return (
            f"RationalQuadratic(bins={self.bins}, bound={self.bound:.6g}, "
            f"min_bin={self.min_bin}, min_slope={self.min_slope}, "
            f"circular={self.circular})"
        )


def _bin(value, positions, *knots):
    """The ends of the bin that holds each value: position, size and slopes.

    Args:
      value: `[..., n]`.
      positions: what bins are told apart by, `[..., K + 1, n]`.
      *knots: x, y and slopes, `[..., K + 1, n]`.

    Returns:
      `(x_k, w, y_k, h, slope_k, slope_k+1)`, each `[..., n]`.
    """
    above = value[..., None, :] >= positions[..., 1:-1, :]
    one = tf.ones_like(above[..., :1, :])
    # True for the one bin whose left end is below and whose right end is above.
    here = tf.concat([one, above], -2) & ~tf.concat([above, ~one], -2)
    found = []
    for knot in knots:
        for ends in (knot[..., :-1, :], knot[..., 1:, :]):
            found.append(tf.reduce_sum(tf.where(here, ends, 0.0), -2))
    left_x, right_x, left_y, right_y, left, right = found
    return left_x, right_x - left_x, left_y, right_y - left_y, left, right


def _evaluate(t, rest, s, left, right):
    """Share of the bin's height climbed, and log-slope, at `t` = 1 - `rest`."""
    # Slopes relative to the bin's own: all terms are positive, and nothing cancels.
    left, right = left / s, right / s
    both, squares = t * rest, tf.square(t) + tf.square(rest)
    q = squares + (left + right) * both
    slope = right * tf.square(t) + 2 * both + left * tf.square(rest)
    share = (tf.square(t) + left * both) / q
    return share, tf.math.log(s) + tf.math.log(slope) - 2 * tf.math.log(q)


def _solve(u, s, left, right):
    r"""The `t` in [0, 1] at which the curve has climbed a share `u`, and 1 - `t`.

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
