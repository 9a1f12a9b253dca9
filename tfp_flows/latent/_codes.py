"""Checks of data, codes and contexts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_real
from tfp_flows.core.shapes import broadcast_context
from tfp_flows.distributions import Flow

__all__ = ["as_code", "as_data", "base_keywords", "context_keyword"]


def as_data(flow: Flow, x: Any, name: str) -> tf.Tensor:
    """Casts data to the flow's dtype; a ValueError unless they end in an event."""
    return _as_event(flow, x, flow.event_shape, name)


def as_code(flow: Flow, z: Any, name: str) -> tf.Tensor:
    """Casts codes to the flow's dtype; a ValueError unless they end in a code."""
    return _as_event(flow, z, flow.distribution.event_shape, name)


def _as_event(flow: Flow, x: Any, event: tf.TensorShape, name: str) -> tf.Tensor:
    check_real(name, x)
    x = tf.cast(x, flow.dtype)
    rank = x.shape.rank
    if rank < event.rank or not x.shape[rank - event.rank :].is_compatible_with(event):
        raise ValueError(f"{name} must end in {event}, got shape {x.shape}.")
    return x


def context_keyword(flow: Flow, context: Any, name: str) -> dict[str, Any]:
    """The keyword `context`, or none; a ValueError unless the flow fits."""
    if context is None and flow.context_shape is not None:
        raise ValueError(f"{name} is required: {flow.name} takes a context.")
    if context is not None and flow.context_shape is None:
        raise ValueError(f"{name} was given, but {flow.name} takes no context.")
    return {} if context is None else {"context": context}


def base_keywords(flow: Flow, z: tf.Tensor, keywords: dict[str, Any]) -> dict[str, Any]:
    """The context that the base distribution takes, in the batch shape of codes."""
    _, of_base = flow._split(keywords)
    if "context" not in of_base:
        return {}
    base = flow.distribution
    _, context = broadcast_context(
        z, base.event_shape.rank, of_base["context"], base.context_shape, flow.name
    )
    return {"context": context}
