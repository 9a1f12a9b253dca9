"""Data-dependent initialisation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import JointBijector
from tfp_flows.core.from_tfp import adapt
from tfp_flows.distributions import VariationalDequantization

__all__ = ["initialize", "needs_initialization"]


def needs_initialization(flow: tf.Module) -> bool:
    """Whether a flow has parts that still wait for a batch of data."""
    return any(
        isinstance(m, JointBijector) and m.needs_initialization for m in flow.submodules
    )


def initialize(flow: Any, batch: Any, context: Any = None) -> tf.Tensor:
    """Walks a batch of data through a flow and sets what depends on data.

    Each ActNorm takes the mean and standard deviation of what reaches it (Kingma &
    Dhariwal 2018, section 3.1), a `Scaling` that asks for it the deviations. Parts that
    were initialised before, or restored from a file, stay as they are.

    Args:
      flow: a `Flow`, or another TFP distribution with a `bijector`.
      batch: data `[*batch, *event_shape]`; a `VariationalDequantization` adds its
        noise first.
      context: `[*batch, *context_shape]` for a flow with a context.

    Returns:
      The noise of the batch, `[*batch, *distribution.event_shape]`.

    Raises:
      ValueError: on an empty batch, a wrong shape or a missing context.
    """
    keywords = {} if context is None else {"context": context}
    batch = tf.convert_to_tensor(batch)
    if batch.dtype != flow.dtype:
        batch = tf.cast(batch, flow.dtype)
    if isinstance(flow, VariationalDequantization):
        batch, _ = flow.dequantize(batch)
    if hasattr(flow, "_keywords"):
        keywords = flow._keywords(keywords)
    return adapt(flow.bijector).initialize(batch, **keywords)
