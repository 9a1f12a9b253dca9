"""Makes arrays of the data that users give to a `FlowModel`, and checks them."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors import JointBijector
from tfp_flows.bijectors.chain import members
from tfp_flows.core.data_warnings import (
    ConstantDataWarning,
    DataWarning,
    WholeNumbersWarning,
)
from tfp_flows.distributions import LowerBound
from tfp_flows.training import multi_device

__all__ = [
    "START_NUMBERS",
    "START_ROWS",
    "Data",
    "as_array",
    "as_inputs",
    "check",
    "check_surface",
    "class_weights",
    "describe_oddities",
    "is_stream",
    "surface_of",
    "take",
    "take_stream",
    "whole_class_weight",
    "with_shapes",
]

# A flow is initialised from at most this many examples, and this many numbers.
START_ROWS = 10_000
START_NUMBERS = 2**19

# Numbers that are checked at a time, to limit memory.
_PIECE = 2**22

# Examples that are searched for oddities of columns.
_LOOK = 10_000

# Examples that tell in which units data are.
_ROWS = 256

# Pixels that are searched for evenly spaced levels.
_PIXELS = 2**18

_NUMERIC = "biuf"


class Data(NamedTuple):
    """Examples, contexts and weights; `None` if contexts or weights are not given.

    Contexts of several parts are a dict of arrays.
    """

    x: Any
    context: Any = None
    weight: Any = None

    def map(self, function: Callable[[Any], Any]) -> Data:
        """The results of a function of each array."""
        return tf.nest.map_structure(
            lambda part: None if part is None else function(part), self
        )


# Containers.


def is_stream(data: Any) -> bool:
    """Whether data come batch by batch, instead of as arrays."""
    if isinstance(
        data,
        (
            tf.data.Dataset,
            tf.distribute.DistributedDataset,
            keras.utils.PyDataset,
            Iterator,
        ),
    ):
        return True
    is_array = hasattr(data, "__array__") or hasattr(data, "dtype")
    is_plain = isinstance(data, (list, tuple, dict, str, bytes))
    return isinstance(data, Iterable) and not is_array and not is_plain


def as_array(name: str, value: Any) -> np.ndarray:
    """Makes a NumPy array of numbers in any container, with the dtype they have there.

    Args:
      name: name of the argument, for errors.
      value: an array, a (nested) list, a tensor, a variable, a data frame or a column
        of one, or anything else that NumPy converts.

    Returns:
      The array.

    Raises:
      TypeError: if it does not hold real numbers.
      ValueError: if rows differ in length, or entries are masked.
    """
    if isinstance(value, (list, tuple)) and any(map(_is_masked, value)):
        value = np.ma.stack(value)
    if _is_masked(value):
        masked = np.ma.getmaskarray(value)
        if masked.any():
            raise ValueError(
                f"{name} is a masked array with {int(masked.sum())} masked value(s). "
                "A density needs whole examples: leave rows with masked values out, or "
                "fill them in (x.filled(...))."
            )
        value = value.data
    if isinstance(value, dict):
        raise TypeError(
            f"{name} must be an array, got a dict with the keys {sorted(value)}: take "
            "the array out of it"
            + (
                ", or build the flow with a context_encoder and, as context_shape, a "
                "dict of shapes."
                if name == "context"
                else "."
            )
        )
    if isinstance(value, (tf.SparseTensor, tf.RaggedTensor)) or hasattr(
        value, "toarray"
    ):
        raise TypeError(
            f"{name} must be a dense array, got {type(value).__name__}: convert it "
            "(.toarray(), tf.sparse.to_dense, .to_tensor())."
        )
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be an array of numbers, got the text {value!r}.")
    if _is_frame(value):
        return _frame_as_array(name, value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of numbers with rows of one length: {error}"
        ) from error
    if array.dtype.names:
        raise TypeError(
            f"{name} is a structured array with the fields {list(array.dtype.names)}: "
            "convert it with numpy.lib.recfunctions.structured_to_unstructured."
        )
    if array.dtype == tf.bfloat16.as_numpy_dtype:
        return array.astype(np.float32)
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name} holds complex numbers; a density is over real ones. Give real and "
            "imaginary parts as two features."
        )
    if array.dtype.kind == "O":
        array = _objects_as_numbers(name, array)
    if array.dtype.kind not in _NUMERIC:
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}.")
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array with an axis of examples.")
    return array


def _is_masked(value: Any) -> bool:
    return isinstance(value, np.ma.MaskedArray)


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def _frame_as_array(name: str, frame: Any) -> np.ndarray:
    """Makes an array of a data frame; an error names columns that hold no numbers."""
    columns, wrong = [], {}
    for i, label in enumerate(frame.columns):
        # Names may be equal; not every kind of frame takes a position.
        part = frame.iloc[:, i] if hasattr(frame, "iloc") else frame[label]
        column = np.asarray(part)
        if column.dtype.kind == "O":
            with contextlib.suppress(TypeError, ValueError):
                column = column.astype(np.float64)
        if column.dtype.kind not in _NUMERIC:
            wrong[label] = part.dtype
        columns.append(column)
    if wrong:
        listed = ", ".join(f"{k!r} ({v})" for k, v in wrong.items())
        raise TypeError(
            f"{name} has columns that do not hold numbers, or have gaps: {listed}. "
            "Leave them out or encode them."
        )
    if not columns:
        raise ValueError(f"{name} has no columns.")
    return np.stack(columns, 1)


def _objects_as_numbers(name: str, array: np.ndarray) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must hold numbers, got an array of Python objects: {error}."
        ) from error


def _labels_of(value: Any) -> list[Any] | None:
    """Names of the columns of a data frame."""
    return list(value.columns) if _is_frame(value) else None


def take(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    flow: tfd.Distribution,
    name: str = "x",
) -> tuple[Data, list[Any] | None]:
    """Makes arrays of data that are not a stream.

    Args:
      x: examples, or a tuple or list `(x,)`, `(x, context)`, `(x, context, weights)`.
      y: contexts, unless they are in `x`.
      sample_weight: weights, unless they are in `x`.
      flow: the flow that the data are for.
      name: name of the argument, for errors.

    Returns:
      The data, and the names of the columns of `x` if it has any.
    """
    if x is None:
        raise ValueError(f"{name} must be given: an array, a dataset or a generator.")
    x, context, weight = _unpack(x, flow.event_shape.rank, name)
    if y is not None and context is not None:
        raise ValueError(f"the context is given twice: in {name} and beside it.")
    if sample_weight is not None and weight is not None:
        raise ValueError(f"weights are given twice: in {name} and as sample_weight.")
    if x is None:
        raise ValueError(f"{name} must be given: an array, a dataset or a generator.")
    context = y if context is None else context
    weight = sample_weight if weight is None else weight
    data = Data(
        as_array("x", x),
        _context_as_array(context, flow),
        None if weight is None else _flat(as_array("sample_weight", weight)),
    )
    if len(data.x) == 0:
        raise ValueError("x must hold at least one example; it is empty.")
    return data, _labels_of(x)


def _context_as_array(context, flow):
    """An array of contexts, or a dict of arrays if they have several parts."""
    shape = getattr(flow, "context_shape", None)
    if context is None or not isinstance(shape, dict):
        return None if context is None else as_array("context", context)
    if not isinstance(context, Mapping) or set(context) != set(shape):
        is_dict = isinstance(context, Mapping)
        found = f"the parts {sorted(context)}" if is_dict else type(context).__name__
        raise ValueError(
            f"context must be a dict of arrays with the parts {sorted(shape)}, got "
            f"{found}."
        )
    return {k: as_array(f"context[{k!r}]", context[k]) for k in shape}


def _unpack(value, event_rank, name):
    """`(x, context, weight)` of a tuple or list of them, or of `x` alone."""
    if not isinstance(value, (tuple, list)):
        return value, None, None
    parts = list(value)
    if not any(_is_part(part) for part in parts):
        nested = parts[0] if len(parts) == 1 else None
        if isinstance(value, tuple) and isinstance(nested, (tuple, list)):
            return _unpack(nested, event_rank, name)
        is_parts = isinstance(value, tuple) and any(part is None for part in parts)
        if not is_parts:
            return value, None, None
    ranks = {len(part.shape) if hasattr(part, "shape") else None for part in parts}
    if ranks == {event_rank}:
        # One array for each example.
        if any(map(_is_masked, parts)):
            return np.ma.stack(parts), None, None
        return np.stack([np.asarray(part) for part in parts]), None, None
    if len(parts) > 3:
        raise ValueError(
            f"{name} must be x, (x,), (x, context) or (x, context, sample_weight); got "
            f"{len(parts)} parts."
        )
    x, context, weight = (*parts, None, None)[:3]
    if isinstance(x, (tuple, list)) and any(map(_is_part, x)):
        x, inner, _ = _unpack(x, event_rank, name)
        if inner is not None and context is not None:
            raise ValueError(f"the context is given twice in {name}.")
        context = inner if context is None else context
    return x, context, weight


def _is_part(value):
    """Whether it is an array or a dict of arrays, not a list of numbers."""
    return hasattr(value, "shape") or _is_frame(value) or isinstance(value, dict)


def as_inputs(data: Any) -> tuple[Any, Any]:
    """Inputs of the model, and weights, from the batch that Keras gives to a step.

    Args:
      data: `x`, `(x, context)` or `(x, context, weight)`, where a context without
        columns stands for none, and `x` may itself be `(x, context)`.

    Returns:
      `(x or (x, context), weight or None)`.
    """
    x, context, weight = keras.utils.unpack_x_y_sample_weight(data)
    if is_placeholder(context):
        context = None
    if isinstance(x, (tuple, list)):
        if len(x) == 1:
            (x,) = x
        elif context is None and len(x) == 2:
            x, context = x
        else:
            raise ValueError(
                "batches must be x, (x, context) or (x, context, sample_weight); got "
                f"one whose first part is a {type(x).__name__} of {len(x)} parts."
            )
    return (x if context is None else (x, context)), _flat(weight)


def _flat(weight: Any) -> Any:
    """Weights `[n, 1]` as `[n]`."""
    if weight is None or not hasattr(weight, "shape"):
        return weight
    shape = tf.TensorShape(weight.shape)
    if shape.rank is None:
        return tf.reshape(weight, [-1])
    return weight[:, 0] if shape.rank == 2 and shape[1] == 1 else weight


def placeholder(rows: int) -> np.ndarray:
    """An array without columns that stands for no context.

    If the context were `None`, Keras would drop the weights beside it.
    """
    return np.empty((rows, 0), np.float32)


def is_placeholder(context: Any) -> bool:
    """Whether it is a `placeholder`."""
    if context is None or isinstance(context, dict):
        return False
    shape = tf.TensorShape(context.shape)
    return (shape.rank or 0) > 1 and shape[-1] == 0


# Streams.


def take_stream(
    stream: Any,
    flow: tfd.Distribution,
    rows: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> tuple[Any, Data]:
    """Reads the first batches of a dataset, a generator or another stream.

    Args:
      stream: the stream.
      flow: the flow that the data are for.
      rows: number of examples to read, if there are so many; at least one batch is.
      strategy: the strategy of the model.

    Returns:
      The stream, with all batches still in it, and the first batches joined to one. Of
      a `tf.distribute.DistributedDataset`, these are the examples of all replicas.
    """
    stream = with_shapes(stream, flow)
    if isinstance(stream, keras.utils.PyDataset):
        source = (stream[i] for i in range(max(stream.num_batches or 1, 1)))
    else:
        source = iter(stream)
    batches, parts, found = [], [], 0
    for batch in source:
        batches.append(batch)
        if strategy is not None:
            batch = multi_device.whole_batch(batch, strategy)
        part = _batch_as_data(batch, flow)
        parts.append(part)
        found += len(part.x)
        if found >= min(rows, START_NUMBERS // max(part.x[0].size, 1)):
            break
    if not batches:
        ended = "exhausted" if isinstance(stream, Iterator) else "empty"
        raise ValueError(f"x must hold at least one batch; it is {ended}.")
    first = batches[0] if isinstance(batches[0], tuple) else ()
    has_none = any(part is None for part in first)
    if has_none and isinstance(stream, keras.utils.PyDataset):
        raise ValueError(
            "a PyDataset cannot yield None among its parts, as Keras drops what stands "
            "beside it: yield x, (x, context) or (x, context, sample_weight), with "
            "a context np.empty((n, 0)) for none."
        )
    if isinstance(stream, Iterator):
        stream = _again(batches, source)
    whole = tf.nest.map_structure(
        lambda *pieces: None if pieces[0] is None else np.concatenate(pieces), *parts
    )
    return stream, whole


def _batch_as_data(batch: Any, flow: tfd.Distribution) -> Data:
    if isinstance(batch, dict):
        raise TypeError(
            "batches must be x, (x, context) or (x, context, sample_weight); got dicts "
            f"with the keys {sorted(batch)}. Map them: "
            "dataset.map(lambda d: d[...]) or (d[...], d[...])."
        )
    if isinstance(batch, (tuple, list)):
        if len(batch) > 3:
            raise ValueError(
                "batches must be x, (x, context) or (x, context, sample_weight); got "
                f"{len(batch)} parts."
            )
        batch = tuple(batch)
    inputs, weight = as_inputs(batch)
    x, context = inputs if isinstance(inputs, (tuple, list)) else (inputs, None)
    x = as_array("x", x)
    event = tuple(flow.event_shape)
    if x.shape == event:
        raise ValueError(
            f"x must have shape [batch, {', '.join(map(str, event))}], got {x.shape}: "
            "the examples come one by one, put them into batches (dataset.batch(128))."
        )
    return Data(
        x,
        _context_as_array(context, flow),
        None if weight is None else _flat(as_array("sample_weight", weight)),
    )


def _again(first, rest):
    """A generator of all batches. Keras takes generators of tuples only."""
    for batch in itertools.chain(first, rest):
        yield batch if isinstance(batch, tuple) else (batch,)


def with_shapes(stream: Any, flow: tfd.Distribution) -> Any:
    """Sets the shapes of a dataset's elements, from the flow, if they are unknown."""
    if not isinstance(stream, tf.data.Dataset):
        return stream
    spec = stream.element_spec
    first = spec[0] if isinstance(spec, tuple) and spec else spec
    if not isinstance(first, tf.TensorSpec) or first.shape.rank is not None:
        return stream
    of_context = getattr(flow, "context_shape", None) or ()
    shapes = [tuple(flow.event_shape), of_context, ()]

    def shaped(*parts):
        known = tuple(
            {k: _with_shape(v, shape.get(k, v.shape)) for k, v in part.items()}
            if isinstance(part, dict) and isinstance(shape, dict)
            else _with_shape(part, shape)
            for part, shape in zip(parts, shapes, strict=False)
        )
        return known if isinstance(spec, tuple) else known[0]

    return stream.map(shaped)


def _with_shape(part, shape):
    """A batch of tensors whose shape is known; what is none is returned as it is."""
    if getattr(part, "shape", None) is None or part.shape.rank is not None:
        return part
    return tf.ensure_shape(part, [None, *shape])


# Checks.


def check(
    data: Data,
    flow: tfd.Distribution,
    labels: Sequence[Any] | None = None,
    quantum: float = 0.0,
) -> None:
    """Raises an error unless data are what a flow takes.

    Args:
      data: arrays.
      flow: any TFP distribution.
      labels: names of the columns of `x`.
      quantum: width of the noise that will be added to `x`.

    Raises:
      ValueError: on a wrong shape, unequal numbers, a context that is missing or not
        expected, NaN or infinity (naming the features), or values outside of the
        domain of the flow or of its dtype.
    """
    x, context, weight = data
    event = tuple(flow.event_shape)
    if x.ndim != len(event) + 1 or x.shape[1:] != event:
        raise ValueError(
            f"x must have shape [batch{''.join(f', {n}' for n in event)}], got "
            f"{x.shape}."
        )
    _check_context(context, len(x), flow)
    if weight is not None:
        _check_weight(weight, len(x))
    _check_finite("x", x, flow.dtype, labels)
    domain = getattr(flow, "domain", None)
    if domain is not None and x.size:
        low, high = domain
        if x.min() < low or x.max() + quantum > high:
            noise = f", with noise of up to {quantum:g}" if quantum else ""
            raise ValueError(
                f"x must lie in [{low:.6g}, {high:.6g}], the domain of the flow's "
                f"first bijector; got values from {x.min():.6g} to {x.max():.6g}"
                f"{noise}."
            )
    check_surface("x", x, flow)


def check_surface(name: str, x: np.ndarray, flow: tfd.Distribution) -> None:
    """Raises an error unless all data lie on the surface of a flow that has one.

    Args:
      name: name of the data, for errors.
      x: array `[n, *event_shape]`.
      flow: any TFP distribution.

    Raises:
      ValueError: naming the first row that is elsewhere.
    """
    surface = surface_of(flow)
    if surface is None:
        return
    size = max(_PIECE // math.prod(x.shape[1:]), 1)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        _, ildj = surface.inverse_and_log_det(tf.cast(part, flow.dtype))
        off = np.flatnonzero(np.isneginf(ildj))
        if len(off):
            row = np.array2string(np.asarray(part[off[0]], np.float64), precision=6)
            raise ValueError(
                f"{name} must hold {surface.surface}; row {start + off[0]}, counted "
                f"from 0, is {row}."
            )


def surface_of(flow: tfd.Distribution) -> JointBijector | None:
    """The bijector that data meet first, if they have to lie on a surface there."""
    first = next(members(getattr(flow, "bijector", None)), None)
    is_one = isinstance(first, JointBijector) and first.surface is not None
    return first if is_one else None


def _check_context(context, rows, flow):
    shape = getattr(flow, "context_shape", None)
    if context is None:
        if shape is not None:
            raise ValueError(
                "context is missing: this flow is conditional, so data must be (x, "
                f"context) with contexts of shape {shape}."
            )
        return
    if shape is None:
        raise ValueError(
            "context was given, but this flow takes none: build it with context_shape "
            "or num_classes."
        )
    dtype = getattr(flow, "context_dtype", None) or flow.dtype
    if isinstance(shape, dict):
        for k, part in shape.items():
            _check_part(f"context[{k!r}]", context[k], rows, part, dtype[k])
    else:
        _check_part("context", context, rows, tuple(shape), dtype)
    own_check = getattr(getattr(flow, "_context_encoder", None), "check", None)
    if own_check is not None:
        own_check(tf.nest.map_structure(tf.convert_to_tensor, context))


def _check_part(name, context, rows, shape, dtype):
    if context.shape[1:] != shape:
        raise ValueError(
            f"{name} must have shape {('batch', *shape)}, got {context.shape}."
        )
    if len(context) != rows:
        raise ValueError(
            f"x and {name} must be equally many, got {rows} and {len(context)}."
        )
    _check_finite(name, context, dtype)


def _check_weight(weight, rows):
    if weight.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"sample_weight must have shape {(rows,)}, one for each example; got "
            f"{weight.shape}."
        )
    _check_finite("sample_weight", weight, tf.float32)


def _check_finite(
    name: str, values: np.ndarray, dtype: Any, labels: Sequence[Any] | None = None
) -> None:
    """Raises a `ValueError` on what is NaN or infinite, or becomes so in `dtype`."""
    if values.dtype.kind != "f" or not values.size:
        return
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating and dtype.size < values.dtype.itemsize:
        limit = dtype.max
    else:
        limit = np.finfo(values.dtype).max
    # NaN fails the comparison.
    counts = _count(values, lambda piece: ~(np.abs(piece) <= limit))
    if not counts.any():
        return
    what = f"beyond {limit:.3g}, the largest {dtype.name}"
    real = _count(values, lambda piece: ~np.isfinite(piece))
    if real.any():
        counts, what = real, "NaN or infinite"
    where = np.flatnonzero(counts)
    features = ", ".join(
        f"{_feature(i, values.shape[1:], labels)}: {counts[i]}" for i in where[:5]
    )
    raise ValueError(
        f"{name} holds {int(counts.sum())} value(s) that are {what}, in "
        f"{len(where)} of {counts.size} feature(s) (feature: how many): {features}"
        + (", ..." if len(where) > 5 else "")
        + "."
    )


def _count(
    values: np.ndarray, is_bad: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """How many values of each feature are bad."""
    size = max(math.prod(values.shape[1:]), 1)
    step = max(_PIECE // size, 1)
    counts = np.zeros(size, np.int64)
    for i in range(0, len(values), step):
        bad = is_bad(values[i : i + step])
        if bad.any():
            counts += bad.reshape(len(bad), -1).sum(0)
    return counts


def _feature(index: Any, shape: Sequence[int], labels: Sequence[Any] | None) -> str:
    if labels is not None and len(shape) == 1:
        return repr(labels[index])
    return str(tuple(map(int, np.unravel_index(index, shape))))


def class_weights(
    class_weight: dict[int, float], context: Any, sample_weight: Any
) -> np.ndarray:
    """Weights of examples, from the weights of their labels.

    Raises:
      ValueError: if contexts are no labels, or there are weights already.
    """
    if sample_weight is not None:
        raise ValueError("give class_weight or sample_weight, not both.")
    is_array = isinstance(context, np.ndarray)
    if not is_array or context.ndim != 1 or context.dtype.kind not in "iu":
        raise ValueError(
            "class_weight weighs examples by their labels: it needs a context of "
            "integer labels (num_classes). Give sample_weight for other data."
        )
    return np.asarray([class_weight.get(int(k), 1.0) for k in context], np.float32)


def whole_class_weight(
    class_weight: dict[int, float], flow: tfd.Distribution
) -> dict[int, float]:
    """Weights of all labels of a flow; labels that are not given get 1.

    Raises:
      ValueError: if a key is no label of the flow.
    """
    config = getattr(flow, "config", None) or {}
    n = config.get("num_classes")
    wrong = [
        k
        for k in class_weight
        if not isinstance(k, (int, np.integer)) or k < 0 or (n is not None and k >= n)
    ]
    if wrong:
        allowed = "integers from 0" if n is None else f"the labels 0 to {n - 1}"
        raise ValueError(f"class_weight must have {allowed} as keys, got {wrong}.")
    n = max(class_weight, default=-1) + 1 if n is None else n
    return {k: float(class_weight.get(k, 1.0)) for k in range(n)}


# Warnings.


def describe_oddities(
    x: np.ndarray,
    flow: tfd.Distribution,
    labels: Sequence[Any] | None = None,
    quantum: float = 0.0,
    context: Any = None,
) -> None:
    """Warns of data that a flow cannot model well as they are.

    These are whole numbers and values on another even grid (the density rises without
    bound on them), constant columns, columns whose values become equal in the flow's
    dtype, and columns of data or contexts in units far from 1, if neither the flow nor
    a context encoder brings them near to 1.

    Args:
      x: examples.
      flow: any TFP distribution, initialised by these data.
      labels: names of the columns of `x`.
      quantum: width of the noise that will be added to `x`.
      context: contexts of the examples.
    """
    for name, part, dtype in _parts_of_context(context, flow):
        _warn_of_merged_context(name, part, dtype)
    if context is not None:
        _warn_of_wide_context(context, flow)
    _warn_of_wide_data(x, flow, labels, context)
    look = x[:: math.ceil(len(x) / _LOOK)]
    if len(look) < 2:
        return
    flat, event = look.reshape(len(look), -1), x.shape[1:]
    is_vector = x.ndim == 2
    columns = flat.astype(np.float64) if is_vector else None
    constant = np.zeros(flat.shape[1], bool)
    if columns is not None and not quantum:
        constant = np.ptp(columns, axis=0) == 0

    def names(where):
        listed = [_feature(i, x.shape[1:], labels) for i in np.flatnonzero(where)]
        return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")

    if constant.any():
        _warn(
            f"x has {int(constant.sum())} constant column(s): {names(constant)}. "
            "A density of what does not vary has no bound: leave them out.",
            ConstantDataWarning,
        )
    if not quantum:
        own = flow.discrete if isinstance(flow, LowerBound) else False
        discrete = np.ravel(np.broadcast_to(own, event))
        _warn_of_whole_numbers(flat, is_vector, constant, discrete, names)
    if columns is None:
        return
    merged = _merged(columns, flow.dtype) & ~constant
    if merged.any():
        _warn(
            f"{tf.as_dtype(flow.dtype).name} merges values of {names(merged)}: they "
            "lie far from 0 for how little they differ. Subtract their mean before, or "
            'build the flow with dtype="float64".'
        )


def _warn_of_whole_numbers(flat, is_vector, constant, discrete, names):
    """Warns of what a flow does not take for discrete, though it seems to be."""
    whole = ~discrete
    if flat.dtype.kind == "f":
        whole &= (flat == np.round(flat)).all(0)
    if whole.all():
        _warn(
            "x holds whole numbers. A density of a continuous flow rises without "
            "bound on them; dequantize=True, as an argument of FlowModel, adds uniform "
            "noise in each step.",
            WholeNumbersWarning,
        )
    elif is_vector and (whole & ~constant).any():
        _warn(
            f"x has columns of whole numbers: {names(whole & ~constant)}. A density "
            "of a continuous flow rises without bound on them: add uniform noise to "
            "them, or leave them out.",
            WholeNumbersWarning,
        )
    if flat.dtype.kind == "f":
        _warn_of_grids(flat, is_vector, whole | constant | discrete, names)


def _warn_of_grids(flat, is_vector, known, names):
    if not is_vector:
        # Pixels share their levels.
        flat = flat[: max(_PIXELS // flat.shape[1], 1)].reshape(-1, 1)
        known = known.all(keepdims=True)
    steps = np.array(
        [0.0 if k else _step(c) for c, k in zip(flat.T, known, strict=True)]
    )
    if not steps.any():
        return
    step = steps.max()
    if np.allclose(steps, step, 1e-3, 0.0):
        _warn(
            f"x holds few distinct values, at a distance of {step:.6g}. A density of "
            "a continuous flow rises without bound on them; "
            f"dequantize={step:.6g}, as an argument of FlowModel, adds uniform noise "
            "in each step."
        )
        return
    for step in np.unique(steps[steps > 0]):
        _warn(
            "x has columns of few distinct values, at a distance of "
            f"{step:.6g}: {names(steps == step)}. A density of a continuous flow rises "
            "without bound on them: add uniform noise from [0, "
            f"{step:.6g}) to them (dequantize={step:.6g} adds it to all columns), or "
            "leave them out."
        )


def _step(column: np.ndarray) -> float:
    """The distance between levels, if values repeat and lie on an even grid, or 0."""
    levels = np.unique(column.astype(np.float64))
    # Any two or three values lie on some grid.
    if not 5 <= len(levels) < len(column):
        return 0.0
    gap = np.diff(levels).min()
    numbers = (levels - levels[0]) / gap
    if numbers[-1] >= 2**16 or np.abs(numbers - np.round(numbers)).max() > 0.02:
        return 0.0
    # The range divided by its number of steps is more exact than a single gap.
    step = np.ptp(levels) / np.round(numbers[-1])
    return float(f"{step:.6g}")


def _parts_of_context(context, flow):
    """Name, values and dtype of a context, or of its parts."""
    if context is None:
        return []
    if isinstance(context, dict):
        dtypes = flow.context_dtype
        return [(f"context[{k!r}]", context[k], dtypes[k]) for k in dtypes]
    dtype = getattr(flow, "context_dtype", None) or flow.dtype
    return [("the context", context, tf.as_dtype(dtype))]


def _warn_of_merged_context(name, context, dtype):
    if not dtype.is_floating or context.ndim != 2 or len(context) < 2:
        return
    look = context[:: math.ceil(len(context) / _LOOK)].astype(np.float64)
    merged = np.flatnonzero(_merged(look, dtype))
    if len(merged):
        listed = ", ".join(_feature(i, look.shape[1:], None) for i in merged[:5])
        _warn(
            f"{dtype.name} merges values of {name}, in {listed}: they lie far "
            "from 0 for how little they differ. Subtract their mean before, or build "
            'the flow with dtype="float64".'
        )


def _warn_of_wide_data(x, flow, labels, context):
    config = getattr(flow, "config", None) or {}
    scales = (
        config.get("bounds") is not None or config.get("normalize", False) is not False
    )
    bijector = getattr(flow, "bijector", None)
    look = _some_rows(x)
    wide = _wide(look)
    if scales or bijector is None or not wide.any():
        return
    keywords = {}
    if context is not None:
        keywords["context"] = tf.nest.map_structure(_some_rows, context)
    convert = getattr(flow, "encode", bijector.inverse)
    if isinstance(flow, LowerBound):
        convert = flow._encode
    if not _wide(convert(tf.cast(look, flow.dtype), **keywords).numpy()).any():
        return
    advice = (
        "Build the flow with normalize=True."
        if config
        else "Scale them, or let data meet a tfp_flows.bijectors.Standardize first."
    )
    _warn(
        f"x has columns in units far from 1: {_columns(wide, x, labels)}. Training is "
        f"slow on them, or diverges, and nothing in the flow scales them. {advice}"
    )


def _warn_of_wide_context(context, flow):
    parts = [
        (name, part, _wide(_some_rows(part)))
        for name, part, dtype in _parts_of_context(context, flow)
        if dtype.is_floating and part.ndim >= 2
    ]
    parts = [(name, part, wide) for name, part, wide in parts if wide.any()]
    encoder = getattr(flow, "_context_encoder", None)
    if parts and encoder is not None:
        look = tf.nest.map_structure(
            lambda part, dtype: tf.cast(_some_rows(part), dtype),
            context,
            flow.context_dtype,
        )
        if not _wide(encoder(look).numpy()).any():
            return
    advice = (
        "Build the flow with normalize_context=True."
        if getattr(flow, "config", None)
        else "Scale them."
    )
    for name, part, wide in parts:
        _warn(
            f"{name} has columns in units far from 1: {_columns(wide, part)}. Training "
            f"is slow on them, or diverges, and nothing in the flow scales them. "
            f"{advice}"
        )


def _some_rows(values):
    return values[:: math.ceil(len(values) / _ROWS)]


def _wide(values: np.ndarray) -> np.ndarray:
    """Which columns (channels of images) are far from mean 0 and deviation 1."""
    size = values.shape[-1] if values.ndim > 1 else 1
    columns = np.asarray(values, np.float64).reshape(-1, size)
    deviation = columns.std(0)
    varies = np.ptp(columns, 0) > 0
    small = varies & (deviation < 0.01) if len(columns) > 1 else False
    return (deviation > 100) | (np.abs(columns.mean(0)) > 100) | small


def _columns(which: np.ndarray, x: np.ndarray, labels: Any = None) -> str:
    first = np.flatnonzero(which)[:5]
    listed = [_feature(i, which.shape, labels) for i in first]
    more = ", ..." if which.sum() > 5 else ""
    return ("" if x.ndim == 2 else "channels ") + ", ".join(listed) + more


def _merged(columns: np.ndarray, dtype: Any) -> np.ndarray:
    """Which columns lose more than 5 % of their distinct values in `dtype`."""
    number = tf.as_dtype(dtype).as_numpy_dtype
    resolution = np.finfo(number).eps * np.abs(columns).max(0)
    with np.errstate(over="ignore"):
        suspects = np.ptp(columns, axis=0) < 2**18 * resolution
        merged = np.zeros(columns.shape[1], bool)
        for i in np.flatnonzero(suspects):
            before = len(np.unique(columns[:, i]))
            after = len(np.unique(columns[:, i].astype(number)))
            merged[i] = after < 0.95 * before
    return merged


def _warn(text, category=DataWarning):
    warnings.warn(text, category, stacklevel=5)
