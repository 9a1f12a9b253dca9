"""Densities of 0 outside the range of TFP's bijectors and distributions.

Outside its range, the inverse of a bijector of TFP's may be NaN, and gradients carry
the NaN to other points of a batch. So such values are replaced by one inside the range
before TFP gets them, and the log-determinant or log-density is set to minus infinity.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.tfp_internals import (
    CHAINS,
    INDEPENDENTS,
    SAMPLES,
    TRANSFORMED_DISTRIBUTION,
)

__all__ = ["Support", "has_bounded_range", "inverse_within_range"]

# Increasing maps from the whole line to an interval, whose ends are the values of
# `forward` at minus and plus infinity.
_BOUNDED = (
    tfb.Exp,
    tfb.Expm1,
    tfb.GumbelCDF,
    tfb.MoyalCDF,
    tfb.NormalCDF,
    tfb.Sigmoid,
    tfb.SoftClip,
    tfb.Softplus,
    tfb.Softsign,
    tfb.Tanh,
)
# Increasing maps from an interval, given as (start, a point inside, end).
_FROM_A_PART = {
    tfb.GompertzCDF: (0.0, 0.5, math.inf),
    tfb.KumaraswamyCDF: (0.0, 0.5, 1.0),
    tfb.RayleighCDF: (0.0, 0.5, math.inf),
    tfb.Square: (0.0, 0.5, math.inf),
    tfb.WeibullCDF: (0.0, 0.5, math.inf),
}
# Increasing or decreasing maps from the whole line to itself.
_WHOLE = (tfb.Identity, tfb.Shift, tfb.Scale)

_TRANSFORMED = (tfd.TransformedDistribution, TRANSFORMED_DISTRIBUTION)


def has_bounded_range(bijector: tfb.Bijector) -> bool:
    """Whether a bijector of TFP's is known to map to an interval."""
    if isinstance(bijector, CHAINS):
        *outer, inner = bijector.bijectors or [None]
        return has_bounded_range(inner) and all(isinstance(b, _WHOLE) for b in outer)
    return isinstance(bijector, (*_BOUNDED, *_FROM_A_PART))


def inverse_within_range(
    bijector: tfb.Bijector, y: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Inverse and its log-determinant, minus infinity outside the range of `forward`.

    Args:
      bijector: one for which `has_bounded_range` is true.
      y: tensor of any shape; each number is an event.

    Returns:
      `(x, ildj)` of the shape of `y`, with the log-determinant in nats. Where `y` is
      outside, `x` is some finite number. NaN stays NaN.
    """
    low, inside, high = _range(bijector, y.dtype)
    # At the ends themselves, the inverse is infinite.
    outside = (y <= low) | (y >= high)
    y = tf.where(outside, inside, y)
    ildj = bijector.inverse_log_det_jacobian(y, 0)
    return bijector.inverse(y), _minus_infinity(outside, 0, ildj)


class Support:
    """The interval in which the density of a TFP distribution is not 0.

    Two kinds of distributions are supported: those over single numbers, and those that
    a bijector of single numbers makes of any other.

    Args:
      distribution: the distribution.
    """

    def __init__(self, distribution: tfd.Distribution):
        self._distribution = distribution

    @classmethod
    def of(cls, distribution: tfd.Distribution) -> Support | None:
        """The support of each number of an event; `None` if unbounded or unknown."""
        while isinstance(distribution, (*INDEPENDENTS, *SAMPLES)):
            inner = distribution.distribution
            if isinstance(distribution, SAMPLES) and inner.batch_shape.rank != 0:
                return None
            distribution = inner
        if not isinstance(distribution.event_shape, tf.TensorShape):
            return None
        support = cls(distribution)
        return support if support._bijector() is not None else None

    def log_prob(
        self, whole: tfd.Distribution, z: tf.Tensor, **keywords: Any
    ) -> tf.Tensor:
        """Returns `whole.log_prob(z)`, or minus infinity if a number is outside.

        Args:
          whole: a distribution over events of such numbers.
          z: tensor `[*batch, *event]`.
          **keywords: further arguments of `whole.log_prob`.

        Returns:
          Tensor of shape `batch`, nats.
        """
        bijector = self._bijector()
        low, inside, high = _range(bijector, z.dtype)
        if _is_within_a_range(self._distribution):
            # Such a distribution inverts the bijector, which has no inverse at an end.
            outside = (z <= low) | (z >= high)
        else:
            outside = (z < low) | (z > high)
        z = tf.where(outside, inside, z)
        log_prob = whole.log_prob(z, **keywords)
        return _minus_infinity(outside, whole.event_shape.rank, log_prob)

    def _bijector(self):
        distribution = self._distribution
        if _is_within_a_range(distribution):
            return distribution.bijector
        if distribution.event_shape.rank != 0:
            return None
        try:
            bijector = distribution.experimental_default_event_space_bijector()
        except Exception:  # Some distributions fail to build theirs.
            return None
        return (
            bijector if bijector is not None and has_bounded_range(bijector) else None
        )


def _is_within_a_range(distribution):
    """Whether it is a transformed distribution whose bijector has a known range."""
    return isinstance(distribution, _TRANSFORMED) and has_bounded_range(
        distribution.bijector
    )


def _range(bijector, dtype):
    """The interval that a bijector maps to: (low, a point inside, high)."""
    inner = bijector
    while isinstance(inner, CHAINS):
        inner = inner.bijectors[-1]
    points = next(
        (points for cls, points in _FROM_A_PART.items() if isinstance(inner, cls)),
        (-math.inf, 0.0, math.inf),
    )
    start, inside, end = (bijector.forward(tf.constant(x, dtype)) for x in points)
    return tf.minimum(start, end), inside, tf.maximum(start, end)


def _minus_infinity(outside, ndims, log_density):
    outside = tf.reduce_any(outside, list(range(-ndims, 0)))
    return tf.where(outside, tf.constant(-math.inf, log_density.dtype), log_density)
