"""NICE's additive coupling layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.transformers import Shift

__all__ = ["AdditiveCoupling"]


class AdditiveCoupling(Coupling):
    r"""Shifts one part of an event by a function of the other part.

    $$ y_a = x_a, \qquad y_b = x_b + m(x_a, \text{context}), \qquad
       \log|\det \partial y / \partial x| = 0 $$

    (Dinh et al. 2014, "NICE", equations 5 and 6). Volume is preserved.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, masks, networks
      >>> shift = bijectors.AdditiveCoupling(masks.half(4), networks.MLP(2))
      >>> shift.forward(tf.ones([3, 4])).shape
      TensorShape([3, 4])

    Args:
      mask: boolean array, `True` where the event is kept.
      conditioner: `(kept[, context]) -> shift`, of the shape of the changed part.
      event_shape: shape of the event; the mask's shape by default.
      context_shape: shape of one context, or `None` for no context.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if the mask is all `True` or all `False`, does not fit
        `event_shape`, or the conditioner returns another shape.
      TypeError: if the mask is not boolean or the conditioner not callable.
    """

    papers = ("dinh2014nice",)

    def __init__(
        self,
        mask: Any,
        conditioner: Callable,
        event_shape: Sequence[int] | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = None,
        name: str = "additive_coupling",
    ):
        parameters = dict(locals())
        super().__init__(
            mask,
            conditioner,
            Shift(),
            event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            name=name,
        )
        self._set_parameters(parameters)
