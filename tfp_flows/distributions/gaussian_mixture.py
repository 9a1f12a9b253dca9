"""A base distribution of several bumps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

__all__ = ["gaussian_mixture"]


def gaussian_mixture(
    event_shape: Sequence[int],
    dtype: Any = tf.float32,
    components: int = 8,
    spread: float = 1.0,
    seed: int | None = None,
    reparameterize: bool = False,
) -> tfd.Distribution:
    r"""Gaussians with diagonal covariances, and learned weights, means and deviations.

    $$ p(z) = \sum_k w_k \prod_i \mathcal N(z_i; \mu_{ki}, \sigma_{ki}^2) $$

    A flow is continuous: from one bump it makes several only with threads of density
    between them. From a mixture it need not (Izmailov et al. 2020, section 3).

    Weights start equal (their logits are the variable), deviations at 1 (their
    logarithms are), and means are drawn from $\mathcal N(0, \text{spread}^2)$, so that
    components are unlike one another from the start.

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.
      components: number of Gaussians.
      spread: standard deviation of the means at the start.
      seed: integer seed of these means.
      reparameterize: whether samples carry gradients to all variables, by implicit
        reparametrisation (Figurnov et al. 2018), as variational inference needs.
        Drawing one then takes memory with the square of the size of an event.

    Returns:
      A distribution over `event_shape`.

    Raises:
      ValueError: if `components` is below 1, or `spread` negative.
    """
    if components < 1:
        raise ValueError(f"components must be at least 1, got {components}.")
    if spread < 0:
        raise ValueError(f"spread must not be negative, got {spread}.")
    shape = (components, *event_shape)
    start = spread * np.random.default_rng(seed).standard_normal(shape)
    logits = tf.Variable(tf.zeros([components], dtype), name="logits")
    mean = tf.Variable(tf.constant(start, dtype), name="mean")
    scale = tfp.util.TransformedVariable(tf.ones(shape, dtype), tfb.Exp(), name="scale")
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=logits),
        tfd.Independent(tfd.Normal(mean, scale), len(event_shape)),
        reparameterize=reparameterize,
        name="gaussian_mixture",
    )
