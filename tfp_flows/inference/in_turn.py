"""Markov kernels that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.seeds import stateless_seed

__all__ = ["InTurn", "check_adapts_not"]


class InTurnResults(NamedTuple):
    """Results of the last step of each kernel.

    Attributes:
      results: a list with the results of each kernel.
    """

    results: list[Any]


class InTurn(tfp.mcmc.TransitionKernel):
    """Several kernels with one target, each of which makes some steps in turn.

    A local kernel and `flow_proposal` together explore modes and leap between them
    (Gabrié et al. 2022). A composition of kernels that leave the target invariant
    leaves it invariant.

    Each turn bootstraps the results of its kernel, which evaluates the density once
    more, as the other kernels have moved the state. So kernels that adapt themselves
    over steps would begin anew in each turn: adapt step sizes before.

    Example:
      >>> import tensorflow as tf, tensorflow_probability as tfp
      >>> from tfp_flows.inference import flow_proposal
      >>> target = tfp.distributions.Normal(0.0, 1.0)
      >>> local = tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, 0.5, 2)
      >>> leaps = flow_proposal(target, tfp.distributions.Normal(0.0, 2.0))
      >>> kernel = InTurn([local, leaps], steps=[3, 1])
      >>> tfp.mcmc.sample_chain(
      ...     5, tf.zeros(2), kernel=kernel, trace_fn=None, seed=0
      ... ).shape
      TensorShape([5, 2])

    Args:
      kernels: the kernels.
      steps: how many steps each makes in its turn; one by default.
      name: name of the kernel.

    Raises:
      ValueError: if there is no kernel, or `steps` are not as many; if a kernel adapts
        itself.
    """

    def __init__(
        self,
        kernels: Sequence[tfp.mcmc.TransitionKernel],
        steps: Sequence[int] | None = None,
        name: str = "in_turn",
    ):
        kernels = list(kernels)
        steps = [1] * len(kernels) if steps is None else list(steps)
        if not kernels or len(steps) != len(kernels):
            raise ValueError(
                "kernels must be one or more, with as many steps; got "
                f"{len(kernels)} kernels and steps={steps}."
            )
        self._steps = check_shape("steps", steps)
        for kernel in kernels:
            check_adapts_not(kernel)
        self._kernels = kernels
        self._parameters = {"kernels": kernels, "steps": self._steps, "name": name}

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return self._parameters

    @property
    def is_calibrated(self) -> bool:
        """Whether all kernels leave the target invariant."""
        return all(kernel.is_calibrated for kernel in self._kernels)

    def one_step(
        self,
        current_state: Any,
        previous_kernel_results: InTurnResults,
        seed: Any = None,
    ) -> tuple[Any, InTurnResults]:
        """One turn of each kernel.

        Args:
          current_state: states `[*chains, ...]`.
          previous_kernel_results: not used.
          seed: an integer, a stateless seed or `None`.

        Returns:
          The states, and the results of the last step of each kernel.
        """
        del previous_kernel_results
        drawn = tf.random.split(stateless_seed(seed), sum(self._steps))
        seeds, found = iter(tf.unstack(drawn)), []
        for kernel, steps in zip(self._kernels, self._steps, strict=True):
            results = kernel.bootstrap_results(current_state)
            for _ in range(steps):
                current_state, results = kernel.one_step(
                    current_state, results, seed=next(seeds)
                )
            found.append(results)
        return current_state, InTurnResults(found)

    def bootstrap_results(self, init_state: Any) -> InTurnResults:
        """Results of each kernel before the first step.

        Args:
          init_state: states `[*chains, ...]`.

        Returns:
          An `InTurnResults`.
        """
        return InTurnResults([k.bootstrap_results(init_state) for k in self._kernels])


def check_adapts_not(kernel: Any) -> None:
    """Raises a ValueError if a kernel, or one within it, adapts itself."""
    while kernel is not None:
        if "num_adaptation_steps" in kernel.parameters:
            raise ValueError(
                f"kernels must not adapt themselves, got {type(kernel).__name__}: each "
                "turn would begin anew. Adapt in a chain before, and give its step "
                "size."
            )
        kernel = kernel.parameters.get("inner_kernel")
