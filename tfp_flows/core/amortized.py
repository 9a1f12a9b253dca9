"""Bijectors of vectors whose parameters may be functions of a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event

__all__ = ["Amortized"]


class Amortized(JointBijector):
    """A bijector of vectors whose parameters may differ from example to example.

    Each raw parameter is a variable. A conditioner, if there is one, computes numbers
    from the context that are added to the variables: first all numbers of the first
    parameter, then all of the second, and so on. Networks start with a zero output, so
    the variables alone make parameters differ at the start.

    Args:
      size: $D$, the size of an event.
      initial: name and initial value of each raw parameter, in order.
      conditioner: a callable `context -> [batch, P]`, with P the number of entries of
        all parameters, or `None`.
      context_shape: shape of one context, or `None`.
      dtype: dtype of values.
      parameters: the constructor's arguments.
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
        name: str,
    ):
        dtype = tf.as_dtype(dtype)
        if (conditioner is None) != (context_shape is None):
            raise ValueError(
                "conditioner and context_shape go together: the conditioner computes "
                "parameters from the context; got only "
                + ("context_shape." if conditioner is None else "conditioner.")
            )
        if context_shape is not None:
            context_shape = check_shape("context_shape", context_shape, at_least=0)
        self._raw = [
            self._add_variable(k, tf.constant(v, dtype)) for k, v in initial.items()
        ]
        self._shapes = [tuple(np.shape(v)) for v in initial.values()]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        if conditioner is None or context_shape is None:
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
