"""What can be done with the codes of a flow: mixing, moving and redrawing them.

All functions take a `tfp_flows.Flow` and data as the flow takes them, and give data
back; the code of data is `flow.encode(data)`. They cast what they are given to the
flow's dtype. Whatever the flow knows beside (`context`) is a keyword; it has the batch
shape of the data, or one that broadcasts with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import Chain, MultiScale
from tfp_flows.core.shapes import broadcast_context
from tfp_flows.distributions import Flow

__all__ = [
    "attribute_vector",
    "attribute_vectors",
    "edit",
    "interpolate",
    "level_slices",
    "mean_code",
    "resample_levels",
    "slerp",
    "temperatures",
    "translate",
    "traverse",
]


def interpolate(
    flow: Flow, a: Any, b: Any, steps: int, *, kind: str = "linear", **keywords
) -> tf.Tensor:
    r"""Data on the way from `a` to `b`, decoded from codes between theirs.

    Codes $z_a$ and $z_b$ are mixed at `steps` equidistant $t$ from 0 to 1:

    * `"linear"`: $(1 - t) z_a + t z_b$. In many dimensions the norms of Gaussian noise
      all lie near $\sqrt{D}$, and the middle of a straight line between two codes at
      $\sqrt{D/2}$, where there is next to none: decoded, it looks like a sample of a
      low temperature.
    * `"spherical"`: `slerp` about the mean of the base distribution, in units of its
      standard deviations (White 2016, "Sampling Generative Networks", section 2.1).
      Right for Gaussian noise, all directions of which are alike. Wrong for others:
      logistic noise lies in no thin shell of one radius in all directions, and a
      rotation changes its density; use `"linear"`.

    Args:
      flow: the flow.
      a: data `[*batch, *event_shape]` at the start.
      b: data at the end; the batch shapes broadcast.
      steps: number of data on the way, both ends included; 2 or more.
      kind: `"linear"` or `"spherical"`.
      **keywords: `context` for a flow with one, the same for both ends.

    Returns:
      Tensor `[steps, *batch, *event_shape]`. The first and the last are the decoded
      codes of `a` and `b`: those themselves, up to the flow's round-trip error.

    Raises:
      ValueError: on another kind, fewer than 2 steps, or a wrong shape; if the base
        distribution has no mean and standard deviation for `"spherical"`.
    """
    if kind not in ("linear", "spherical"):
        raise ValueError(f'kind must be "linear" or "spherical", got {kind!r}.')
    if steps < 2:
        raise ValueError(f"steps must be 2 or more, got {steps}.")
    a, b = _data(flow, a, "a"), _data(flow, b, "b")
    z_a, z_b = flow.encode(a, **keywords), flow.encode(b, **keywords)
    ndims = flow.distribution.event_shape.rank
    rank = max(z_a.shape.rank, z_b.shape.rank)
    t = tf.reshape(tf.linspace(tf.zeros([], z_a.dtype), 1.0, steps), [-1] + rank * [1])
    if kind == "linear":
        z = (1 - t) * z_a + t * z_b
    else:
        mean, scale = _mean_and_stddev(flow, z_a, keywords)
        z = slerp((z_a - mean) / scale, (z_b - mean) / scale, t, ndims) * scale + mean
        # The ends without the rounding of the way there and back.
        z = tf.where(t == 0, z_a, tf.where(t == 1, z_b, z))
    return flow.decode(z, **keywords)


def slerp(a: Any, b: Any, t: Any, event_ndims: int = 1) -> tf.Tensor:
    r"""Spherical linear interpolation of vectors.

    The direction turns at a constant speed along the great circle from that of $a$ to
    that of $b$ (Shoemake 1985), and the norm changes linearly:

    $$ \left((1 - t) |a| + t |b|\right)
       \left(\cos(t \theta)\, u + \sin(t \theta)\, w\right), $$

    with $u = a / |a|$, $\theta$ the angle to $b$, and $w$ the unit vector across $u$
    in the plane of $a$ and $b$. For vectors of one norm it is the formula of White
    2016. Between opposite vectors, where every half circle would do, one is taken that
    depends on $a$ alone. A zero vector has the direction of the other one.

    Args:
      a: tensor `[*batch, *event]`.
      b: tensor `[*batch, *event]`; shapes broadcast.
      t: tensor that broadcasts with the batch and ones for the event: 0 is `a`, 1 `b`.
      event_ndims: number of trailing dimensions that make one vector.

    Returns:
      Tensor of the broadcast shape, exactly `a` at 0 and `b` at 1.
    """
    a = tf.convert_to_tensor(a)
    b = tf.convert_to_tensor(b, a.dtype)
    t = tf.convert_to_tensor(t, a.dtype)
    axes = list(range(-event_ndims, 0))
    norm_a, norm_b = _norm(a, axes), _norm(b, axes)
    u, v = tf.math.divide_no_nan(a, norm_a), tf.math.divide_no_nan(b, norm_b)
    u, v = tf.where(norm_a > 0, u, v), tf.where(norm_b > 0, v, u)
    # Kahan's formula keeps its digits at all angles, the inverse cosine does not.
    angle = 2 * tf.atan2(_norm(u - v, axes), _norm(u + v, axes))
    across = v - _dot(u, v, axes) * u
    tiny = 100 * np.finfo(a.dtype.as_numpy_dtype).eps
    across = tf.where(_norm(across, axes) > tiny, across, _any_across(u, axes))
    across = tf.math.divide_no_nan(across, _norm(across, axes))
    # What cancellation has left along u.
    across -= _dot(u, across, axes) * u
    across = tf.math.divide_no_nan(across, _norm(across, axes))
    direction = tf.cos(t * angle) * u + tf.sin(t * angle) * across
    mixed = ((1 - t) * norm_a + t * norm_b) * direction
    return tf.where(t == 0, a, tf.where(t == 1, b, mixed))


def mean_code(
    flow: Flow, data: Any, *, context: Any = None, batch_size: int = 256
) -> tf.Tensor:
    """The mean of the codes of data, which may be larger than the memory.

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
    """
    _, mean = _sums(flow, data, None, context, batch_size, "data")
    return mean


def attribute_vector(
    flow: Flow,
    with_: Any,
    without: Any,
    *,
    with_context: Any = None,
    without_context: Any = None,
    batch_size: int = 256,
) -> tf.Tensor:
    """Mean code of data with an attribute less that of data without it.

    Kingma & Dhariwal 2018, section 6. Added to the code of any data, it gives them
    the attribute: see `edit`.

    Args:
      flow: the flow.
      with_: data with the attribute, see `mean_code`.
      without: data without it.
      with_context: contexts of `with_`, if it is an array.
      without_context: contexts of `without`, if it is an array.
      batch_size: number of events that are encoded at a time.

    Returns:
      Tensor of the base distribution's event shape.

    Raises:
      ValueError: see `mean_code`; the message names the group.
    """
    groups = ((with_, with_context, "with_"), (without, without_context, "without"))
    present, absent = (
        _sums(flow, data, None, context, batch_size, name)[1]
        for data, context, name in groups
    )
    return present - absent


def attribute_vectors(
    flow: Flow,
    data: Any,
    attributes: Any = None,
    *,
    context: Any = None,
    batch_size: int = 256,
) -> tf.Tensor:
    """`attribute_vector` of each of several attributes, in one pass over the data.

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
    (present, absent), _ = _sums(
        flow,
        data,
        () if attributes is None else attributes,
        context,
        batch_size,
        "data",
    )
    return present - absent


def edit(flow: Flow, x: Any, vector: Any, strength: Any = 1.0, **keywords) -> tf.Tensor:
    """Data whose codes are moved along a vector, such as that of an attribute.

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
    z = flow.encode(_data(flow, x, "x"), **keywords)
    vector = _code(flow, vector, "vector")
    if vector.shape.rank != flow.distribution.event_shape.rank:
        raise ValueError(
            f"vector must be one code {flow.distribution.event_shape}, got shape "
            f"{vector.shape}."
        )
    strength = tf.cast(strength, z.dtype)
    strength = tf.reshape(strength, [*strength.shape, *[1] * z.shape.rank])
    return flow.decode(z + strength * vector, **keywords)


def traverse(
    flow: Flow,
    dimension: int,
    values: Sequence[float],
    *,
    x: Any = None,
    z: Any = None,
    **keywords,
) -> tf.Tensor:
    """Data whose codes have one coordinate set to each of several values.

    Args:
      flow: the flow.
      dimension: index of the coordinate in the flattened code; a negative one counts
        from the end.
      values: the values, in the units of the noise.
      x: data `[*batch, *event_shape]` to start from, or
      z: codes to start from.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor `[len(values), *batch, *event_shape]`.

    Raises:
      ValueError: unless one of `x` and `z` is given; if `dimension` is out of range, or
        `values` not a sequence of numbers; on a wrong shape.
    """
    if (x is None) == (z is None):
        raise ValueError("traverse needs x, the data to start from, or z, their codes.")
    event = flow.distribution.event_shape
    size = event.num_elements()
    if not -size <= dimension < size:
        raise ValueError(
            f"dimension must be in [{-size}, {size}) for codes {event}, got "
            f"{dimension}."
        )
    values = tf.cast(values, flow.dtype)
    if values.shape.rank != 1:
        raise ValueError(f"values must be [N], got shape {values.shape}.")
    if z is None:
        z = flow.encode(_data(flow, x, "x"), **keywords)
    z = _code(flow, z, "z")
    here = np.reshape(np.arange(size) == dimension % size, event)
    values = tf.reshape(values, [-1, *[1] * z.shape.rank])
    return flow.decode(tf.where(here, values, z), **keywords)


def translate(
    flow: Flow,
    x: Any,
    target: Flow | None = None,
    *,
    source_context: Any = None,
    target_context: Any = None,
) -> tf.Tensor:
    """Data of another kind with the same codes.

    One flow encodes and another one decodes; or the same flow does both, under another
    context. What the kinds have in common is then what their codes have in common.

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
        _data(flow, x, "x"), **_context(flow, source_context, "source_context")
    )
    return target.decode(
        tf.cast(z, target.dtype), **_context(target, target_context, "target_context")
    )


def temperatures(
    flow: Flow,
    n: int,
    temperatures: Sequence[float],
    seed: int | None = None,
    **keywords,
) -> tf.Tensor:
    r"""Samples from the same noise at several temperatures.

    Noise is scaled by the temperature about the mean of the base distribution: less
    gives fewer and more typical data (Kingma & Dhariwal 2018, section 6).

    Args:
      flow: the flow.
      n: number of samples.
      temperatures: the temperatures, 0 or more; 1 is the model.
      seed: integer seed of the noise.
      **keywords: `context` `[*batch, *context_shape]` for a flow with one.

    Returns:
      Tensor `[len(temperatures), n, *batch, *event_shape]`.

    Raises:
      ValueError: if there are no temperatures, or one is negative, NaN or infinite.
    """
    heat = np.asarray(temperatures, np.float64)
    if heat.ndim != 1 or heat.size == 0 or not (np.isfinite(heat) & (heat >= 0)).all():
        raise ValueError(f"temperatures must be [T], 0 or more, got {temperatures}.")
    seed = random.randrange(2**31) if seed is None else seed
    return tf.stack(
        [flow.sample(n, seed=seed, temperature=t, **keywords) for t in heat]
    )


def level_slices(flow: Flow) -> list[slice]:
    """Where in a code the noise of each level of a multi-scale flow lies.

    The levels come in the order in which data meet them: the first holds the finest
    details, the last what is left at the coarsest scale. The noise of level `i` is
    `z[..., level_slices(flow)[i]]`.

    Args:
      flow: a flow whose bijector ends, on the side of the noise, in a
        `tfp_flows.bijectors.MultiScale`.

    Returns:
      A slice for each level.

    Raises:
      ValueError: if the flow is not of that kind.
    """
    bijector = flow.bijector
    while isinstance(bijector, Chain) and bijector.bijectors:
        bijector = bijector.bijectors[-1]
    if not isinstance(bijector, MultiScale):
        raise ValueError(
            f"{flow.name} has no levels: its noise meets {type(bijector).__name__} "
            "first, not a MultiScale."
        )
    ends = np.cumsum([math.prod(shape) for shape in bijector.part_shapes]).tolist()
    return [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]


def resample_levels(
    flow: Flow,
    x: Any,
    keep: Sequence[int],
    *,
    temperature: float = 1.0,
    seed: int | None = None,
    **keywords,
) -> tf.Tensor:
    """Data with the noise of some levels kept and that of the others drawn anew.

    What changes is what those levels hold. Keeping the last levels alone keeps most of
    an image in few numbers (Dinh et al. 2017, appendix; "conceptual compression" in
    Gregor et al. 2016).

    Args:
      flow: a multi-scale flow, see `level_slices`.
      x: data `[*batch, *event_shape]`.
      keep: indices of levels to keep; 0 is the finest, -1 the coarsest.
      temperature: by which the new noise is scaled about its mean, 0 or more.
      seed: integer seed of the new noise.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor `[*batch, *event_shape]`.

    Raises:
      ValueError: if the flow has no levels, or `keep` names one that does not exist.
    """
    slices = level_slices(flow)
    count = len(slices)
    if any(not -count <= level < count for level in keep):
        raise ValueError(
            f"keep must hold levels in [{-count}, {count}), got {list(keep)}."
        )
    z = flow.encode(_data(flow, x, "x"), **keywords)
    kept = np.zeros(z.shape[-1], bool)
    for level in keep:
        kept[slices[level]] = True
    seed = random.randrange(2**31) if seed is None else seed
    base, given = flow.distribution, _of_base(flow, z, keywords)
    noise = base.sample(
        () if given else tf.shape(z)[:-1], seed=tf.constant([0, seed]), **given
    )
    mean = base.mean(**given)
    noise = mean + tf.cast(temperature, z.dtype) * (noise - mean)
    return flow.decode(tf.where(kept, z, noise), **keywords)


# Values and their shapes.


def _data(flow: Flow, x: Any, name: str) -> tf.Tensor:
    return _event(flow, x, flow.event_shape, name)


def _code(flow: Flow, z: Any, name: str) -> tf.Tensor:
    return _event(flow, z, flow.distribution.event_shape, name)


def _event(flow: Flow, x: Any, event: tf.TensorShape, name: str) -> tf.Tensor:
    """`x` in the flow's dtype, known to end in an event."""
    x = tf.cast(x, flow.dtype)
    rank = x.shape.rank
    if rank < event.rank or not x.shape[rank - event.rank :].is_compatible_with(event):
        raise ValueError(f"{name} must end in {event}, got shape {x.shape}.")
    return x


def _context(flow: Flow, context: Any, name: str) -> dict[str, Any]:
    if context is None and flow.context_shape is not None:
        raise ValueError(f"{name} is required: {flow.name} takes a context.")
    if context is not None and flow.context_shape is None:
        raise ValueError(f"{name} was given, but {flow.name} takes no context.")
    return {} if context is None else {"context": context}


def _of_base(flow: Flow, z: tf.Tensor, keywords) -> dict[str, Any]:
    """The context that the base distribution takes, in the batch shape of codes."""
    _, of_base = flow._split(keywords)
    if "context" not in of_base:
        return {}
    base = flow.distribution
    _, context = broadcast_context(
        z, base.event_shape.rank, of_base["context"], base.context_shape, flow.name
    )
    return {"context": context}


def _mean_and_stddev(flow: Flow, z: tf.Tensor, keywords):
    given = _of_base(flow, z, keywords)
    base = flow.distribution
    try:
        found = base.mean(**given), base.stddev(**given)
        static = [tf.get_static_value(v) for v in found]
        known = all(v is None or np.isfinite(v).all() for v in static)
    except NotImplementedError:
        known = False
    if not known:
        raise ValueError(
            f'kind="spherical" needs the mean and the standard deviation of the base '
            f'distribution, which {base.name} does not have: use "linear".'
        )
    return found


def _norm(x, axes):
    # The largest entry in front: squares of large and of small numbers do not fit.
    largest = tf.reduce_max(tf.abs(x), axes, keepdims=True)
    scaled = tf.math.divide_no_nan(x, largest)
    return largest * tf.sqrt(tf.reduce_sum(tf.square(scaled), axes, keepdims=True))


def _dot(a, b, axes):
    return tf.reduce_sum(a * b, axes, keepdims=True)


def _any_across(u, axes):
    """A vector across the unit vector `u`: an axis on which it hardly lies."""
    batch = tf.shape(u)[: u.shape.rank - len(axes)]
    flat = tf.reshape(u, tf.concat([batch, [-1]], 0))
    axis = tf.one_hot(
        tf.argmin(tf.abs(flat), -1), tf.shape(flat)[-1], dtype=u.dtype, axis=-1
    )
    axis = tf.reshape(axis, tf.shape(u))
    return axis - _dot(u, axis, axes) * u


# Sums over data.


def _sums(flow, data, attributes, context, batch_size, name):
    """Mean codes over data, `(with and without each attribute, of all)`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}.")
    shape = tuple(flow.distribution.event_shape)
    wanted = attributes is not None
    total, count, has, many, counts = 0.0, 0, None, 0.0, 0
    for x, labels, keywords in _batches(
        flow, data, attributes, context, batch_size, name
    ):
        z = flow.encode(x, **keywords).numpy().astype(np.float64)
        if not np.isfinite(z).all():
            raise ValueError(f"{name} must have finite codes, but some are not.")
        total, count = total + z.sum(0), count + len(z)
        if wanted:
            has = _binary(labels)
            many = many + np.tensordot(has, z, [[0], [0]])
            counts = counts + has.sum(0)
    if not count:
        raise ValueError(f"{name} must hold at least one event, got none.")
    mean = tf.constant(total / count, flow.dtype)
    if not wanted:
        return None, mean
    one_sided = np.flatnonzero((counts == 0) | (counts == count))
    if one_sided.size:
        value = int(np.reshape(counts, [-1])[one_sided[0]] > 0)
        raise ValueError(
            f"attribute {one_sided[0]} is {value} in all {count} events of {name}: its "
            "vector needs some with 0 and some with 1."
        )
    counts = np.reshape(counts, [*np.shape(counts), *[1] * len(shape)])
    groups = many / counts, (total - many) / (count - counts)
    return [tf.constant(group, flow.dtype) for group in groups], mean


def _batches(flow, data, attributes, context, batch_size, name) -> Iterator[tuple]:
    """Batches `(x, attributes or None, keywords)` of an array or a dataset."""
    wanted = attributes is not None
    conditional = flow.context_shape is not None
    if isinstance(data, tf.data.Dataset):
        if context is not None or (wanted and np.size(attributes)):
            raise ValueError(
                f"{name} is a dataset: its elements hold the attributes and contexts."
            )
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(f"{name} is a dataset without end: use take(n).")
        parts = 1 + wanted + conditional
        spec = data.element_spec
        if (len(spec) if isinstance(spec, tuple) else 1) != parts:
            what = ["events", *["attributes"] * wanted, *["context"] * conditional]
            raise ValueError(
                f"{name} must be a dataset of ({', '.join(what)}), got {spec}."
            )
        first = spec[0] if isinstance(spec, tuple) else spec
        if first.shape.rank is None:
            raise ValueError(f"{name} must be a dataset of tensors of known rank.")
        if first.shape.rank == flow.event_shape.rank:
            data = data.batch(batch_size)
        elements = ((e if isinstance(e, tuple) else (e,)) for e in data)
    else:
        arrays = _arrays(flow, data, attributes, context, name)
        elements = (
            tuple(array[i : i + batch_size] for array in arrays)
            for i in range(0, len(arrays[0]), batch_size)
        )
    for x, *rest in elements:
        x = _data(flow, x, name)
        labels = rest.pop(0) if wanted else None
        yield x, labels, {"context": rest[0]} if conditional else {}


def _arrays(flow, data, attributes, context, name):
    """`(data[, attributes][, contexts])`, of one length."""
    data = data if tf.is_tensor(data) else np.asarray(data)
    event = flow.event_shape
    if len(data.shape) != event.rank + 1:
        raise ValueError(
            f"{name} must be [N, {', '.join(map(str, event))}], got shape "
            f"{list(data.shape)}."
        )
    arrays = [data]
    if attributes is not None:
        attributes = np.asarray(attributes)
        if attributes.ndim not in (1, 2) or len(attributes) != len(data):
            raise ValueError(
                f"attributes must be [{len(data)}] or [{len(data)}, A], got shape "
                f"{list(attributes.shape)}."
            )
        arrays.append(attributes)
    if flow.context_shape is not None or context is not None:
        label = {"with_": "with_context", "without": "without_context"}
        label = label.get(name, "context")
        context = np.asarray(_context(flow, context, label)["context"])
        single = context.ndim == len(flow.context_shape)
        if single:
            context = np.broadcast_to(context, (len(data), *context.shape))
        if len(context) != len(data):
            raise ValueError(
                f"{label} must be one, or one for each of {len(data)} events, got "
                f"shape {list(context.shape)}."
            )
        arrays.append(context)
    return arrays


def _binary(labels) -> np.ndarray:
    labels = np.asarray(labels).astype(np.float64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("attributes must be booleans, or the numbers 0 and 1.")
    return labels
