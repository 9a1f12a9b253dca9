"""A fixed permutation of the features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import take

__all__ = ["Permutation"]


class Permutation(JointBijector):
    r"""Reorders the entries along one axis: $y_i = x_{\pi(i)}$.

    The log-determinant is zero. It equals `tfb.Permute(permutation, axis)`, with a
    gradient that gathers by the inverse permutation instead of scattering.

    Args:
      permutation: the indices $\pi$, a sequence of integers; or `"reverse"`; or
        `"random"`, drawn once from `seed`.
      size: number of entries along the axis; needed for `"reverse"` and `"random"`.
      axis: a negative axis; the event has `-axis` dimensions.
      seed: integer seed of `"random"`.
      name: name of the bijector.

    Raises:
      ValueError: if `permutation` is not one of 0 .. size - 1, or `axis` is not
        negative.
    """

    def __init__(
        self,
        permutation: Sequence[int] | str,
        size: int | None = None,
        axis: int = -1,
        seed: int | None = None,
        name: str = "permutation",
    ):
        parameters = dict(locals())
        if not isinstance(axis, int) or axis >= 0:
            raise ValueError(f"axis must be a negative integer, got {axis!r}.")
        if isinstance(permutation, str):
            if size is None:
                raise ValueError(f"size is required for permutation={permutation!r}.")
            if permutation == "reverse":
                indices = np.arange(size)[::-1]
            elif permutation == "random":
                indices = np.random.default_rng(seed).permutation(size)
            else:
                raise ValueError(
                    'permutation must be "reverse", "random" or a sequence of '
                    f"indices, got {permutation!r}."
                )
        else:
            indices = np.asarray(permutation)
            if indices.ndim != 1 or not np.array_equal(
                np.sort(indices), np.arange(indices.size)
            ):
                raise ValueError(
                    "permutation must hold each of 0 .. size - 1 once, got "
                    f"{np.array2string(indices, threshold=20)}."
                )
            if size is not None and size != indices.size:
                raise ValueError(
                    f"size is {size} but permutation has {indices.size} entries."
                )
        indices = indices.astype(np.int32)
        self._variable = None
        if isinstance(permutation, str) and permutation == "random":
            # A variable, so that it is saved: without the seed it could not be redrawn.
            self._variable = self._add_variable("indices", indices, trainable=False)
        self._indices = indices
        self._axis = axis
        super().__init__(
            forward_min_event_ndims=-axis,
            input_event_shape=(indices.size, *[None] * (-axis - 1)),
            is_constant_jacobian=True,
            parameters=parameters,
            name=name,
        )

    @property
    def permutation(self) -> np.ndarray:
        """The indices, an integer array `[size]`."""
        return self._indices if self._variable is None else self._variable.numpy()

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
        """The indices and those of the inverse."""
        if self._variable is None:
            return self._indices, np.argsort(self._indices)
        indices = tf.convert_to_tensor(self._variable)
        return indices, tf.math.invert_permutation(indices)
