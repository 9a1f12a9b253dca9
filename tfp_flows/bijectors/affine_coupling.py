"""RealNVP's affine coupling layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.transformers import Affine

__all__ = ["AffineCoupling"]


class AffineCoupling(Coupling):
    r"""Scales and shifts one part of an event by functions of the other part.

    $$ y_a = x_a, \qquad y_b = e^{s(x_a)} \odot x_b + t(x_a), \qquad
       \log|\det \partial y / \partial x| = \sum_i s(x_a)_i $$

    (Dinh et al. 2017, "RealNVP", equations 4 to 8). With `scale="exp"` it equals
    `tfb.RealNVP` with the same network; the conditioner runs once, not twice.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, masks, networks
      >>> coupling = bijectors.AffineCoupling(masks.half(4), networks.MLP(4))
      >>> coupling.forward_log_det_jacobian(tf.ones([3, 4])).shape
      TensorShape([3])

    Args:
      mask: boolean array, `True` where the event is kept.
      conditioner: `(kept[, context]) -> [shift, raw scale]`, joined along the last
        axis: twice the last dimension of the changed part.
      scale: `"exp"`, `"tanh"` (bounded) or `"sigmoid"` (Glow's), see
        `tfp_flows.transformers.Affine`.
      max_log_scale: bound on $|s|$ in nats, or `None`.
      event_shape: shape of the event; the mask's shape by default.
      context_shape: shape of one context, or `None` for no context.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if the mask is all `True` or all `False`, does not fit
        `event_shape`, or the conditioner returns another shape; on another
        `scale`, or a `max_log_scale` that is not positive.
      TypeError: if the mask is not boolean or the conditioner not callable.
    """

    def __init__(
        self,
        mask: Any,
        conditioner: Callable,
        scale: str = "tanh",
        max_log_scale: float | None = None,
        event_shape: Sequence[int] | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = None,
        name: str = "affine_coupling",
    ):
        parameters = dict(locals())
        super().__init__(
            mask,
            conditioner,
            Affine(scale, max_log_scale),
            event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            name=name,
        )
        self._set_parameters(parameters)
