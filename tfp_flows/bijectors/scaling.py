"""NICE's learned diagonal scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_number, check_shape
from tfp_flows.core.shapes import sum_trailing
from tfp_flows.core.starts_from_data import StartsFromData

__all__ = ["Scaling"]


class Scaling(StartsFromData):
    r"""Multiplies each entry of an event by a learned positive number.

    $$ y = e^{s} \odot x, \qquad x = e^{-s} \odot y, \qquad
       \log|\det \partial y / \partial x| = \sum_i s_i. $$

    Dinh et al. 2014, section 3.3, write the other direction: their $s$, by which data
    are scaled on their way to noise, is $-s$ here.

    **As a prior variance.** Scaling followed by a standard Gaussian is the same
    density as no scaling and a Gaussian prior of standard deviation $e^{s_i}$ in
    each dimension: $\mathcal N(e^{-s} y; 0, 1)\, e^{-s} = \mathcal N(y; 0, e^{2s})$.
    So a small $s_i$ says that the data hardly vary along $y_i$, and the sorted
    spectrum of $e^{s}$ reads like the one of a principal component analysis
    (section 3.3 of the paper).

    Example:
      >>> from tfp_flows import bijectors
      >>> scaling = bijectors.Scaling(log_scale=[0.0, 1.0])
      >>> scaling.forward([1.0, 1.0]).numpy().round(4)
      array([1.    , 2.7183], dtype=float32)

    Args:
      event_shape: shape of the event. Needed unless `log_scale` is given.
      data_dependent: whether `initialize` sets $s_i$ to the logarithm of the standard
        deviation of entry $i$. Otherwise training first has to move $s$ by several nats
        (by 7 for pixels that never change).
      log_scale: $s$ divided by `learning_rate_multiplier`, a tensor or a `tf.Variable`
        `[..., *event_shape]`, whose leading dimensions are a batch of bijectors. A new
        variable of zeros by default.
      learning_rate_multiplier: multiplies the effective learning rate of $s$, for use
        beside networks that need a small rate.
      dtype: dtype of values; that of `log_scale`, or float32, by default.
      name: name of the bijector.

    Raises:
      ValueError: if neither `event_shape` nor `log_scale` is given, `data_dependent`
        with a `log_scale` that is no variable, or `learning_rate_multiplier` is not
        positive.
      TypeError: if a size is not an integer, the multiplier not a number, or `dtype`
        another than that of a tensor `log_scale`.
    """

    papers = ("dinh2014nice",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: Sequence[int] | None = None,
        log_scale: Any = None,
        data_dependent: bool = False,
        learning_rate_multiplier: float = 1.0,
        dtype: Any = None,
        name: str = "scaling",
    ):
        parameters = dict(locals())
        if event_shape is not None:
            event_shape = check_shape("event_shape", event_shape)
        if log_scale is None:
            if event_shape is None:
                raise ValueError("event_shape or log_scale is required.")
            dtype = tf.as_dtype(dtype or tf.float32)
            log_scale = self._add_variable("log_scale", tf.zeros(event_shape, dtype))
        elif not tf.is_tensor(log_scale):
            # Floating arrays keep their precision.
            is_float = getattr(getattr(log_scale, "dtype", None), "kind", "") == "f"
            hint = None if is_float else tf.float32
            log_scale = tf.convert_to_tensor(log_scale, dtype, hint)
        elif dtype is not None and log_scale.dtype != dtype:
            raise TypeError(
                f"log_scale has dtype {log_scale.dtype.name}, but dtype is "
                f"{tf.as_dtype(dtype).name}."
            )
        if event_shape is None:
            event_shape = log_scale.shape[-1:]
        parameters.update(log_scale=log_scale, event_shape=tuple(event_shape))
        if data_dependent and not isinstance(log_scale, tf.Variable):
            raise ValueError("data_dependent=True needs log_scale to be a variable.")
        self._variable = log_scale
        self._factor = check_number(
            "learning_rate_multiplier", learning_rate_multiplier, above=0
        )
        if data_dependent:
            self._add_start()
        self._ndims = len(event_shape)
        super().__init__(
            forward_min_event_ndims=self._ndims,
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=log_scale.dtype,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {
            "log_scale": tfp.util.ParameterProperties(
                event_ndims=lambda self, x_event_ndims: x_event_ndims
            )
        }

    def _is_increasing(self, **_):
        return True

    @property
    def log_scale(self) -> tf.Tensor:
        r"""$s$, of shape `[*batch, *event_shape]`, in nats."""
        return self._variable if self._factor == 1.0 else self._factor * self._variable

    def _forward_and_log_det(self, x):
        log_scale = tf.convert_to_tensor(self.log_scale)
        return x * tf.exp(log_scale), sum_trailing(log_scale, self._ndims)

    def _inverse_and_log_det(self, y):
        log_scale = tf.convert_to_tensor(self.log_scale)
        return y * tf.exp(-log_scale), -sum_trailing(log_scale, self._ndims)

    def _set_from(self, y):
        axes = list(range(y.shape.rank - self._ndims))
        variance = tf.math.reduce_variance(y, axes)
        # The lower bound is far below the noise of 16-bit data scaled to [0, 1].
        log_scale = 0.5 * tf.math.log(tf.maximum(variance, 1e-12)) / self._factor
        # What is constant keeps its scale, or training would be enlarged there.
        varies = tf.reduce_min(y, axes) < tf.reduce_max(y, axes)
        self._variable.assign(tf.where(varies, log_scale, self._variable))
