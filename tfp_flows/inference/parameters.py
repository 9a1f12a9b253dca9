"""Parameters of models as vectors of unconstrained numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

__all__ = ["as_vectors", "check_no_batch", "dtype_of_parts", "from_vectors", "named"]


def named(structure: Any, name: str = "it") -> list[tuple[str, Any]]:
    """Parts of a structure, with names to call them in an error."""
    if isinstance(structure, Mapping):
        items = list(structure.items())
    elif hasattr(structure, "_fields"):
        items = list(zip(structure._fields, structure, strict=True))
    elif isinstance(structure, (list, tuple)):
        items = list(enumerate(structure))
    else:
        return [(name, structure)]
    return [found for key, part in items for found in named(part, f"its part {key!r}")]


def dtype_of_parts(model: Any, name: str = "model") -> tf.DType:
    """The one dtype of all parts of a distribution, which must be real.

    Raises:
      ValueError: if a part is discrete, or parts differ in dtype.
    """
    found = {}
    for part, dtype in named(model.dtype):
        dtype = found[part] = tf.as_dtype(dtype)
        if not dtype.is_floating:
            raise ValueError(
                f"{name} must have real parameters; {part} is {dtype.name}. Sum over a "
                "discrete part (tfd.MixtureSameFamily) or observe it."
            )
    if len(set(found.values())) != 1:
        names = {part: dtype.name for part, dtype in found.items()}
        raise ValueError(
            f"{name} must have unobserved parts, all of one dtype; got {names}."
        )
    return next(iter(found.values()))


def check_no_batch(model: Any, name: str = "model") -> None:
    """Raises a ValueError unless events are of static shape, without a batch."""
    for part, shape in named(model.batch_shape):
        if shape.rank != 0:
            raise ValueError(
                f"{name} must have an empty batch shape; {part} has {shape}. "
                "tfd.Independent or tfd.Sample makes an event of it; in an AutoBatched "
                "model it is one."
            )
    for part, shape in named(model.event_shape):
        if not shape.is_fully_defined():
            raise ValueError(
                f"{name} must have static event shapes; {part} has {shape}."
            )


def from_vectors(
    model: Any, bijector: Any = None, name: str = "model"
) -> tuple[int, tfb.Bijector]:
    """The number of unconstrained numbers, and the bijector from them to the parts.

    Args:
      model: a distribution, joint or not.
      bijector: from unconstrained numbers to the parameters, a structure of bijectors
        (`None` for the identity), or `None` for that of the model.
      name: what an error calls the model.

    Raises:
      ValueError: if shapes are not static, the model has a batch shape, or the bijector
        does not fit.
    """
    check_no_batch(model, name)
    try:
        constrain = _constraining(model, bijector)
        shapes = constrain.inverse_event_shape(model.event_shape)
        flat = tf.nest.flatten(shapes)
        sizes = [math.prod(shape) for shape in flat]
        reshape = tfb.JointMap(
            [
                tfb.Reshape(event_shape_out=shape, event_shape_in=[n])
                for shape, n in zip(flat, sizes, strict=True)
            ]
        )
        restructure = tfb.Restructure(
            tf.nest.pack_sequence_as(shapes, list(range(len(flat))))
        )
        to_parts = tfb.Chain([constrain, restructure, reshape, tfb.Split(sizes)])
        dtype = tf.nest.flatten(model.dtype)[0]
        to_parts.forward(tf.zeros([2, sum(sizes)], dtype))
    except Exception as error:
        source = (
            f"{name}.experimental_default_event_space_bijector()"
            if bijector is None
            else "bijector"
        )
        raise ValueError(
            f"{source} does not map real numbers to the parameters of the {name}, of "
            f"event shape {model.event_shape}: {type(error).__name__}: {error} "
            "A discrete part has no such bijector; bijector= takes one of yours."
        ) from error
    return sum(sizes), to_parts


def _constraining(model: Any, bijector: Any) -> tfb.Bijector:
    if bijector is None:
        bijector = model.experimental_default_event_space_bijector()
        if bijector is None:
            # What TFP's discrete distributions have.
            raise NotImplementedError("it has none.")
    if isinstance(bijector, tfb.Bijector):
        return bijector
    return tfb.JointMap(
        tf.nest.map_structure(
            lambda part: tfb.Identity() if part is None else part, bijector
        )
    )


def as_vectors(parameters: Any, event_shape: Any, dtype: Any) -> tf.Tensor:
    """All numbers of parameters `[*batch, *shape]`, as vectors `[*batch, D]`.

    Args:
      parameters: a structure of tensors.
      event_shape: the structure of their event shapes.
      dtype: dtype of the vectors.

    Raises:
      ValueError: if a part has another shape.
    """
    try:
        tf.nest.assert_same_structure(event_shape, parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"parameters must have the structure of the prior, {event_shape}; {error}"
        ) from error
    rows = []
    shapes, parts = tf.nest.flatten(event_shape), tf.nest.flatten(parameters)
    for shape, part in zip(shapes, parts, strict=True):
        part = tf.convert_to_tensor(part)
        rank = part.shape.rank - shape.rank
        if rank < 0 or not shape.is_compatible_with(part.shape[rank:]):
            raise ValueError(
                f"parameters must be [*batch, *shape] with the shapes {event_shape} of "
                f"the prior; one of shape {shape} is given as {part.shape}."
            )
        batch = tf.shape(part)[:rank]
        flat = tf.reshape(part, tf.concat([batch, [shape.num_elements()]], 0))
        rows.append(tf.cast(flat, dtype))
    return tf.concat(rows, -1)
