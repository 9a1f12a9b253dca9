"""A transformer with learned parameters for each entry of an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.coupling import split_parameters
from tfp_flows.core.arguments import check_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import sum_trailing
from tfp_flows.transformers import Transformer
from tfp_flows.transformers.transformer import attribute, check_entries

__all__ = ["Elementwise"]


class Elementwise(JointBijector):
    r"""Transforms each entry of an event by a function of its own.

    $$ y_i = \tau(x_i;\, \theta_i), \qquad
       \log|\det \partial y / \partial x| = \sum_i \log|\partial \tau / \partial x_i| $$

    with learned parameters $\theta$, to which a conditioner, if there is one, adds a
    function of the context. Each entry gets a flexible distribution; entries stay
    independent given the context.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, transformers
      >>> marginals = bijectors.Elementwise(transformers.LogisticMixture(4), [3])
      >>> marginals.forward(tf.ones([5, 3])).shape
      TensorShape([5, 3])

    Args:
      transformer: an elementwise transformer, see `tfp_flows.transformers`.
      event_shape: shape of the event, of rank 1 or more.
      conditioner: a callable `context -> [batch, *event_shape]` with the last
        dimension times `transformer.num_parameters`: first all of the first parameter,
        and so on. Needs `context_shape`.
      context_shape: shape of one context, or `None` for no context.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is empty, the transformer is for another number of
        entries, only one of `conditioner` and `context_shape` is given, or the
        conditioner returns another shape.
      TypeError: if `event_shape` is no sequence of integers.
    """

    def __init__(
        self,
        transformer: Transformer,
        event_shape: Sequence[int],
        conditioner: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = tf.float32,
        name: str = "elementwise",
    ):
        parameters = dict(locals())
        event_shape = check_shape("event_shape", event_shape)
        if not event_shape:
            raise ValueError("event_shape must have rank 1 or more, got ().")
        if (conditioner is None) != (context_shape is None):
            raise ValueError(
                "conditioner and context_shape go together: the conditioner computes "
                "parameters from the context."
            )
        if context_shape is not None:
            context_shape = check_shape("context_shape", context_shape, at_least=0)
        dtype = tf.as_dtype(dtype)
        self._transformer = transformer
        count = transformer.num_parameters
        *leading, last = event_shape
        check_entries(transformer, last)
        start = tf.constant(self._initial([*leading, count, last]), dtype)
        self._raw = self._add_variable("parameters", start)
        self._conditioner = (
            None
            if conditioner is None or context_shape is None
            else Conditioner(
                conditioner,
                context_shape,
                (*leading, count * last),
                dtype=dtype,
                describe=f" ({count} parameter(s) of {transformer!r} for each entry)",
            )
        )
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            is_constant_jacobian=attribute(transformer, "is_constant_jacobian")
            or (
                self._conditioner is None
                and attribute(transformer, "has_constant_slope")
            ),
            parameters=parameters,
            name=name,
        )

    @property
    def transformer(self) -> Transformer:
        """The elementwise transformer."""
        return self._transformer

    @property
    def _structure(self):
        return f" {self._transformer!r}"

    @property
    def has_direct_inverse(self) -> bool:
        return attribute(self._transformer, "has_direct_inverse")

    def _is_increasing(self, **keywords):
        if not attribute(self._transformer, "is_increasing"):
            return super()._is_increasing(**keywords)
        return True

    def _initial(self, shape):
        """The parameters at the start."""
        return np.zeros(shape)

    _fast_paths = frozenset({"untaped"})

    def _forward_and_log_det(self, x, context=None):
        return self._apply(self._transformer.forward_and_log_det, x, context)

    def _inverse_and_log_det(self, y, context=None):
        return self._apply(self._transformer.inverse_and_log_det, y, context)

    def _apply(self, transform, value, context):
        theta = tf.convert_to_tensor(self._raw)
        if context is not None:
            given = self._conditioner(context)
            theta += split_parameters(given, self._transformer.num_parameters)
        out, log_det = transform(value, theta)
        return out, sum_trailing(log_det, self.forward_min_event_ndims)
