"""Temperatures chosen by held-out data, and flows at a temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions import Flow
from tfp_flows.latent.attributes import codes
from tfp_flows.latent.levels import level_slices

__all__ = ["fit_temperature", "tempered"]


def fit_temperature(
    flow: Flow, data: Any, *, per_level: bool = False, batch_size: int = 256
) -> np.ndarray:
    r"""The temperature at which held-out data are most likely.

    Scaling the noise by $T$ about its mean changes the log-density by a term of the
    code alone, $\log p_Z(\mu + (z - \mu) / T) - D \log T$. For independent Gaussians
    its mean over data has its maximum at

    $$ T^2 = \frac1D \sum_{i=1}^D \frac{(z_i - \mu_i)^2}{\sigma_i^2}, $$

    averaged over data; for other bases it is found by a search. A flow that overfits
    has $T > 1$ on held-out data. Temperatures below 1, which make samples look better,
    lower the likelihood.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> x = flow.sample(1000, seed=0, temperature=0.7)
      >>> float(fit_temperature(flow, x).round(1))
      0.7

    Args:
      flow: a flow whose base takes no context.
      data: held-out data, see `mean_code`.
      per_level: whether each level of a multi-scale flow has its own, see
        `level_slices`.
      batch_size: number of events that are encoded at a time.

    Returns:
      Array `[]`, or `[levels]` in the order of `level_slices`.

    Raises:
      ValueError: if the base takes a context; if it is not one of independent entries,
        for `per_level`, or the flow has no levels; see also `mean_code`.
    """
    base = flow.distribution
    if getattr(base, "context_shape", None) is not None:
        raise ValueError(f"flow must have a base without context, got {base.name}.")
    marginal = base.distribution if isinstance(base, tfd.Independent) else None
    if per_level and marginal is None:
        raise ValueError(
            f"per_level=True needs a base of independent entries, got {base.name}."
        )
    levels = level_slices(flow) if per_level else [slice(None)]
    z = np.concatenate([z for z, _ in codes(flow, data, None, batch_size, "data")])
    mean = np.asarray(base.mean(), np.float64)
    if isinstance(marginal, tfd.Normal):
        squares = np.square((z - mean) / np.asarray(base.stddev(), np.float64))
        found = [np.sqrt(squares[..., level].mean()) for level in levels]
    else:
        found = [_search(base, marginal, z, mean, level) for level in levels]
    return np.array(found if per_level else found[0])


def _search(base, marginal, z, mean, level):
    """The temperature of a level under a base that is not Gaussian."""
    from scipy.optimize import minimize_scalar

    size = z[0][..., level].size

    def loss(log_temperature):
        value = mean + (z - mean) * np.exp(-log_temperature)
        log_prob = (marginal or base).log_prob(tf.cast(value, base.dtype)).numpy()
        log_prob = log_prob[..., level] if marginal else log_prob
        return size * log_temperature - log_prob.sum(dtype=np.float64) / len(z)

    return np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)


def tempered(flow: Flow, temperature: Any) -> Flow:
    r"""The flow with its noise scaled about its mean, as a density and as a sampler.

    Unlike `Flow.sample(temperature=...)`, also the density is that at the temperature,
    and each level may have its own.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.glow((4, 4, 1), levels=2, steps=1, width=4, seed=0)
      >>> tempered(flow, [0.5, 0.9]).sample(3, seed=0).shape
      TensorShape([3, 4, 4, 1])

    Args:
      flow: a flow whose base takes no context.
      temperature: a positive number, or one for each level `[levels]` of a multi-scale
        flow, see `fit_temperature`.

    Returns:
      A flow with the same variables.

    Raises:
      ValueError: if a temperature is not positive and finite, there is not one for each
        level, or the base takes a context.
    """
    base = flow.distribution
    if getattr(base, "context_shape", None) is not None:
        raise ValueError(f"flow must have a base without context, got {base.name}.")
    heat = np.asarray(temperature, np.float64)
    if heat.ndim > 1 or not (np.isfinite(heat) & (heat > 0)).all():
        raise ValueError(
            f"temperature must be positive, one or [levels], got {temperature}."
        )
    scale = np.ones(base.event_shape)
    if heat.ndim == 0:
        scale *= heat
    else:
        levels = level_slices(flow)
        if len(heat) != len(levels):
            raise ValueError(
                f"temperature must have {len(levels)} entries, one for each level, got "
                f"{len(heat)}."
            )
        for level, t in zip(levels, heat, strict=True):
            scale[..., level] = t
    factor = tf.constant(scale, flow.dtype)
    bijector = tfb.Chain([tfb.Shift((1 - factor) * base.mean()), tfb.Scale(factor)])
    return flow.copy(distribution=Flow(base, bijector, name=f"tempered_{base.name}"))
