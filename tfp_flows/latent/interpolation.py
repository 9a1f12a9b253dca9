"""Interpolates between data, by their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_integer
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_data, base_keywords

__all__ = ["interpolate", "slerp"]


def interpolate(
    flow: Flow, a: Any, b: Any, steps: int, *, method: str = "linear", **keywords: Any
) -> tf.Tensor:
    r"""Interpolates between `a` and `b`, by decoding codes between theirs.

    Codes $z_a$ and $z_b$ are mixed at `steps` equidistant $t$ from 0 to 1:

    * `"linear"`: $(1 - t) z_a + t z_b$. In many dimensions, the norms of Gaussian noise
      are all near $\sqrt{D}$. The middle of a line between two codes has a norm near
      $\sqrt{D/2}$, which noise hardly ever has: decoded, it looks like a sample of a
      low temperature.
    * `"spherical"`: `slerp` about the mean of the base distribution, in units of its
      standard deviations (White 2016, "Sampling Generative Networks", section 2.1).
      This suits Gaussian noise, whose density does not change in a rotation. For other
      noise, such as logistic, use `"linear"`.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> tfp_flows.latent.interpolate(flow, [0.0, 0.0], [1.0, 2.0], steps=5).shape
      TensorShape([5, 2])

    Args:
      flow: the flow.
      a: data `[*batch, *event_shape]` at the start.
      b: data at the end; the batch shapes broadcast.
      steps: number of data on the way, both ends included; 2 or more.
      method: `"linear"` or `"spherical"`.
      **keywords: `context` for a flow with one, the same for both ends.

    Returns:
      Tensor `[steps, *batch, *event_shape]`. The first and the last are the decoded
      codes of `a` and `b`: those themselves, up to the flow's round-trip error.

    Raises:
      TypeError: if `steps` is not an integer.
      ValueError: on another method, fewer than 2 steps, or a wrong shape; if the base
        distribution has no mean and standard deviation for `"spherical"`.
    """
    check_choice("method", method, ("linear", "spherical"))
    steps = check_integer("steps", steps, at_least=2)
    a, b = as_data(flow, a, "a"), as_data(flow, b, "b")
    z_a, z_b = flow.encode(a, **keywords), flow.encode(b, **keywords)
    ndims = flow.distribution.event_shape.rank
    rank = max(z_a.shape.rank, z_b.shape.rank)
    t = tf.reshape(tf.linspace(tf.zeros([], z_a.dtype), 1.0, steps), [-1] + rank * [1])
    if method == "linear":
        z = (1 - t) * z_a + t * z_b
    else:
        mean, scale = _mean_and_stddev(flow, z_a, keywords)
        z = slerp((z_a - mean) / scale, (z_b - mean) / scale, t, ndims) * scale + mean
        # The ends without the rounding of the way there and back.
        z = tf.where(tf.equal(t, 0.0), z_a, tf.where(tf.equal(t, 1.0), z_b, z))
    return flow.decode(z, **keywords)


def slerp(a: Any, b: Any, t: Any, event_ndims: int = 1) -> tf.Tensor:
    r"""Interpolates between vectors along great circles (spherical linear).

    The direction turns from that of $a$ to that of $b$ at a constant speed, along a
    great circle (Shoemake 1985). The norm changes linearly:

    $$ \left((1 - t) |a| + t |b|\right)
       \left(\cos(t \theta)\, u + \sin(t \theta)\, w\right), $$

    with $u = a / |a|$, $\theta$ the angle to $b$, and $w$ the unit vector across $u$
    in the plane of $a$ and $b$. For vectors of equal norm it is the formula of White
    2016. Opposite vectors are joined by many half circles: the one taken depends on $a$
    only. A zero vector gets the direction of the other vector.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import latent
      >>> np.allclose(latent.slerp([2.0, 0.0], [0.0, 2.0], 1 / 3), [3**0.5, 1.0])
      True

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
    # Kahan's formula is exact at all angles; the inverse cosine is not.
    angle = 2 * tf.atan2(_norm(u - v, axes), _norm(u + v, axes))
    across = v - _dot(u, v, axes) * u
    tiny = 100 * np.finfo(a.dtype.as_numpy_dtype).eps
    across = tf.where(_norm(across, axes) > tiny, across, _any_across(u, axes))
    across = tf.math.divide_no_nan(across, _norm(across, axes))
    # Removes what is left along u by cancellation.
    across -= _dot(u, across, axes) * u
    across = tf.math.divide_no_nan(across, _norm(across, axes))
    direction = tf.cos(t * angle) * u + tf.sin(t * angle) * across
    mixed = ((1 - t) * norm_a + t * norm_b) * direction
    return tf.where(tf.equal(t, 0.0), a, tf.where(tf.equal(t, 1.0), b, mixed))


def _mean_and_stddev(
    flow: Flow, z: tf.Tensor, keywords: dict[str, Any]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation of the base, for `method="spherical"`."""
    given = base_keywords(flow, z, keywords)
    base = flow.distribution
    try:
        found = base.mean(**given), base.stddev(**given)
        static = [tf.get_static_value(v) for v in found]
        known = all(v is None or np.isfinite(v).all() for v in static)
    except NotImplementedError:
        known = False
    if not known:
        raise ValueError(
            f'method="spherical" needs the mean and the standard deviation of the base '
            f'distribution, which {base.name} does not have: use "linear".'
        )
    return found


def _norm(x, axes):
    # Divided by the largest entry first: squares could overflow or underflow.
    largest = tf.reduce_max(tf.abs(x), axes, keepdims=True)
    scaled = tf.math.divide_no_nan(x, largest)
    return largest * tf.sqrt(tf.reduce_sum(tf.square(scaled), axes, keepdims=True))


def _dot(a, b, axes):
    return tf.reduce_sum(a * b, axes, keepdims=True)


def _any_across(u, axes):
    """A vector orthogonal to the unit vector `u`, from the axis farthest from it."""
    batch = tf.shape(u)[: u.shape.rank - len(axes)]
    flat = tf.reshape(u, tf.concat([batch, [-1]], 0))
    axis = tf.one_hot(
        tf.argmin(tf.abs(flat), -1), tf.shape(flat)[-1], dtype=u.dtype, axis=-1
    )
    axis = tf.reshape(axis, tf.shape(u))
    return axis - _dot(u, axis, axes) * u
