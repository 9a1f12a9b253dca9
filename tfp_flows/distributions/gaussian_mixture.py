"""A base distribution with several modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer, check_number, check_shape
from tfp_flows.core.seeds import generator
from tfp_flows.distributions.marginals import Normal
from tfp_flows.distributions.tracked import (
    MixtureSameFamily,
    with_papers,
    without_given_name,
)

__all__ = ["gaussian_mixture"]


def gaussian_mixture(
    event_shape: Sequence[int],
    dtype: Any = tf.float32,
    components: int = 8,
    spread: float = 1.0,
    seed: int | None = None,
    reparameterize: bool = False,
) -> tfd.Distribution:
    r"""A mixture of Gaussians with learned weights, means and standard deviations.

    $$ p(z) = \sum_k w_k \prod_i \mathcal N(z_i; \mu_{ki}, \sigma_{ki}^2) $$

    A flow is continuous: if it makes several modes of one, they stay connected by thin
    bridges of density. A mixture as base avoids this (Izmailov et al. 2020, section 3).

    Weights start equal and standard deviations at 1; the variables are the logits of
    the weights and the logarithms of the deviations. Initial means are drawn from
    $\mathcal N(0, \text{spread}^2)$, so that components differ from the start.

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.
      components: number of Gaussians.
      spread: standard deviation of the initial means.
      seed: integer seed of these means; by default a new one, which
        `keras.utils.set_random_seed` makes reproducible.
      reparameterize: whether samples carry gradients to all variables, by implicit
        reparametrisation (Figurnov et al. 2018), as variational inference needs. The
        memory for a sample then grows with the square of the size of an event.

    Returns:
      A distribution over `event_shape`.

    Raises:
      ValueError: if `components` is below 1, or `spread` negative.
      TypeError: if one of these is not a number, or `event_shape` not a shape.

    Example:
      >>> base = gaussian_mixture((2,), components=3, seed=0)
      >>> base.sample(5, seed=0).shape
      TensorShape([5, 2])
    """
    components = check_integer("components", components)
    spread = check_number("spread", spread, at_least=0.0)
    event_shape = check_shape("event_shape", event_shape)
    shape = (components, *event_shape)
    start = spread * generator(seed).standard_normal(shape)
    logits = tf.Variable(tf.zeros([components], dtype), name="logits")
    mean = tf.Variable(tf.constant(start, dtype), name="mean")
    scale = tfp.util.TransformedVariable(tf.ones(shape, dtype), tfb.Exp(), name="scale")
    base = without_given_name(
        MixtureSameFamily(
            tfd.Categorical(logits=logits),
            tfd.Independent(Normal(mean, scale), len(event_shape)),
            reparameterize=reparameterize,
            name="gaussian_mixture",
        )
    )
    return with_papers(
        base, "izmailov2020semi", *["figurnov2018implicit"] * reparameterize
    )
