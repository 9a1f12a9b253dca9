"""A fixed permutation of the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_shape, check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.seeds import generator
from tfp_flows.core.shapes import take

__all__ = ["Permutation"]


class Permutation(JointBijector):
    r"""Reorders the entries along one axis: $y_i = x_{\pi(i)}$.

    The log-determinant is zero. It equals `tfb.Permute(permutation, axis)`, with a
    gradient that gathers by the inverse permutation instead of scattering.

    Example:
      >>> from tfp_flows import bijectors
      >>> bijectors.Permutation([2, 0, 1]).forward([10.0, 20.0, 30.0]).numpy()
      array([30., 10., 20.], dtype=float32)

    Args:
      permutation: the indices $\pi$, a sequence of integers; or `"reverse"`; or
        `"random"`, drawn once from `seed`.
      event_shape: `D` or `[D]`, the shape of a vector; with another axis than the last
        one `[D, ...]`, of `-axis` numbers, or D alone for any others. Needed for
        `"reverse"` and `"random"`.
      axis: a negative axis; the event has `-axis` dimensions.
      as_variable: whether the indices are a variable, which is saved and may differ
        between the layers of a `Repeat`; by default those of `"random"` are.
      seed: integer seed of `"random"`.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `permutation` is not one of 0 .. D - 1, `axis` is not negative, or
        `event_shape` not positive, of another rank, or of another D.
      TypeError: if `event_shape` holds no integer, or an index is none.
    """

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        permutation: Sequence[int] | str,
        event_shape: int | Sequence[int] | None = None,
        axis: int = -1,
        as_variable: bool | None = None,
        seed: int | None = None,
        dtype: Any = None,
        name: str = "permutation",
    ):
        parameters = dict(locals())
        if not isinstance(axis, int) or axis >= 0:
            raise ValueError(f"axis must be a negative integer, got {axis!r}.")
        size, others = _entries(event_shape, axis)
        if isinstance(permutation, str):
            if size is None:
                raise ValueError(
                    f"event_shape is required for permutation={permutation!r}."
                )
            if permutation == "reverse":
                indices = np.arange(size)[::-1]
            elif permutation == "random":
                indices = generator(seed).permutation(size)
            else:
                raise ValueError(
                    'permutation must be "reverse", "random" or a sequence of '
                    f"indices, got {permutation!r}."
                )
        else:
            indices = np.asarray(permutation)
            if not np.issubdtype(indices.dtype, np.integer):
                raise TypeError(
                    f"permutation must hold integers, got dtype {indices.dtype}."
                )
            if indices.ndim != 1 or not np.array_equal(
                np.sort(indices), np.arange(indices.size)
            ):
                raise ValueError(
                    "permutation must hold each of 0 .. D - 1 once, got "
                    f"{np.array2string(indices, threshold=20)}."
                )
            if size is not None and size != indices.size:
                raise ValueError(
                    f"event_shape is {event_shape}, but permutation has {indices.size} "
                    "entries."
                )
        indices = indices.astype(np.int32)
        self._variable = None
        if as_variable is None:
            # A new object would draw another one.
            as_variable = isinstance(permutation, str) and permutation == "random"
        if as_variable:
            self._variable = self._add_variable("indices", indices, trainable=False)
        self._indices, self._inverse_indices = indices, np.argsort(indices)
        self._axis = axis
        super().__init__(
            forward_min_event_ndims=-axis,
            input_event_shape=(indices.size, *others),
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def permutation(self) -> np.ndarray:
        """The indices, an integer array `[D]`."""
        if self._variable is None:
            return self._indices
        with tf.init_scope():
            return tf.convert_to_tensor(self._variable).numpy()

    @property
    def _structure(self):
        return "" if self.variables else f" permutation {self.permutation.tolist()}"

    @property
    def _is_permutation(self):
        return True

    def _forward_and_log_det(self, x):
        indices, inverse = self._both()
        return take(x, indices, inverse, self._axis), tf.zeros([], x.dtype)

    def _inverse_and_log_det(self, y):
        indices, inverse = self._both()
        return take(y, inverse, indices, self._axis), tf.zeros([], y.dtype)

    def _both(self):
        """The indices of the permutation, and of its inverse."""
        if self._variable is None:
            return self._indices, self._inverse_indices
        indices = tf.convert_to_tensor(self._variable)
        return indices, tf.math.invert_permutation(indices)


def _entries(event_shape: Any, axis: int) -> tuple[int | None, Sequence[int | None]]:
    """Entries along the permuted axis, and along those after it; `None` if unknown."""
    others = [None] * (-axis - 1)
    if event_shape is None:
        return None, others
    if axis == -1:
        return check_vector_shape("event_shape", event_shape), others
    if not hasattr(event_shape, "__iter__"):
        return check_integer("event_shape", event_shape), others
    shape = check_shape("event_shape", event_shape)
    if len(shape) != -axis:
        raise ValueError(
            f"event_shape must be D or have {-axis} numbers for axis={axis}, got "
            f"{event_shape}."
        )
    return shape[0], shape[1:]
