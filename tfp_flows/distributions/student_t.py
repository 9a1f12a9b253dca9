"""A heavy-tailed base distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_shape
from tfp_flows.distributions.tracked import Independent, with_papers, without_given_name

__all__ = ["student_t"]

# Above 1, so that the mean exists: temperatures scale noise about it.
_LOWEST_DF = 1.01


def student_t(
    event_shape: Sequence[int],
    dtype: Any = tf.float32,
    df: Any = 5.0,
    learned: bool = True,
) -> tfd.Distribution:
    r"""Independent Student-t distributions with learned degrees of freedom.

    $$ \log p(z) = \sum_i \log\Gamma\tfrac{\nu_i + 1}{2} - \log\Gamma\tfrac{\nu_i}{2}
       - \tfrac12 \log(\pi \nu_i)
       - \tfrac{\nu_i + 1}{2} \log\Bigl(1 + \frac{z_i^2}{\nu_i}\Bigr) $$

    A flow whose bijector is Lipschitz, as affine couplings with bounded scales nearly
    are, cannot turn Gaussian tails into heavy ones (Jaini et al. 2020, theorem 4), so
    the base must have them. The tail of the density falls as
    $|z_i|^{-(\nu_i + 1)}$; $\nu_i \to \infty$ is the Gaussian.

    Each dimension has its own $\nu_i = 1.01 + \mathrm{softplus}(a_i)$, above 1 so that
    the mean exists; the variance is finite where $\nu_i > 2$, as at the default start.
    Samples are reparametrised, with a gradient in $\nu_i$ as well.

    Args:
      event_shape: shape of the event.
      dtype: dtype of values.
      df: the degrees of freedom to start from, above 1.01; a number or an array that
        broadcasts to `event_shape`.
      learned: whether they are variables; otherwise they stay at `df`.

    Returns:
      A distribution over `event_shape`, of location 0 and scale 1.

    Raises:
      ValueError: if `df` is not above 1.01, or does not broadcast to `event_shape`.
      TypeError: if `event_shape` is not a shape.

    Example:
      >>> base = student_t((2,), df=3.0)
      >>> base.sample(5, seed=0).shape
      TensorShape([5, 2])
    """
    dtype = tf.as_dtype(dtype)
    event_shape = check_shape("event_shape", event_shape)
    start = np.broadcast_to(np.asarray(df, dtype.as_numpy_dtype), event_shape)
    if not (start > _LOWEST_DF).all():
        raise ValueError(f"df must be above {_LOWEST_DF}, got {df}.")
    number = dtype.as_numpy_dtype
    freedom = tf.constant(start)
    if learned:
        freedom = tfp.util.TransformedVariable(
            freedom, tfb.Softplus(low=number(_LOWEST_DF)), name="df"
        )
    base = without_given_name(
        Independent(
            tfd.StudentT(freedom, tf.zeros([], dtype), tf.ones([], dtype)),
            len(event_shape),
            name="student_t",
        )
    )
    return with_papers(base, "jaini2020tails")
