r"""Activations of planar and Sylvester flows, with what makes them invertible.

$S$ is the steepest slope of an activation $h$. The flows are invertible if
$1 + S w^\top v$, called the *gap*, is positive.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_number
from tfp_flows.core.eager_loops import traced_loop

__all__ = ["activation_of", "shrink", "stretch"]


def shrink(product: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Gives the factor that shrinks a raw $v$ so that $1 + S w^\top v$ is positive.

    Args:
      product: $x = S w^\top v$ of the raw $v$.

    Returns:
      `(factor, gap)`. The factor is $1 / (1 + \zeta(-x))$ with the softplus $\zeta$.
      For $v$ times the factor, $1 + S w^\top v$ is the gap $(1 + \zeta(x)) / (1 +
      \zeta(-x))$. It rises with $x$ from 0 to infinity, like $-1/x$ far below 0 and
      like $x$ far above, and is computed without cancellation.
    """
    below = 1.0 + tf.nn.softplus(-product)
    return 1.0 / below, (1.0 + tf.nn.softplus(product)) / below


class _Tanh:
    """$h = tanh$."""

    steepest = 1.0

    def __call__(self, a):
        """$h(a)$ and $h'(a)$."""
        h = tf.tanh(a)
        return h, 1.0 - tf.square(h)

    def root(self, gap, target):
        """Solves $a + c h(a)$ = `target` for $a$, where $c$ = `gap` - 1."""
        a = tf.stop_gradient(tf.sign(target))
        a *= traced_loop(_tanh_root, gap, tf.abs(target))
        # Each Newton step from the root gives the derivatives of one more order.
        for _ in range(2):
            h, slope = self(a)
            a -= (a + (gap - 1.0) * h - target) / stretch(self, slope, gap)
        return a

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(type(self))


def _tanh_root(gap, target):
    """Solves $a + c tanh(a)$ = `target` for $a$ above 0, where $c$ = `gap` - 1."""
    # For positive a, a + c tanh(a) is concave (c > 0) or convex (c < 0), so that
    # Newton's method never overshoots from the side on which the tangent is the
    # steeper: no bracket is needed. Both |tanh(a)| <= |a| and |tanh(a)| <= 1 bound
    # the root on that side.
    activation, c = _Tanh(), gap - 1.0
    bounds = target / gap, target - c
    a = tf.where(c > 0, tf.maximum(*bounds), tf.minimum(*bounds))
    limit = np.finfo(a.dtype.name).eps ** 0.75

    def body(a, _):
        h, slope = activation(a)
        step = (a + c * h - target) / stretch(activation, slope, gap)
        return a - step, tf.abs(step) > limit * (1.0 + tf.abs(a))

    return tf.while_loop(
        lambda _, moving: tf.reduce_any(moving),
        body,
        (a, tf.ones_like(a, tf.bool)),
        maximum_iterations=64,
    )[0]


class _LeakyReLU:
    """$h(a) = max(a, 0) + k min(a, 0)$, with $k$ = `negative_slope`."""

    def __init__(self, negative_slope: float):
        self.negative_slope = negative_slope
        self.steepest = max(1.0, negative_slope)

    def __call__(self, a):
        """$h(a)$ and $h'(a)$."""
        one = tf.ones_like(a)
        slope = tf.where(a >= 0, one, self.negative_slope * one)
        # The slope is constant on each side. This gives it a gradient of 0 rather than
        # none, also where `a` is infinite.
        nothing = tf.where(tf.zeros_like(a, tf.bool), a, tf.zeros_like(a))
        return slope * a, slope + nothing

    def __eq__(self, other):
        return type(other) is type(self) and other.negative_slope == self.negative_slope

    def __hash__(self):
        return hash((type(self), self.negative_slope))

    def root(self, gap, target):
        """Solves $a + c h(a)$ = `target` for $a$, where $1 + S c$ = `gap`."""
        # a + c h(a) is zero at zero and rises: a has the sign of the target.
        _, slope = self(target)
        return target / stretch(self, slope, gap)


def stretch(
    activation: _Tanh | _LeakyReLU, slope: tf.Tensor, gap: tf.Tensor
) -> tf.Tensor:
    r"""$1 + c h'$ for $1 + S c = \mathrm{gap}$, without cancellation at a small gap."""
    share = slope / activation.steepest
    return (1.0 - share) + gap * share


def activation_of(name: str, negative_slope: float) -> _Tanh | _LeakyReLU:
    """The activation of that name, with its steepest slope and its scalar root."""
    check_choice("activation", name, ("tanh", "leaky_relu"))
    if name == "tanh":
        return _Tanh()
    return _LeakyReLU(check_number("negative_slope", negative_slope, at_least=0))
