"""How well a flow rebuilds the inputs that its gradients need."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.core.recompute import reconstruction_errors
from tfp_flows.distributions import Flow

__all__ = ["ReconstructionError", "reconstruction_error"]


def reconstruction_error(flow: Flow, x: Any, context: Any = None) -> tf.Tensor:
    r"""Measures the error of the inputs that gradients rebuild, on a batch of data.

    The gradient of a chain with `recompute_gradients=True` rebuilds inputs by the
    inverse. Let $y$ be the input of such a chain on the way from data to noise, and
    $\hat y$ the rebuilt one. The error is the largest
    $\max_i |\hat y_i - y_i| / (1 + \max_i |y_i|)$ over all chains; with
    `checkpoint_every`, also over all inputs that are kept. In float32, about $10^{-6}$
    is normal. Relative errors of gradients are of the same order of magnitude.

    Args:
      flow: a flow that contains such a chain.
      x: data `[batch, *event_shape]`.
      context: `[batch, *context_shape]`, for a conditional flow.

    Returns:
      A number without unit; NaN if an inverse overflows.

    Raises:
      ValueError: if the flow has no chain that rebuilds inputs.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.real_nvp(
      ...     (2,), layers=2, width=4, recompute_gradients=True, seed=0)
      >>> bool(reconstruction_error(flow, [[0.0, 1.0]]) < 1e-4)
      True
    """
    x = tf.convert_to_tensor(x, dtype_hint=flow.dtype)
    keywords = {} if context is None else {"context": context}
    with reconstruction_errors() as errors:
        flow.encode(tf.cast(x, flow.dtype), **keywords)
    if not errors:
        raise ValueError(
            "flow rebuilds no input: it was built without recompute_gradients=True, or "
            "of members whose inputs are kept."
        )
    return tf.reduce_max(tf.stack(errors))


class ReconstructionError(keras.callbacks.Callback):
    """Reports the `reconstruction_error` of a batch after each epoch.

    The history holds it as `reconstruction_error`. Above the tolerance it warns.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.real_nvp(
      ...     (2,), layers=2, width=4, recompute_gradients=True, seed=0)
      >>> callback = ReconstructionError([[0.0, 1.0], [2.0, -1.0]])
      >>> callback.set_model(tfp_flows.FlowModel(flow))  # fit does this
      >>> logs = {}
      >>> callback.on_epoch_end(0, logs)
      >>> logs["reconstruction_error"] < 1e-4
      True

    Args:
      x: data `[batch, *event_shape]`.
      context: `[batch, *context_shape]`, for a conditional flow.
      tolerance: error above which a warning is given.
    """

    def __init__(self, x: Any, context: Any = None, tolerance: float = 1e-3):
        super().__init__()
        self.x, self.context, self.tolerance = x, context, tolerance

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        error = float(reconstruction_error(self.model.flow, self.x, self.context))
        if logs is not None:
            logs["reconstruction_error"] = error
        if not error <= self.tolerance:
            warnings.warn(
                f"epoch {epoch + 1}: inputs are rebuilt with an error of {error:.1e}, "
                f"above {self.tolerance:.1e}, so that gradients are off. Bound the "
                "scales (max_log_scale), or keep inputs now and then "
                "(tfp_flows.bijectors.Chain(checkpoint_every=...)).",
                stacklevel=2,
            )
