"""Densities of flows whose log-determinant is estimated."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.core.log_det_estimates import mean_and_standard_error
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.distributions.flow import Flow

__all__ = ["log_prob_and_standard_error"]


def log_prob_and_standard_error(
    flow: Flow, x: Any, context: Any = None, draws: int = 16, seed: Any = 0
) -> tuple[tf.Tensor, tf.Tensor]:
    """The log-density as a mean of independent estimates, and its standard error.

    If the log-determinant of a flow is estimated (`ResidualFlow`), `flow.log_prob` is
    one deterministic estimate, whose error is correlated between examples. This
    function draws new random numbers for each example, `draws` times.

    Args:
      flow: a `Flow`.
      x: data `[*batch, *event_shape]`.
      context: `[*batch, *context_shape]` for a flow with a context.
      draws: number of estimates, at least 2.
      seed: an integer of any size, a stateless seed `[2]`, or `None` for a new one.

    Returns:
      `(log_prob, standard_error)`, each of shape `batch`, in nats. The standard error
      of a flow without an estimate in it is zero.

    Raises:
      ValueError: if `draws` is below 2; on a wrong shape or context.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.residual_flow((2,), layers=1, width=8, seed=0)
      >>> log_prob, error = log_prob_and_standard_error(flow, [[0.0, 0.0]], draws=4)
      >>> log_prob.shape, error.shape
      (TensorShape([1]), TensorShape([1]))
    """
    keywords = {} if context is None else {"context": context}
    is_estimate = "seed" in flow.bijector.keywords
    return mean_and_standard_error(
        lambda seed: flow.log_prob(
            x, **keywords, **({"seed": seed} if is_estimate else {})
        ),
        draws,
        stateless_seed(seed),
        flow.dtype,
        not is_estimate,
    )
