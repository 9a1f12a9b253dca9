"""The flow of a simulator's parameters or data, given the other."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import flows
from tfp_flows.core.arguments import check_shape
from tfp_flows.training import FlowModel

__all__ = ["check_shape_of_data", "fit", "make_conditional_flow"]


def make_conditional_flow(
    flow: Any,
    event_shape: Sequence[int],
    context_shape: Sequence[int],
    dtype: tf.DType,
    options: dict[str, Any],
) -> tfd.Distribution:
    """A flow of events given contexts, both normalised by the data.

    Args:
      flow: a ready flow, another function of an event shape, a distribution that takes
        a context, or `None` for `neural_spline_flow` with 5 layers of width 64 and a
        bound of 5.
      event_shape: shape of an event.
      context_shape: shape of a context.
      dtype: dtype of both.
      options: arguments of `flow`.

    Raises:
      TypeError: if `flow` is no function, or makes no distribution.
      ValueError: if the distribution has other shapes, or another dtype.
    """
    event_shape, context_shape = tuple(event_shape), tuple(context_shape)
    if flow is None:
        flow = flows.neural_spline_flow
        # A coupling needs two entries.
        is_single = event_shape == (1,)
        # The splines narrow to the posterior within their bound alone: noise beyond 3,
        # 3 in 1,000 entries, would be samples as wide as the prior.
        options = {"autoregressive": is_single, "width": 64, "bound": 5.0, **options}
    if isinstance(flow, tfd.Distribution):
        if options:
            raise ValueError(
                "options are for a function that makes a flow; got "
                f"{sorted(options)} with a flow."
            )
    elif not callable(flow):
        raise TypeError(
            "flow must be a function of an event shape or a TFP distribution, got "
            f"{type(flow).__name__}."
        )
    else:
        known = inspect.signature(flow).parameters
        shared = {"dtype": dtype.name, "normalize_context": True}
        if len(context_shape) > 1:
            shared["context_encoder"] = keras.layers.Flatten(dtype=dtype.name)
        shared = {k: v for k, v in shared.items() if k in known}
        flow = flow(
            event_shape, **{**shared, "context_shape": context_shape, **options}
        )
    if not isinstance(flow, tfd.Distribution):
        raise TypeError(
            f"flow must make a TFP distribution, got {type(flow).__name__}."
        )
    found = tuple(flow.event_shape), getattr(flow, "context_shape", None)
    if found != (event_shape, context_shape):
        raise ValueError(
            f"flow must have event_shape {event_shape} and context_shape "
            f"{context_shape}, got {found[0]} and {found[1]}."
        )
    if flow.dtype != dtype:
        raise ValueError(
            f"flow must have the prior's dtype {dtype.name}, got "
            f"{tf.as_dtype(flow.dtype).name}."
        )
    return flow


def check_shape_of_data(data_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of one simulation as a tuple, with one axis at least."""
    shape = check_shape("data_shape", data_shape)
    if not shape:
        raise ValueError(
            "data_shape must have one axis at least: data that are single numbers are "
            "of shape (1,)."
        )
    return shape


def fit(
    model: FlowModel, x: Any, context: Any, options: dict[str, Any]
) -> keras.callbacks.History:
    """`FlowModel.fit`, compiled with Adam if it is not compiled yet."""
    if not model.compiled:
        model.compile("adam")
    return model.fit(x, context, **options)
