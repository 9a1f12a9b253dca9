"""Variations: one coordinate of the code moved, another context, other temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import new_seed
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_code, as_data, context_keyword

__all__ = ["temperatures", "translate", "traverse"]


def traverse(
    flow: Flow,
    dimension: int,
    values: Sequence[float],
    *,
    x: Any = None,
    z: Any = None,
    **keywords: Any,
) -> tf.Tensor:
    """Sets one coordinate of the codes of data to each of several values.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> tfp_flows.latent.traverse(flow, 0, [-1, 0, 1], x=[[0.5, 0.5]]).shape
      TensorShape([3, 1, 2])

    Args:
      flow: the flow.
      dimension: index of the coordinate in the flattened code; a negative one counts
        from the end.
      values: the values, in the units of the noise.
      x: data `[*batch, *event_shape]` to start from, unless `z` is given.
      z: codes `[*batch, *noise]` to start from.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor `[len(values), *batch, *event_shape]`.

    Raises:
      TypeError: if `dimension` is not an integer.
      ValueError: unless one of `x` and `z` is given; if `dimension` is out of range, or
        `values` not a sequence of numbers; on a wrong shape.
    """
    if (x is None) == (z is None):
        raise ValueError("traverse needs x, the data to start from, or z, their codes.")
    event = flow.distribution.event_shape
    size = event.num_elements()
    dimension = check_integer("dimension", dimension, at_least=-size)
    if dimension >= size:
        raise ValueError(
            f"dimension must be in [{-size}, {size}) for codes {event}, got "
            f"{dimension}."
        )
    new = tf.cast(values, flow.dtype)
    if new.shape.rank != 1:
        raise ValueError(f"values must be [N], got shape {new.shape}.")
    if z is None:
        z = flow.encode(as_data(flow, x, "x"), **keywords)
    z = as_code(flow, z, "z")
    here = np.reshape(np.arange(size) == dimension % size, event)
    new = tf.reshape(new, [-1, *[1] * z.shape.rank])
    return flow.decode(tf.where(here, new, z), **keywords)


def translate(
    flow: Flow,
    x: Any,
    target: Flow | None = None,
    *,
    source_context: Any = None,
    target_context: Any = None,
) -> tf.Tensor:
    """Turns data of one kind into another kind with the same codes.

    Either one flow encodes and another one decodes, or the same flow does both, with
    another context.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.real_nvp((2,), width=4, num_classes=3, seed=0)
      >>> x = flow.sample(5, context=0)
      >>> tfp_flows.latent.translate(flow, x, source_context=0, target_context=2).shape
      TensorShape([5, 2])

    Args:
      flow: the flow of `x`.
      x: data `[*batch, *event_shape]`.
      target: the flow that decodes; `flow` itself by default.
      source_context: context of `x`, if `flow` takes one.
      target_context: context of the result, if `target` takes one.

    Returns:
      Tensor `[*batch, *target.event_shape]`.

    Raises:
      ValueError: if the codes of both flows have different shapes; if a context is
        missing or not expected; if neither another flow nor a context is given.
    """
    if target is None:
        if flow.context_shape is None:
            raise ValueError(
                "target must be another flow: this one takes no context that could "
                "differ."
            )
        target = flow
    source_shape, shape = flow.distribution.event_shape, target.distribution.event_shape
    if source_shape != shape:
        raise ValueError(
            f"the codes of flow have shape {source_shape} and those of target {shape}: "
            "they must be the same."
        )
    z = flow.encode(
        as_data(flow, x, "x"), **context_keyword(flow, source_context, "source_context")
    )
    return target.decode(
        tf.cast(z, target.dtype),
        **context_keyword(target, target_context, "target_context"),
    )


def temperatures(
    flow: Flow,
    n: int,
    values: Sequence[float],
    seed: int | None = None,
    **keywords: Any,
) -> tf.Tensor:
    r"""Draws samples from the same noise at several temperatures.

    Noise is scaled by the temperature about the mean of the base distribution: less
    gives fewer and more typical data (Kingma & Dhariwal 2018, section 6).

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> tfp_flows.latent.temperatures(flow, 10, [0.7, 1.0], seed=0).shape
      TensorShape([2, 10, 2])

    Args:
      flow: the flow.
      n: number of samples.
      values: the temperatures, 0 or more; 1 is the model.
      seed: integer seed of the noise.
      **keywords: `context` `[*batch, *context_shape]` for a flow with one.

    Returns:
      Tensor `[len(values), n, *batch, *event_shape]`.

    Raises:
      ValueError: if there are no temperatures, or one is negative, NaN or infinite.
    """
    heat = np.asarray(values, np.float64)
    if heat.ndim != 1 or heat.size == 0 or not (np.isfinite(heat) & (heat >= 0)).all():
        raise ValueError(f"values must be [T], 0 or more, got {values}.")
    seed = new_seed() if seed is None else seed
    return tf.stack(
        [flow.sample(n, seed=seed, temperature=t, **keywords) for t in heat]
    )
