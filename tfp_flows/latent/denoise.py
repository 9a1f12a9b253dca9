"""Samples of a flow of noisy data, without the noise."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_number
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_data

__all__ = ["denoise"]


def denoise(flow: Flow, y: Any, noise: float, **keywords: Any) -> tf.Tensor:
    r"""The mean of the data behind noisy ones, by the density of these.

    $$ \operatorname{E}[x | y] = y + \sigma^2 \nabla_y \log p(y), \qquad
       y = x + \sigma \epsilon , $$

    (Tweedie's formula, Efron 2011; for samples of flows Zhai et al. 2024), exact if the
    flow is the density of the noisy data, as one that was trained by
    `FlowModel(flow, noise=sigma)` nearly is.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.real_nvp((2,), width=4, seed=0)
      >>> tfp_flows.latent.denoise(flow, flow.sample(3, seed=0), noise=0.1).shape
      TensorShape([3, 2])

    Args:
      flow: the flow of noisy data.
      y: noisy data `[*batch, *event_shape]`, samples of the flow.
      noise: $\sigma$, the standard deviation of the noise, in the units of the data.
      **keywords: `context` for a flow with one.

    Returns:
      Tensor like `y`.

    Raises:
      TypeError: if `noise` is not a number.
      ValueError: if it is negative, or on a wrong shape of `y`.
    """
    noise = check_number("noise", noise, at_least=0.0)
    y = as_data(flow, y, "y")
    with tf.GradientTape() as tape:
        tape.watch(y)
        log_prob = flow.log_prob(y, **keywords)
    return y + noise**2 * tape.gradient(log_prob, y)
