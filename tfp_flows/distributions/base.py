"""Simple base distributions for the noise of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_shape
from tfp_flows.distributions.marginals import Logistic, Normal, Uniform
from tfp_flows.distributions.tracked import Independent, without_given_name

__all__ = ["diagonal_normal", "standard_logistic", "standard_normal", "uniform"]


def standard_normal(
    event_shape: Sequence[int], dtype: Any = tf.float32
) -> tfd.Distribution:
    r"""Independent standard Gaussians: $\log p(z) = -\sum_i (z_i^2 + \log 2\pi)/2$.

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.

    Returns:
      A distribution over `event_shape`.

    Raises:
      TypeError: if `event_shape` is not a shape.
      ValueError: if an entry of it is below 1.

    Example:
      >>> standard_normal((2,)).log_prob([[0.0, 0.0]]).numpy().round(4)
      array([-1.8379], dtype=float32)
    """
    return _standard(Normal, event_shape, dtype, "standard_normal")


def standard_logistic(
    event_shape: Sequence[int], dtype: Any = tf.float32
) -> tfd.Distribution:
    r"""Independent standard logistics, the prior of NICE on MNIST.

    $\log p(z) = -\sum_i \left(\log(1 + e^{z_i}) + \log(1 + e^{-z_i})\right)$ (Dinh et
    al. 2014, section 3.4).

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.

    Returns:
      A distribution over `event_shape`.

    Raises:
      TypeError: if `event_shape` is not a shape.
      ValueError: if an entry of it is below 1.

    Example:
      >>> standard_logistic((2,)).log_prob([[0.0, 0.0]]).numpy().round(4)
      array([-2.7726], dtype=float32)
    """
    return _standard(Logistic, event_shape, dtype, "standard_logistic")


def _standard(family, event_shape, dtype, name):
    event_shape = check_shape("event_shape", event_shape)
    parts = family(tf.zeros(event_shape, dtype), tf.ones([], dtype))
    return without_given_name(Independent(parts, len(event_shape), name=name))


def diagonal_normal(
    event_shape: Sequence[int], dtype: Any = tf.float32
) -> tfd.Distribution:
    """Independent Gaussians with learned means and standard deviations.

    They start at 0 and 1; the standard deviation is the exponential of its variable.

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.

    Returns:
      A distribution over `event_shape`.

    Raises:
      TypeError: if `event_shape` is not a shape.
      ValueError: if an entry of it is below 1.

    Example:
      >>> diagonal_normal((2,)).stddev().numpy()
      array([1., 1.], dtype=float32)
    """
    event_shape = check_shape("event_shape", event_shape)
    mean = tf.Variable(tf.zeros(event_shape, dtype), name="mean")
    scale = tfp.util.TransformedVariable(
        tf.ones(event_shape, dtype), tfb.Exp(), name="scale"
    )
    return without_given_name(
        Independent(Normal(mean, scale), len(event_shape), name="diagonal_normal")
    )


def uniform(
    low: Sequence[float], high: Sequence[float], dtype: Any = tf.float32
) -> tfd.Distribution:
    r"""Independent uniform numbers: $\log p(z) = -\sum_i \log(b_i - a_i)$ where $z$ is.

    The noise of flows on a torus or a sphere, whose bijectors keep the bounds.

    Args:
      low: lower bounds $a$, an array of the shape of the event.
      high: upper bounds $b$, likewise.
      dtype: dtype of values.

    Returns:
      A distribution over vectors, or arrays of that shape.

    Raises:
      ValueError: if a lower bound is not below its upper one, or shapes differ.

    Example:
      >>> uniform([-1.0, 0.0], [1.0, 2.0]).log_prob([[0.0, 1.0]]).numpy().round(4)
      array([-1.3863], dtype=float32)
    """
    a, b = (np.asarray(bound, np.float64) for bound in (low, high))
    if a.shape != b.shape or not (a < b).all():
        raise ValueError(f"low must be below high, entry by entry; got {low}, {high}.")
    parts = Uniform(tf.constant(a, dtype), tf.constant(b, dtype))
    return without_given_name(Independent(parts, a.ndim, name="uniform"))
