"""Checks of arguments of distributions: data, sample shapes, temperatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number, check_real

__all__ = ["as_data", "check_sample_shape", "check_temperature"]


def as_data(value: Any, dtype: tf.DType, what: str) -> tf.Tensor:
    """Makes a tensor of real numbers. Arrays, lists and numbers get the given dtype.

    A tensor or variable keeps its own dtype.

    Args:
      value: what the user gave.
      dtype: dtype of the distribution.
      what: name of the value, for errors.

    Returns:
      A tensor.

    Raises:
      ValueError: if `value` is `None`.
      TypeError: if it holds anything but real numbers, or masked entries.
    """
    check_real(what, value)
    return tf.convert_to_tensor(value, dtype_hint=dtype)


def check_sample_shape(shape: Any) -> Any:
    """Returns the shape of a sample as a list of integers, or as a tensor.

    Raises:
      TypeError: if it is neither an integer nor a sequence of integers.
      ValueError: if one of them is negative.
    """
    if isinstance(shape, tf.TensorShape):
        shape = shape.as_list()
    if tf.is_tensor(shape) or isinstance(shape, tf.Variable):
        if not shape.dtype.is_integer:
            raise TypeError(
                f"sample_shape must hold integers, got dtype {shape.dtype.name}."
            )
        static = tf.get_static_value(shape)
        if static is None:
            return shape
        shape = static
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    if not isinstance(shape, Iterable) or isinstance(shape, (str, bytes)):
        return [check_integer("sample_shape", shape, at_least=0)]
    shape = list(shape)
    if any(tf.is_tensor(n) for n in shape):
        return check_sample_shape(tf.stack(shape))
    return [check_integer("sample_shape", n, at_least=0) for n in shape]


def check_temperature(temperature: Any) -> Any:
    """Returns a temperature, which must be 0 or above.

    Raises:
      TypeError: if it is not a number.
      ValueError: if its value is known to be negative, NaN or infinite.
      tf.errors.InvalidArgumentError: if its value is negative or NaN when a
        `tf.function` runs. XLA drops this check; samples are NaN then.
    """
    known = tf.get_static_value(temperature) if tf.is_tensor(temperature) else None
    if known is None and tf.is_tensor(temperature):
        check = tf.debugging.assert_non_negative(
            temperature, "temperature must be at least 0, and no NaN."
        )
        # In eager mode, the assertion has been made already and is `None`.
        with tf.control_dependencies([] if check is None else [check]):
            return tf.identity(temperature)
    for number in np.ravel(temperature if known is None else known).tolist():
        check_number("temperature", number, at_least=0.0)
    return temperature
