"""Directions of codes that stand for an attribute, and data moved along them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_real
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_code, as_data, context_keyword

__all__ = ["attribute_vector", "attribute_vectors", "codes", "edit", "mean_code"]


def mean_code(
    flow: Flow, data: Any, *, context: Any = None, batch_size: int = 256
) -> tf.Tensor:
    """Computes the mean of the codes of data, which may be larger than the memory.

    Args:
      flow: the flow.
      data: array `[N, *event_shape]`, or a `tf.data.Dataset` of events or of batches of
        them; for a flow with a context, of pairs of these and their contexts.
      context: for an array: contexts `[N, *context_shape]`, or one for all.
      batch_size: number of events that are encoded at a time.

    Returns:
      Tensor of the base distribution's event shape.

    Raises:
      ValueError: if there are no data, a context is missing or not expected, or a code
        is NaN or infinite.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> mean_code(flow, flow.sample(100, seed=0)).shape
      TensorShape([2])
    """
    return tf.constant(_mean(flow, data, context, batch_size, "data"), flow.dtype)


def attribute_vector(
    flow: Flow,
    present: Any,
    absent: Any,
    *,
    present_context: Any = None,
    absent_context: Any = None,
    batch_size: int = 256,
) -> tf.Tensor:
    """Computes the mean code of data with an attribute minus that of data without it.

    Adding the vector to the code of any data gives them the attribute, see `edit`
    (Kingma & Dhariwal 2018, section 6).

    Example:
      >>> import numpy as np
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> x = np.random.default_rng(0).normal(size=(100, 2))
      >>> has = x[:, 0] > 0
      >>> vector = tfp_flows.latent.attribute_vector(flow, x[has], x[~has])
      >>> tfp_flows.latent.edit(flow, x[:5], vector, strength=[-1, 1]).shape
      TensorShape([2, 5, 2])

    Args:
      flow: the flow.
      present: data with the attribute, see `mean_code`.
      absent: data without it.
      present_context: contexts of `present`, if it is an array.
      absent_context: contexts of `absent`, if it is an array.
      batch_size: number of events that are encoded at a time.

    Returns:
      Tensor of the base distribution's event shape.

    Raises:
      ValueError: see `mean_code`; the message names the group.
    """
    mean = _mean(flow, present, present_context, batch_size, "present")
    mean = mean - _mean(flow, absent, absent_context, batch_size, "absent")
    return tf.constant(mean, flow.dtype)


def attribute_vectors(
    flow: Flow,
    data: Any,
    attributes: Any = None,
    *,
    context: Any = None,
    batch_size: int = 256,
) -> tf.Tensor:
    """Computes `attribute_vector` of several attributes, in one pass over the data.

    Example:
      >>> import numpy as np
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> x = np.random.default_rng(0).normal(size=(100, 2))
      >>> attribute_vectors(flow, x, attributes=x > 0).shape
      TensorShape([2, 2])

    Args:
      flow: the flow.
      data: array `[N, *event_shape]`, or a `tf.data.Dataset` of `(event, attributes)`,
        single or in batches; for a flow with a context `(event, attributes, context)`.
      attributes: for an array: booleans `[N]` or `[N, A]`, or the numbers 0 and 1.
      context: for an array: contexts `[N, *context_shape]`, or one for all.
      batch_size: number of events that are encoded at a time.

    Returns:
      Tensor `[A, *noise]` for attributes `[N, A]`, with `noise` the base
      distribution's event shape; `noise` for `[N]`.

    Raises:
      ValueError: if an attribute is the same in all data, has other values than 0 and
        1; see also `mean_code`.
    """
    total: Any = 0.0
    with_it: Any = 0.0
    having_it: Any = 0.0
    count = 0
    for z, labels in codes(
        flow, data, context, batch_size, "data", attributes, labelled=True
    ):
        has = _binary(labels)
        total, count = total + z.sum(0), count + len(z)
        with_it = with_it + np.tensordot(has, z, (0, 0))
        having_it = having_it + has.sum(0)
    one_sided = np.flatnonzero((having_it == 0) | (having_it == count))
    if one_sided.size:
        value = int(np.ravel(having_it)[one_sided[0]] > 0)
        raise ValueError(
            f"attribute {one_sided[0]} is {value} in all {count} events of data: its "
            "vector needs some with 0 and some with 1."
        )
    noise_rank = flow.distribution.event_shape.rank
    having_it = np.reshape(having_it, [*np.shape(having_it), *[1] * noise_rank])
    present, absent = with_it / having_it, (total - with_it) / (count - having_it)
    return tf.constant(present - absent, flow.dtype)


def edit(
    flow: Flow, x: Any, vector: Any, strength: Any = 1.0, **keywords: Any
) -> tf.Tensor:
    """Moves the codes of data along a vector, such as that of an attribute.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> edit(flow, [[0.0, 1.0]], vector=[1.0, 0.0], strength=[0.0, 0.5, 1.0]).shape
      TensorShape([3, 1, 2])

    Args:
      flow: the flow.
      x: data `[*batch, *event_shape]`.
      vector: a direction of codes, of the base distribution's event shape.
      strength: how many times the vector is added: a number, or several `[*strengths]`.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor `[*strengths, *batch, *event_shape]`.

    Raises:
      ValueError: on a wrong shape.
    """
    z = flow.encode(as_data(flow, x, "x"), **keywords)
    vector = as_code(flow, vector, "vector")
    if vector.shape.rank != flow.distribution.event_shape.rank:
        raise ValueError(
            f"vector must be one code {flow.distribution.event_shape}, got shape "
            f"{vector.shape}."
        )
    strength = tf.cast(strength, z.dtype)
    strength = tf.reshape(strength, [*strength.shape, *[1] * z.shape.rank])
    return flow.decode(z + strength * vector, **keywords)


def _mean(
    flow: Flow, data: Any, context: Any, batch_size: int, name: str
) -> np.ndarray:
    """Mean code, in float64."""
    total: Any = 0.0
    count = 0
    for z, _ in codes(flow, data, context, batch_size, name):
        total, count = total + z.sum(0), count + len(z)
    return total / count


def codes(
    flow: Flow,
    data: Any,
    context: Any,
    batch_size: int,
    name: str,
    attributes: Any = None,
    *,
    labelled: bool = False,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Codes of all data in float64, a batch at a time, with attributes if labelled."""
    batch_size = check_integer("batch_size", batch_size)
    conditional = flow.context_shape is not None
    parts = ["events", *["attributes"] * labelled, *["context"] * conditional]
    if isinstance(data, tf.data.Dataset):
        if attributes is not None or context is not None:
            raise ValueError(
                f"{name} is a dataset: its elements hold the attributes and contexts."
            )
        batches = _batches_of_dataset(flow, data, parts, batch_size, name)
    else:
        arrays = [_events(flow, data, name)]
        if labelled:
            arrays.append(_labels(attributes, len(arrays[0])))
        keyword = "context" if name == "data" else f"{name}_context"
        for contexts in context_keyword(flow, context, keyword).values():
            rank = len(flow.context_shape or ())
            arrays.append(_contexts(rank, contexts, len(arrays[0]), keyword))
        batches = (
            tuple(array[i : i + batch_size] for array in arrays)
            for i in range(0, len(arrays[0]), batch_size)
        )
    count = 0
    for batch in batches:
        found = dict(zip(parts, batch, strict=True))
        keywords = {"context": found["context"]} if conditional else {}
        x = as_data(flow, found["events"], name)
        z = flow.encode(x, **keywords).numpy().astype(np.float64)
        if not np.isfinite(z).all():
            raise ValueError(f"{name} must have finite codes, but some are not.")
        count += len(z)
        yield z, found.get("attributes")
    if not count:
        raise ValueError(f"{name} must hold at least one event, got none.")


def _batches_of_dataset(
    flow: Flow, data: tf.data.Dataset, parts: list[str], batch_size: int, name: str
) -> Iterator[tuple]:
    """Batches of a dataset, whose elements may be single examples or batches."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"{name} is a dataset without end: use take(n).")
    spec = data.element_spec
    if not isinstance(spec, tuple):
        data, spec = data.map(lambda x: (x,)), (spec,)
    if len(spec) != len(parts):
        raise ValueError(
            f"{name} must be a dataset of ({', '.join(parts)}), got {spec}."
        )
    if spec[0].shape.rank is None:
        raise ValueError(f"{name} must be a dataset of tensors of known rank.")
    single = spec[0].shape.rank == flow.event_shape.rank
    return iter(data.batch(batch_size) if single else data)


def _events(flow: Flow, data: Any, name: str) -> Any:
    """Data as an array `[N, *event_shape]`; an `np.memmap` is not read here."""
    check_real(name, data)
    data = data if tf.is_tensor(data) else np.asarray(data)
    event = flow.event_shape
    if len(data.shape) != event.rank + 1:
        raise ValueError(
            f"{name} must be [N, {', '.join(map(str, event))}], got shape "
            f"{list(data.shape)}."
        )
    return data


def _labels(attributes: Any, count: int) -> np.ndarray:
    attributes = np.asarray(attributes)
    if attributes.ndim not in (1, 2) or len(attributes) != count:
        raise ValueError(
            f"attributes must be [{count}] or [{count}, A], got shape "
            f"{list(attributes.shape)}."
        )
    return attributes


def _contexts(rank: int, context: Any, count: int, name: str) -> np.ndarray:
    """Contexts, one for each event; a single context is repeated."""
    context = np.asarray(context)
    if context.ndim == rank:
        return np.broadcast_to(context, (count, *context.shape))
    if len(context) != count:
        raise ValueError(
            f"{name} must be one, or one for each of {count} events, got shape "
            f"{list(context.shape)}."
        )
    return context


def _binary(labels: Any) -> np.ndarray:
    labels = np.asarray(labels).astype(np.float64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("attributes must be booleans, or the numbers 0 and 1.")
    return labels
