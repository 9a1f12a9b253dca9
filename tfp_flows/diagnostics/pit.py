"""The probability integral transform of plain densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.diagnostics.arrays import check_numbers
from tfp_flows.diagnostics.uniformity import Uniformity, uniformity
from tfp_flows.distributions.given_context import GivenContext

__all__ = ["pit"]


def pit(
    distribution: tfd.Distribution,
    x: Any,
    *,
    level: float = 0.95,
    seed: int | None = 0,
) -> Uniformity:
    r"""Whether data are uniform once a density's distribution function maps them.

    For a density of single numbers, values are $F(x)$ (Rosenblatt 1952). For a flow,
    they are $F_Z(f^{-1}(x))$, for each entry of the noise: if the flow is the density
    of the data, the entries of their noise are independent draws of the base. The test
    sees each entry alone, so it can reject a flow, not prove it right.

    A density that has neither can be tested by its samples:
    `expected_coverage(q.log_prob(x), q.log_prob(q.sample([S, N])))`.

    Example:
      >>> import numpy as np
      >>> from tensorflow_probability import distributions as tfd
      >>> from tfp_flows import diagnostics
      >>> x = np.random.default_rng(0).normal(size=300).astype("float32")
      >>> diagnostics.pit(tfd.Normal(0.0, 1.0), x).p_value > 0.01
      True
      >>> diagnostics.pit(tfd.Normal(0.5, 1.0), x).p_value < 0.01
      True

    Args:
      distribution: a `Flow` whose base has independent entries (the normal, logistic or
        diagonal one), one under contexts (`flow.given(context)` with N contexts), or
        any TFP distribution of single numbers with a `cdf`.
      x: data `[N, *event_shape]`, which the density was not fitted to.
      level: probability of the simultaneous band.
      seed: seed of the null distribution.

    Returns:
      A `Uniformity`, with a kind for each entry.

    Raises:
      TypeError: if `distribution` is none of TFP's.
      ValueError: if it has no distribution function, or x another shape, NaN or
        infinity.
    """
    if not isinstance(distribution, tfd.Distribution):
        raise TypeError(
            "distribution must be a TFP distribution, got "
            f"{type(distribution).__name__}."
        )
    x = check_numbers("x", x)
    shape = tuple(distribution.event_shape)
    if x.ndim != 1 + len(shape) or x.shape[1:] != shape:
        raise ValueError(
            f"x must be [N, *event_shape] with event_shape {shape}, got {x.shape}."
        )
    value, keywords = tf.constant(x, distribution.dtype), {}
    if isinstance(distribution, GivenContext):
        keywords = {"context": distribution.context}
        distribution = distribution.conditional
    try:
        if hasattr(distribution, "encode"):
            value = distribution.encode(value, **keywords)
            u = distribution.distribution.distribution.cdf(value)
        else:
            u = distribution.cdf(value, **keywords)
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"{distribution.name}: it has no distribution function, nor a base of "
            "independent entries that have one. expected_coverage(q.log_prob(x), "
            "q.log_prob(q.sample([S, N]))) tests any density."
        ) from error
    u = np.asarray(u, np.float64).reshape(len(x), -1)
    return uniformity(np.clip(u, 0.0, 1.0), level=level, seed=seed)
