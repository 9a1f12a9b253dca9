"""A flow with steps of Markov chains between its layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.chain import Chain, members
from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import sum_trailing
from tfp_flows.distributions import Flow
from tfp_flows.distributions.static_shape import StaticShape
from tfp_flows.inference.in_turn import check_adapts_not
from tfp_flows.inference.target import as_target, check_target

__all__ = ["StochasticFlow"]


class StochasticFlow(StaticShape):
    r"""A surrogate whose samples also make steps of Markov chains on their way.

    The bijectors $T_1, \ldots, T_B$ of a flow stand between steps of a kernel of TFP's,
    towards densities that lead from that of the base $q_0$ to the target $p$:

    $$ x_0 \sim q_0, \qquad y_b = T_b(x_{b-1}), \qquad
       y_b \to x_b \text{ by steps for } \log \pi_b = (1 - \beta_b) \log q_0
       + \beta_b \log p $$

    A bijector cannot cut one mode in two, a step can leap (Wu et al. 2020, "Stochastic
    Normalizing Flows"). The path from $x_0$ to $x_B$ has a weight that takes no sum
    over other paths,

    $$ \log w = \log p(x_B) - \log q_0(x_0) + \sum_b \log|\det \partial T_b|
       + \log \frac{\tilde k_b(x_b \to y_b)}{k_b(y_b \to x_b)}. $$

    For a kernel that leaves $\pi_b$ invariant (Metropolis, HMC) the last term is $\log
    \pi_b(y_b) - \log \pi_b(x_b)$, with $\tilde k$ its reversal; for one that is not
    calibrated it is the `log_acceptance_correction` of its steps, summed up. The mean
    weight is the normaliser of the target, whatever flow and kernel are, and weighted
    means are those of the target. Without bijectors it is annealed importance sampling
    (Neal 2001).

    **It is used as any surrogate**: `importance_sampling(target, path)` weighs samples,
    `VariationalModel(target, path)` trains the flow by the reverse divergence of paths.
    `experimental_sample_and_log_prob` gives $\log p(x_B) - \log w$ in place of a
    log-density: $e^{-(\ldots)}$ is an unbiased estimate of one over the density of a
    sample, which itself is not known. So there is no `log_prob`, and no objective that
    takes one (`path_gradient=True`, `forward_kl`).

    **Training** holds the acceptances of steps fixed, so that the gradients of a
    Metropolis kernel are not those of the bound. Those of
    `tfp.mcmc.UncalibratedLangevin` are.

    Example:
      >>> import tensorflow as tf, tensorflow_probability as tfp
      >>> from tfp_flows import flows, inference
      >>> def double_well(x):
      ...     return 3.0 * x[..., 0] ** 2 - 0.25 * x[..., 0] ** 4 - x[..., 1] ** 2
      >>> flow = flows.real_nvp((2,), layers=4, width=8, normalize=False, seed=0)
      >>> walk = tfp.mcmc.random_walk_normal_fn(0.5)
      >>> path = inference.StochasticFlow(flow, double_well, new_state_fn=walk)
      >>> found = inference.importance_sampling(double_well, path, 1000)
      >>> found.log_weights.shape
      (1000,)

    Args:
      flow: a `Flow` of real numbers without context, all of whose bijectors keep the
        shape of an event.
      target: the unnormalised log-density: a distribution, or a function of samples.
      betas: $\beta_b$, from 0 to 1. The bijectors are divided into as many parts, as
        equal as can be. Steps with 1 move samples and leave weights as they are.
      steps: number of steps of the kernel for each of `betas`.
      kernel: a kernel of TFP's, or another function that takes `target_log_prob_fn`.
      name: name of the distribution.
      **options: further arguments of `kernel`: `step_size`, `new_state_fn`.

    Raises:
      TypeError: if `flow` is no `Flow`, or `target` no density.
      ValueError: if the flow is not as described, the kernel adapts itself, the target
        is not one number for each sample, or a number is out of range.
    """

    papers = ("wu2020stochastic",)

    def __init__(
        self,
        flow: Flow,
        target: Any,
        betas: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        steps: int = 10,
        kernel: Callable[..., tfp.mcmc.TransitionKernel] = (
            tfp.mcmc.RandomWalkMetropolis
        ),
        name: str = "stochastic_flow",
        **options: Any,
    ):
        parameters = {**locals(), **options}
        del parameters["options"]
        if not isinstance(flow, Flow):
            raise TypeError(
                f"flow must be a tfp_flows.Flow, got {type(flow).__name__}. Of a "
                "surrogate_posterior it is the distribution, over unconstrained numbers"
                "."
            )
        if flow.context_shape is not None:
            raise ValueError(
                f"flow must take no context, got context_shape {flow.context_shape}: "
                "flow.given(context) has none."
            )
        if flow.domain is not None:
            raise ValueError(
                f"flow must be over all real numbers, got one over {flow.domain}: put "
                "the bijector of the constraint around a StochasticFlow, as a "
                "tfd.TransformedDistribution."
            )
        betas = [
            check_number(f"betas[{i}]", beta, at_least=0.0, at_most=1.0)
            for i, beta in enumerate(betas)
        ]
        if not betas:
            raise ValueError("betas must hold at least one number, got none.")
        layers = list(members(flow.bijector))[::-1]
        shapes = itertools.accumulate(
            layers,
            lambda shape, b: b.forward_event_shape(shape),
            initial=flow.distribution.event_shape,
        )
        if any(shape != flow.event_shape for shape in shapes):
            raise ValueError(
                f"flow must keep the shape {flow.event_shape} of an event all the way "
                "from its base, where steps compare it with the target."
            )
        self._flow, self._target, self._betas = flow, as_target(target), betas
        self._steps = check_integer("steps", steps)
        self._kernel, self._options = kernel, options
        bounds = np.linspace(0, len(layers), len(betas) + 1).round().astype(int)
        self._parts = [
            Chain(layers[start:stop][::-1], name=f"part_{i}")
            for i, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]
        check_adapts_not(self._kernel_of(self._target))
        super().__init__(
            event_shape=flow.event_shape,
            dtype=flow.dtype,
            reparameterization_type=flow.reparameterization_type,
            parameters=parameters,
            name=name,
        )
        check_target(self._target, flow)

    def _kernel_of(self, log_prob):
        return self._kernel(target_log_prob_fn=log_prob, **self._options)

    def _call_sample_n(self, sample_shape, seed):
        return self._sample_and_log_prob(sample_shape, seed)[0]

    def _sample_and_log_prob(self, sample_shape, seed):
        first, *seeds = tf.unstack(
            tf.random.split(stateless_seed(seed), 1 + len(self._betas))
        )
        base, rank = self._flow.distribution, self.event_shape.rank
        x, log_q = base.experimental_sample_and_log_prob(sample_shape, seed=first)
        for part, beta, seed in zip(self._parts, self._betas, seeds, strict=True):
            x, log_det = part.forward_and_log_det(x)
            log_q -= sum_trailing(log_det, rank - part.inverse_min_event_ndims)
            x, change = self._walk(x, beta, seed)
            log_q -= change
        return x, log_q

    def _walk(self, x, beta, seed):
        r"""Steps at one of `betas`: states, and $\log \tilde k / k$ of the steps."""

        def log_prob(x):
            parts = []
            if beta < 1:
                parts.append((1 - beta) * self._flow.distribution.log_prob(x))
            if beta > 0:
                parts.append(beta * self._target(x))
            return tf.add_n(parts)

        kernel = self._kernel_of(log_prob)
        seeds = tf.random.split(seed, self._steps)

        def step(i, x, results, change):
            x, results = kernel.one_step(x, results, seed=seeds[i])
            if not kernel.is_calibrated:
                change += results.log_acceptance_correction
            return i + 1, x, results, change

        before = log_prob(x)
        start = 0, x, kernel.bootstrap_results(x), tf.zeros_like(before)
        _, x, _, change = tf.while_loop(
            lambda i, *_: i < self._steps, step, start, maximum_iterations=self._steps
        )
        if kernel.is_calibrated:
            change = before - log_prob(x)
        # No path comes from where the density is 0.
        nowhere = tf.equal(before, tf.constant(-math.inf, before.dtype))
        return x, tf.where(nowhere, before, change)

    def _log_prob(self, value):
        raise NotImplementedError(
            f"{self.name}: the density of its samples is a sum over paths, which is "
            "not known; experimental_sample_and_log_prob gives an estimate, by which "
            "importance_sampling and VariationalModel weigh them."
        )
