"""The bijectors that data meet first: bounds, logit, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.logit import Logit
from tfp_flows.bijectors.standardize import Standardize
from tfp_flows.core.arguments import check_choice, check_number
from tfp_flows.transformers import Inverted, SoftLog

__all__ = ["preprocess"]

# With heavy tails, values count by their logarithm beyond so many deviations.
_NEAR = 3.0


def preprocess(
    event_shape: Sequence[int],
    bounds: Sequence[Any] | None,
    logit_margin: float | None,
    normalize: bool | str | None,
    center: float,
    dtype: Any,
) -> list[tfb.Bijector]:
    """The bijectors that data meet first.

    Args:
      event_shape: shape of the data.
      bounds: `(low, high)` of the data, numbers or arrays.
      logit_margin: margin of a logit of data in `bounds`; without one, data are scaled
        to `[-center, 1 - center]`.
      normalize: `True`, `"robust"`, `"heavy_tails"` or `False`; `None` for yes unless
        there are bounds.
      center: see `logit_margin`.
      dtype: dtype of the flow.

    Raises:
      TypeError: if `bounds` hold no numbers.
      ValueError: on bounds that are not finite, reversed or of a wrong shape, or
        options that do not go together.
    """
    check_choice("normalize", normalize, (None, True, False, "robust", "heavy_tails"))
    if bounds is None:
        if logit_margin is not None:
            raise ValueError("logit_margin needs bounds: (low, high) of the data.")
        if normalize is False:
            return []
        robust = normalize in ("robust", "heavy_tails")
        first = Standardize(event_shape, robust, dtype=dtype, name="normalize")
        if normalize != "heavy_tails":
            return [first]
        logarithm = Inverted(SoftLog(_NEAR))
        return [
            first,
            Elementwise(logarithm, event_shape, dtype=dtype, name="heavy_tails"),
            Standardize(event_shape, dtype=dtype, name="normalize_again"),
        ]
    if normalize:
        raise ValueError(
            f"normalize={normalize!r} is for data without bounds, which scale them."
        )
    low, high = _check_bounds(bounds, event_shape)
    logit = []
    if logit_margin is not None:
        check_number("logit_margin", logit_margin, above=0, below=0.5)
        if isinstance(low, float):
            return [Logit(logit_margin, low, high)]
        logit, center = [Logit(logit_margin)], 0.0
    # x = low + (high - low) (u + center): the last one comes first.
    number = tf.as_dtype(dtype).as_numpy_dtype
    size = high - low
    return [tfb.Shift(number(low + center * size)), tfb.Scale(number(size)), *logit]


def _check_bounds(bounds, event_shape):
    """Both bounds, as two numbers or as two arrays of the event's shape."""
    wrong = f"bounds must be (low, high), two numbers or two arrays; got {bounds}."
    try:
        low, high = (np.asarray(b, np.float64) for b in bounds)
    except (TypeError, ValueError):
        raise TypeError(wrong) from None
    if low.ndim or high.ndim:
        try:
            low, high = (np.broadcast_to(b, event_shape) for b in (low, high))
        except ValueError:
            raise ValueError(
                f"bounds must broadcast to the event_shape {event_shape}; got shapes "
                f"{low.shape} and {high.shape}."
            ) from None
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(f"bounds must be finite; got {bounds}.")
    if not (low < high).all():
        raise ValueError(
            f"bounds must be (low, high), with low below high; got {bounds}."
        )
    return (low, high) if low.ndim else (float(low), float(high))
