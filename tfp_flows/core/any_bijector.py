"""What chains and multi-scale stacks do with any bijector, ours or TFP's."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.joint_bijector import JointBijector, sum_trailing

tfb = tfp.bijectors

__all__ = [
    "INVERT",
    "common_context_shape",
    "forward_and_log_det",
    "initialize",
    "inverse_and_log_det",
    "keywords_of",
    "known_keywords",
    "min_event_ndims",
    "over_events",
]

# The classes of these bijectors also when their members are no composite tensors.
INVERT = tfb.Invert.__mro__[1]
_TFP_CHAIN = tfb.Chain.__mro__[1]


def forward_and_log_det(bijector, x, event_ndims: int, keywords=None):
    """Value and log-determinant of any bijector, TFP's included.

    Args:
      bijector: a `tfb.Bijector`.
      x: tensor whose last `event_ndims` dimensions are the event.
      event_ndims: rank of the event.
      keywords: each is handed to `bijector` if it knows it.

    Returns:
      `(y, fldj)`, the log-determinant one number for each event, or for all.
    """
    return _evaluate(bijector, x, True, event_ndims, keywords or {})


def inverse_and_log_det(bijector, y, event_ndims: int, keywords=None):
    """As `forward_and_log_det`, in the other direction."""
    return _evaluate(bijector, y, False, event_ndims, keywords or {})


def _evaluate(bijector, value, forward, event_ndims, keywords):
    if isinstance(bijector, INVERT):
        return _evaluate(bijector.bijector, value, not forward, event_ndims, keywords)
    known = known_keywords(bijector, keywords)
    if isinstance(bijector, JointBijector):
        b = bijector
        method = b._forward_and_log_det if forward else b._inverse_and_log_det
        result, log_det = method(value, **known)
        extra = event_ndims - min_event_ndims(bijector, forward)
        return result, over_events(log_det, value, event_ndims, extra)
    # A new tensor object is in no cache of TFP's.
    value = tf.identity(value)
    if forward:
        log_det = bijector.forward_log_det_jacobian
        return bijector.forward(value, **known), log_det(value, event_ndims, **known)
    log_det = bijector.inverse_log_det_jacobian
    return bijector.inverse(value, **known), log_det(value, event_ndims, **known)


def min_event_ndims(bijector, forward: bool) -> int:
    """Rank of the smallest event that a direction of a bijector takes."""
    return (
        bijector.forward_min_event_ndims
        if forward
        else bijector.inverse_min_event_ndims
    )


def initialize(bijector, y, keywords):
    """Data-dependent initialisation of any bijector; returns its inverse of `y`."""
    if isinstance(bijector, JointBijector):
        return bijector._initialize(y, **known_keywords(bijector, keywords))
    if isinstance(bijector, _TFP_CHAIN):
        for b in bijector.bijectors:
            y = initialize(b, y, keywords)
        return y
    return bijector.inverse(tf.identity(y), **known_keywords(bijector, keywords))


def keywords_of(bijector) -> frozenset[str]:
    """Names of the keywords that a bijector knows, through TFP's compositions."""
    if isinstance(bijector, JointBijector):
        return bijector.keywords
    if isinstance(bijector, INVERT):
        return keywords_of(bijector.bijector)
    if isinstance(bijector, _TFP_CHAIN):
        return frozenset().union(*(keywords_of(b) for b in bijector.bijectors))
    return frozenset()


def common_context_shape(bijectors) -> tuple[int, ...] | None:
    """The one context shape of those bijectors that take a context."""
    common = None
    for b in bijectors:
        if isinstance(b, JointBijector):
            shape = b.context_shape
        elif isinstance(b, INVERT):
            shape = common_context_shape([b.bijector])
        elif isinstance(b, _TFP_CHAIN):
            shape = common_context_shape(b.bijectors)
        else:
            shape = None
        if shape is None:
            continue
        if common is not None and shape != common:
            raise ValueError(
                f"context shapes must agree: {b.name} takes {shape}, another member "
                f"{common}."
            )
        common = shape
    return common


def known_keywords(bijector, keywords) -> dict[str, Any]:
    """The keywords that a bijector knows, in the form in which it takes them."""
    if isinstance(bijector, _TFP_CHAIN):
        known = {b.name: known_keywords(b, keywords) for b in bijector.bijectors}
        return {name: of_member for name, of_member in known.items() if of_member}
    names = keywords_of(bijector)
    return {k: v for k, v in keywords.items() if k in names}


def over_events(log_det, value, event_ndims, extra):
    """Sums a log-determinant over `extra` event dimensions outside the minimum."""
    if not extra:
        return log_det
    rank = value.shape.rank
    event = value.shape[rank - event_ndims : rank - event_ndims + extra]
    # A member may hand back a log-determinant that broadcasts (a constant one).
    if (
        log_det.shape.rank < extra
        or not log_det.shape[log_det.shape.rank - extra :].is_compatible_with(event)
        or not log_det.shape.is_fully_defined()
    ):
        shape = tf.shape(value)[: rank - event_ndims + extra]
        log_det = tf.broadcast_to(
            log_det, tf.broadcast_dynamic_shape(shape, tf.shape(log_det))
        )
    return sum_trailing(log_det, extra)
