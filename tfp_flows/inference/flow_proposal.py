"""Independent Metropolis-Hastings: a flow proposes states."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.inference.states import as_state, target_of_state
from tfp_flows.inference.target import draw

__all__ = ["UncalibratedFlowProposal", "flow_proposal"]


class FlowProposalResults(NamedTuple):
    """The results that `UncalibratedFlowProposal` keeps beside a state.

    Attributes:
      target_log_prob: log-density of the target, in nats.
      proposal_log_prob: log-density of the surrogate, in nats.
      log_acceptance_correction: log-density of the surrogate at the state before, less
        that at this one.
    """

    target_log_prob: tf.Tensor
    proposal_log_prob: tf.Tensor
    log_acceptance_correction: tf.Tensor


class UncalibratedFlowProposal(tfp.mcmc.TransitionKernel):
    """Moves to a sample of the surrogate, wherever the chain is.

    `flow_proposal` wraps it into Metropolis-Hastings, which makes it exact. It keeps
    the surrogate's log-density of the present state, so that a step takes no inverse of
    the flow; only the first state does.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> kernel = UncalibratedFlowProposal(tfd.Normal(0.0, 2.0), tfd.Normal(0.0, 1.0))
      >>> kernel.is_calibrated
      False

    Args:
      target: the unnormalised log-density, as for `flow_proposal`.
      surrogate: a distribution over samples of the target's structure.
      name: name of the kernel.
    """

    def __init__(
        self, target: Any, surrogate: tfd.Distribution, name: str = "flow_proposal"
    ):
        self._parameters = {"target": target, "surrogate": surrogate, "name": name}
        self._target = target_of_state(target, surrogate)
        self._surrogate = surrogate

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return self._parameters

    @property
    def is_calibrated(self) -> bool:
        """False: the surrogate, not the target, is its stationary distribution."""
        return False

    def one_step(
        self,
        current_state: Any,
        previous_kernel_results: FlowProposalResults,
        seed: Any = None,
    ) -> tuple[Any, FlowProposalResults]:
        """Draws a state for each chain.

        Args:
          current_state: states `[*chains, ...]`, used for their structure alone.
          previous_kernel_results: what is known about them.
          seed: an integer, a stateless seed or `None`.

        Returns:
          The states, and what is known about them.
        """
        before = previous_kernel_results.proposal_log_prob
        sample, log_q = draw(self._surrogate, tf.shape(before), seed)
        log_q = tf.ensure_shape(log_q, before.shape)
        flat = [
            tf.ensure_shape(new, old.shape)
            for new, old in zip(
                *map(tf.nest.flatten, (as_state(sample), current_state)), strict=True
            )
        ]
        results = FlowProposalResults(self._target(*flat), log_q, before - log_q)
        return tf.nest.pack_sequence_as(current_state, flat), results

    def bootstrap_results(self, init_state: Any) -> FlowProposalResults:
        """Computes the results that belong to the first state.

        Args:
          init_state: states `[*chains, ...]`.

        Returns:
          A `FlowProposalResults`.
        """
        parts = tf.nest.flatten(init_state)
        log_q = self._surrogate.log_prob(
            tf.nest.pack_sequence_as(self._surrogate.dtype, parts)
        )
        return FlowProposalResults(self._target(*parts), log_q, tf.zeros_like(log_q))


def flow_proposal(
    target: Any, surrogate: tfd.Distribution
) -> tfp.mcmc.MetropolisHastings:
    r"""Metropolis-Hastings with samples of a flow as proposals (Gabrié et al. 2022).

    A sample $x'$ of the surrogate $q$ takes the place of the state $x$ with probability

    $$ \min\left(1, \frac{p(x') q(x)}{p(x) q(x')}\right) $$

    If the surrogate is the target, all are accepted. It leaps between modes, but waits
    long in states that the surrogate hardly reaches: `InTurn` mixes it with a local
    kernel ("Adaptive Monte Carlo augmented with normalizing flows", section 2).

    Example:
      >>> import tensorflow_probability as tfp
      >>> target = tfp.distributions.Normal([0.0, 1.0], 1.0)
      >>> target = tfp.distributions.Independent(target, 1)
      >>> kernel = flow_proposal(target, target)
      >>> states, accepted = tfp.mcmc.sample_chain(
      ...     10, target.sample(2, seed=0), kernel=kernel, seed=0,
      ...     trace_fn=lambda _, results: results.is_accepted,
      ... )
      >>> states.shape, bool(accepted.numpy().all())
      (TensorShape([10, 2, 2]), True)

    Args:
      target: the unnormalised log-density: a pinned joint distribution, another
        distribution, or a function as for `tfp.vi`.
      surrogate: a flow, `surrogate_posterior`, or any other distribution over samples
        of the target's structure; states are as for `neutra`.

    Returns:
      A `tfp.mcmc.MetropolisHastings`, whose results tell `is_accepted`.
    """
    return tfp.mcmc.MetropolisHastings(UncalibratedFlowProposal(target, surrogate))
