"""What flows from the matrix determinant lemma share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event

__all__ = ["Amortized", "activation_of", "check_size", "shrink"]


class Amortized(JointBijector):
    """A bijector of vectors whose parameters may differ from example to example.

    Each raw parameter is a variable, to which a conditioner, if there is one, adds a
    function of the context: all of the first parameter, then of the second, and so on.
    The variables break the symmetry that a network with a zero output leaves.

    Args:
      size: $D$, the size of an event.
      initial: name and initial value of each raw parameter, in order.
      conditioner: a callable `context -> [batch, P]`, or `None`.
      context_shape: shape of one context, or `None`.
      dtype: dtype of values.
      parameters: the constructor's arguments.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      ValueError: if one of `conditioner` and `context_shape` is given without the
        other, or the conditioner returns another shape.
    """

    has_direct_inverse = False

    def __init__(
        self,
        size: int,
        initial: Mapping[str, Any],
        conditioner: Callable | None,
        context_shape: Sequence[int] | None,
        dtype: Any,
        parameters: Mapping[str, Any],
        validate_args: bool,
        name: str,
    ):
        dtype = tf.as_dtype(dtype)
        if (conditioner is None) != (context_shape is None):
            raise ValueError(
                "conditioner and context_shape go together: the conditioner computes "
                "parameters from the context; got only "
                + ("context_shape." if conditioner is None else "conditioner.")
            )
        self._raw = [
            self._add_variable(k, tf.constant(v, dtype)) for k, v in initial.items()
        ]
        self._shapes = [tuple(np.shape(v)) for v in initial.values()]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        if conditioner is None:
            self._conditioner = None
        else:
            layout = ", ".join(
                f"{n} for {k}" for k, n in zip(initial, self._sizes, strict=True)
            )
            self._conditioner = Conditioner(
                conditioner,
                context_shape,
                (sum(self._sizes),),
                dtype=dtype,
                describe=f" ({layout})",
            )
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[size],
            context_shape=context_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _raw_parameters(self, context):
        """The raw parameters, with the batch shape of a context in front."""
        own = [tf.convert_to_tensor(v) for v in self._raw]
        if self._conditioner is None:
            return own
        given = self._conditioner(tf.cast(context, self.dtype))
        parts = []
        for raw, part, shape in zip(
            own, tf.split(given, self._sizes, -1), self._shapes, strict=True
        ):
            parts.append(raw + reshape_event(part, 1, shape))
        return parts


def check_size(size: Any) -> int:
    """The size of an event; a ValueError if it is not positive."""
    if int(size) < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    return int(size)


def shrink(product):
    r"""What keeps $1 + S w^\top v$ positive, given the raw $x = S w^\top v$.

    Returns:
      `(factor, gap)`: $v$ times the positive `factor` $1 / (1 + \zeta(-x))$, with the
      softplus $\zeta$, has $1 + S w^\top v$ equal to the positive `gap` $(1 + \zeta(x))
      / (1 + \zeta(-x))$. It rises from 0 to infinity with $x$, like $-1/x$ on one side
      and $x$ on the other, and is computed without cancellation.
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
        """The $a$ with $a + c h(a)$ = `target`, where $c$ = `gap` - 1."""
        a = tf.sign(target) * self._root(tf.stop_gradient(gap), tf.abs(target))
        a = tf.stop_gradient(a)
        # Newton steps from the root carry its derivatives: each adds an order.
        for _ in range(2):
            h, slope = self(a)
            a -= (a + (gap - 1.0) * h - target) / stretch(self, slope, gap)
        return a

    def _root(self, gap, target):
        # For positive a, a + c tanh(a) is concave (c > 0) or convex (c < 0), so that
        # Newton's method never overshoots from the side on which the tangent is the
        # steeper: no bracket is needed. Both |tanh(a)| <= |a| and |tanh(a)| <= 1 bound
        # the root on that side.
        target, c = tf.stop_gradient(target), gap - 1.0
        bounds = target / gap, target - c
        a = tf.where(c > 0, tf.maximum(*bounds), tf.minimum(*bounds))
        limit = np.finfo(a.dtype.name).eps ** 0.75

        def body(a, _):
            h, slope = self(a)
            step = (a + c * h - target) / stretch(self, slope, gap)
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
        return slope * a, slope

    def root(self, gap, target):
        """The $a$ with $a + c h(a)$ = `target`, where $1 + S c$ = `gap`."""
        # a + c h(a) is zero at zero and rises: a has the sign of the target.
        _, slope = self(target)
        return target / stretch(self, slope, gap)


def stretch(activation, slope, gap):
    r"""$1 + c h'$ for $1 + S c = \mathrm{gap}$, without cancellation at the edge."""
    share = slope / activation.steepest
    return (1.0 - share) + gap * share


def activation_of(name: str, negative_slope: float):
    """The activation of that name, with its steepest slope and its scalar root."""
    if name == "tanh":
        return _Tanh()
    if name == "leaky_relu":
        if not 0 <= negative_slope < float("inf"):
            raise ValueError(
                f"negative_slope must not be negative, got {negative_slope}."
            )
        return _LeakyReLU(float(negative_slope))
    raise ValueError(f'activation must be "tanh" or "leaky_relu", got {name!r}.')
