"""Planar flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.activations import activation_of, shrink, stretch
from tfp_flows.core.amortized import Amortized
from tfp_flows.core.arguments import check_vector_shape
from tfp_flows.core.seeds import generator

__all__ = ["Planar"]


class Planar(Amortized):
    r"""Stretches or squeezes space along one direction, around a hyperplane.

    With $w, v \in \mathbb R^D$, $b \in \mathbb R$ and an activation $h$ (Rezende &
    Mohamed 2015, equations 10 to 12, where $v$ is $u$), `forward` is

    $$ y = z + v\, h(w^\top z + b), \qquad
       \log|\det \partial y / \partial z| = \log(1 + w^\top v\, h'(w^\top z + b)). $$

    **Always invertible.** With the steepest slope $S$ of $h$ (1 for tanh), `forward` is
    invertible if $w^\top v > -1/S$. To ensure this, the paper's appendix A.1 moves $v$
    along $w$, which is singular at $w = 0$. Here a raw vector $\tilde v$ is shortened,

    $$ v = \frac{\tilde v}{1 + \zeta(-S w^\top \tilde v)}, \qquad
       \zeta(x) = \log(1 + e^x), $$

    which is smooth everywhere, reaches exactly those $v$ that are allowed, and maps 0
    to 0.

    **The inverse** is that of an increasing function of one number: $u = w^\top z$
    solves $u + w^\top v\, h(u + b) = w^\top y$. For tanh, Newton's method from a bound
    on the root finds it and always converges; leaky ReLU has a closed form. Then
    $z = y - v\, h(u + b)$. Gradients come from the implicit function theorem and are
    right to second order.

    A new bijector is the identity: $v$ and $b$ start at 0, $w$ at random.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> planar = bijectors.Planar(2, seed=0)
      >>> y, log_det = planar.forward_and_log_det(tf.ones([5, 2]))
      >>> y.shape, log_det.shape
      (TensorShape([5, 2]), TensorShape([5]))

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      activation: `"tanh"` or `"leaky_relu"`.
      negative_slope: slope of leaky ReLU at negative numbers, 0 or more.
      conditioner: a callable `context -> [batch, 2 D + 1]`, whose output is added to
        the raw $w$, $\tilde v$ and $b$ of each example (amortised parameters): a Keras
        layer, a tf_keras layer, a `tf.Module` or a function. Needs `context_shape`.
      context_shape: shape of one context, or `None`.
      seed: integer seed of the initial $w$.
      dtype: dtype of values.
      name: name of the bijector.

    Raises:
      ValueError: on another activation, a negative slope, an `event_shape` that is not
        positive or not that of a vector, one of `conditioner` and `context_shape`
        without the other, or a conditioner that returns another shape.
      TypeError: if `event_shape` holds no integer.
    """

    papers = ("rezende2015variational",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: int | Sequence[int],
        activation: str = "tanh",
        negative_slope: float = 0.2,
        conditioner: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "planar",
    ):
        parameters = dict(locals())
        size = check_vector_shape("event_shape", event_shape)
        self._activation = activation_of(activation, negative_slope)
        draw = generator(seed)
        super().__init__(
            size,
            {
                "w": draw.standard_normal(size) / np.sqrt(size),
                "v": np.zeros(size),
                "b": np.zeros(()),
            },
            conditioner,
            context_shape,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @staticmethod
    def num_parameters(event_shape: int | Sequence[int]) -> int:
        """Returns how many parameters a conditioner gives for each example.

        Args:
          event_shape: `D` or `[D]`.
        """
        return 2 * check_vector_shape("event_shape", event_shape) + 1

    @property
    def _structure(self):
        return f" {self.parameters['activation']}"

    def _parameters_of(self, context):
        r"""$w$, $v$, $b$ and $1 + S w^\top v$."""
        w, v, b = self._raw_parameters(context)
        factor, gap = shrink(self._activation.steepest * _dot(w, v))
        return w, v * factor[..., None], b, gap

    def _forward_and_log_det(self, x, context=None):
        w, v, b, gap = self._parameters_of(context)
        h, slope = self._activation(_dot(w, x) + b)
        y = x + v * h[..., None]
        return y, tf.math.log(stretch(self._activation, slope, gap))

    def _inverse_and_log_det(self, y, context=None):
        w, v, b, gap = self._parameters_of(context)
        h, slope = self._activation(self._activation.root(gap, _dot(w, y) + b))
        x = y - v * h[..., None]
        return x, -tf.math.log(stretch(self._activation, slope, gap))


def _dot(a, b):
    return tf.reduce_sum(a * b, -1)
