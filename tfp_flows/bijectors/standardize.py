"""Brings data in any units to mean 0 and standard deviation 1."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.data_warnings import ConstantDataWarning
from tfp_flows.core.shapes import positions_and_channels
from tfp_flows.core.starts_from_data import StartsFromData

__all__ = ["Standardize"]

# Rows that are converted to float64 at a time.
_CHUNK = 4096
# Half of the distance between the quartiles of a standard Gaussian.
_HALF_QUARTILES = 0.6744897501960817


class Standardize(StartsFromData):
    r"""Shifts and scales each feature by fixed numbers, computed from data.

    $$ x = \sigma \odot z + \mu, \qquad z = (x - \mu) / \sigma, \qquad
       \log|\det \partial x / \partial z| = n \sum_c \log \sigma_c, $$

    with $n$ the number of positions (height times width of an image; 1 for a vector).
    `initialize` sets $\mu$ and $\sigma$ to the mean and the standard deviation of each
    feature (channel of an image), computed in float64 whatever the dtype. Before, the
    bijector is the identity. Neither is trained: a learned shift would have to move in
    the units of the data, at the learning rate of the networks. (`ActNorm` learns its
    shift.)

    $\mu$ is stored as the sum of two numbers of the dtype, so that no digits are lost
    where it is much larger than $\sigma$. For a feature that is constant in the data,
    $\sigma$ is 1, and a warning names it.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import bijectors
      >>> standardize = bijectors.Standardize([2], dtype="float64")
      >>> x = np.array([[1e9, 1e-9], [1e9 + 1, 3e-9]])
      >>> standardize.initialize(x).numpy()
      array([[-1., -1.],
             [ 1.,  1.]])

    Args:
      event_shape: sequence of ints, `[..., C]`; the last axis is the feature.
      robust: bool, whether $\mu$ is the median, and $\sigma$ the distance between the
        quartiles divided by 1.349 (the distance of a standard Gaussian), so that rare
        outliers have no effect. A feature with equal quartiles still gets its mean and
        standard deviation.
      dtype: dtype of values, float32 by default.
      name: string, name of the bijector.

    Raises:
      ValueError: from `initialize`, on an empty batch, or data that are not finite.
    """

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: Sequence[int],
        robust: bool = False,
        dtype: Any = tf.float32,
        name: str = "standardize",
    ):
        parameters = dict(locals())
        dtype = tf.as_dtype(dtype)
        event_shape = check_shape("event_shape", event_shape)
        self._positions, features = positions_and_channels(event_shape)
        self._robust = bool(robust)
        start = np.zeros([3, features])
        start[2] = 1.0
        self._shifts_and_scale = self._add_variable(
            "shifts_and_scale", tf.constant(start, dtype), trainable=False
        )
        self._add_start()
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def shift(self) -> tf.Tensor:
        r"""$\mu$, of shape `[C]`, in float64."""
        large, small, _ = tf.unstack(tf.cast(self._shifts_and_scale, tf.float64))
        return large + small

    @property
    def scale(self) -> tf.Tensor:
        r"""$\sigma$, of shape `[C]`."""
        return tf.unstack(self._shifts_and_scale)[2]

    def _is_increasing(self, **_):
        return True

    def _forward_and_log_det(self, x):
        large, small, scale = tf.unstack(self._shifts_and_scale)
        log_det = self._positions * tf.reduce_sum(tf.math.log(scale))
        return (x * scale + small) + large, log_det

    def _inverse_and_log_det(self, y):
        large, small, scale = tf.unstack(self._shifts_and_scale)
        log_det = self._positions * tf.reduce_sum(tf.math.log(scale))
        # The large part first: the difference is exact where it is small.
        return ((y - large) - small) / scale, -log_det

    def _set_from(self, y):
        number = self.dtype.as_numpy_dtype
        shift, scale = self._of_data(np.asarray(y).reshape(-1, y.shape[-1]))
        large = number(shift)
        small = number(shift - large.astype(np.float64))
        self._shifts_and_scale.assign(np.stack([large, small, number(scale)]))

    def _of_data(self, rows):
        r"""$\mu$ and $\sigma$ of rows `[N, C]`, in float64."""
        finite = np.isfinite(rows).all(0)
        if not finite.all():
            raise ValueError(
                f"{self.name}: cannot initialise from data that are not finite, in "
                f"{_named(~finite)}."
            )
        low, high = rows.min(0), rows.max(0)
        shift, _ = _moments(rows, low.astype(np.float64))
        # Moments about the mean do not lose digits to an offset.
        shift, variance = _moments(rows, shift)
        scale = np.sqrt(variance)
        if self._robust:
            quartiles = np.percentile(rows, (25, 50, 75), 0).astype(np.float64)
            wide = quartiles[2] > quartiles[0]
            robust = (quartiles[2] - quartiles[0]) / (2 * _HALF_QUARTILES)
            shift = np.where(wide, quartiles[1], shift)
            scale = np.where(wide, robust, scale)
        constant = (low == high) | (scale < np.finfo(self.dtype.as_numpy_dtype).tiny)
        if constant.any():
            warnings.warn(
                f"{self.name}: {_named(constant)} is constant in the {len(rows)} rows "
                "that it is initialised from: its scale stays 1. The density of a "
                "constant has no bound; leave it out of the data.",
                ConstantDataWarning,
                stacklevel=2,
            )
        return np.where(constant, low, shift), np.where(constant, 1.0, scale)


def _moments(rows, about):
    """Mean and variance in float64, by the first two moments about a number."""
    first = second = 0.0
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK].astype(np.float64) - about
        first, second = first + part.sum(0), second + np.square(part).sum(0)
    first, second = first / len(rows), second / len(rows)
    return about + first, np.maximum(second - np.square(first), 0.0)


def _named(which: np.ndarray) -> str:
    names = [str(i) for i in np.flatnonzero(which)]
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"feature {shown}"
