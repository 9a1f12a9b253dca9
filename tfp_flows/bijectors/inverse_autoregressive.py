"""The autoregressive flow that samples in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfp_flows.bijectors.masked_autoregressive import MaskedAutoregressive
from tfp_flows.transformers import Transformer

__all__ = ["InverseAutoregressive"]


class InverseAutoregressive(MaskedAutoregressive):
    r"""Transforms each entry with parameters computed from the noise before it.

    $$ y_i = \tau(x_i;\, c_i(x_{<i}, \text{context})), \qquad
       \log|\det \partial y / \partial x| =
       \sum_i \log|\partial \tau / \partial x_i| $$

    (Kingma et al. 2016, "Improved Variational Inference with Inverse Autoregressive
    Flow", equations 9 and 10.) The directions of `MaskedAutoregressive` are exchanged:
    `forward` (a sample and its density) runs the conditioner once, `inverse` (the
    density of given data) computes one entry after the other.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, networks
      >>> made = networks.MADE(3, num_parameters=2, hidden_units=(8, 8))
      >>> iaf = bijectors.InverseAutoregressive(made)
      >>> iaf.forward(tf.ones([5, 3])).shape
      TensorShape([5, 3])

    Args:
      conditioner: `(x[, context]) -> parameters`, as in `MaskedAutoregressive`.
      transformer: an elementwise transformer; `Affine()` by default.
      event_shape: `D` or `[D]`. Needed unless the conditioner is a `networks.MADE`.
      context_shape: shape of one context, or `None` for no context.
      jacobi_tolerance: see `MaskedAutoregressive`.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is missing or not that of a vector, the transformer
        or the conditioner is for another number of entries, or the conditioner returns
        another shape.
      TypeError: if the conditioner is not callable, or `event_shape` holds no integer.
    """

    _papers = ("kingma2016iaf",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        conditioner: Callable,
        transformer: Transformer | None = None,
        event_shape: int | Sequence[int] | None = None,
        context_shape: Sequence[int] | None = None,
        jacobi_tolerance: float | None = None,
        dtype: Any = None,
        name: str = "inverse_autoregressive",
    ):
        super().__init__(
            conditioner,
            transformer,
            event_shape,
            context_shape,
            jacobi_tolerance,
            dtype,
            name,
        )

    def _forward_and_log_det(self, x, context=None):
        return self._parallel("forward_and_log_det", x, x, context)

    def _inverse_and_log_det(self, y, context=None):
        return self._sequential("inverse_and_log_det", y, context)
