"""Neural transport: Markov chains in the space of a flow's noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.tfp_internals import TRANSFORMED_DISTRIBUTION
from tfp_flows.inference.states import as_state, target_of_state

__all__ = ["neutra"]


def neutra(
    target: Any,
    surrogate: tfd.Distribution,
    kernel: Callable[..., tfp.mcmc.TransitionKernel] = tfp.mcmc.NoUTurnSampler,
    **options: Any,
) -> tfp.mcmc.TransformedTransitionKernel:
    r"""A kernel of TFP's that moves in the noise of a trained surrogate.

    With the surrogate's bijector $T$, the chain moves $z$ under the density

    $$ \log p(T(z)) + \log|\det \partial T(z) / \partial z| $$

    which is nearly a standard normal if the surrogate is nearly the posterior (Hoffman
    et al. 2019, "NeuTra-lizing Bad Geometry in Hamiltonian Monte Carlo Using Neural
    Transport"). The states $T(z)$ have the target as their stationary distribution
    whatever the surrogate is.

    **States** are those of TFP's kernels: `surrogate.sample(chains)` if it is a tensor,
    a list, a tuple or a named tuple; of another structure, its list of tensors,
    `tf.nest.flatten(surrogate.sample(chains))`. In the space of noise there is a part
    of its own for each part of a state. Adaptations of step sizes, such as
    `tfp.mcmc.DualAveragingStepSizeAdaptation`, go around the kernel.

    Example:
      >>> import tensorflow_probability as tfp
      >>> from tfp_flows import Flow, bijectors, distributions
      >>> target = tfp.distributions.MultivariateNormalDiag([0.0, 0.0], [1.0, 9.0])
      >>> base = distributions.standard_normal((2,))
      >>> flow = Flow(base, bijectors.Scaling([2], log_scale=[0.0, 2.0]))
      >>> hmc = tfp.mcmc.HamiltonianMonteCarlo
      >>> kernel = neutra(target, flow, hmc, step_size=0.5, num_leapfrog_steps=2)
      >>> start = flow.sample(3, seed=0)
      >>> tfp.mcmc.sample_chain(2, start, kernel=kernel, trace_fn=None, seed=0).shape
      TensorShape([2, 3, 2])

    Args:
      target: the unnormalised log-density: a pinned joint distribution, another
        distribution, or a function as for `tfp.vi`.
      surrogate: a flow, or `surrogate_posterior`, trained on the target.
      kernel: a kernel of TFP's, or another function that takes `target_log_prob_fn`.
      **options: further arguments of `kernel`: `step_size`, `num_leapfrog_steps`.

    Returns:
      A `tfp.mcmc.TransformedTransitionKernel`.

    Raises:
      ValueError: if the surrogate is no transformed distribution over vectors.
    """
    inner = kernel(target_log_prob_fn=target_of_state(target, surrogate), **options)
    return tfp.mcmc.TransformedTransitionKernel(inner, _bijector(surrogate))


def _bijector(surrogate: tfd.Distribution) -> tfb.Bijector:
    """The bijector from noise, in as many parts as the state has, to a state."""
    members, base = [], surrogate
    while isinstance(base, TRANSFORMED_DISTRIBUTION):
        members.append(base.bijector)
        base = base.distribution
    if not members or not isinstance(base.event_shape, tf.TensorShape):
        raise ValueError(
            "surrogate must be a transformed distribution (a Flow, or what "
            f"surrogate_posterior makes), got {surrogate.name}, a "
            f"{type(surrogate).__name__}."
        )
    structure = surrogate.dtype
    state = as_state(structure)
    if state is not structure:
        # From parts in a list to the structure, and back.
        tokens = tf.nest.pack_sequence_as(structure, list(range(len(state))))
        members.insert(0, tfb.Invert(tfb.Restructure(tokens)))
    if not tf.nest.is_nested(state):
        return tfb.Chain(members)
    # TFP's kernel needs as many tensors in the space of noise as in that of states.
    size, count = base.event_shape.num_elements(), len(tf.nest.flatten(state))
    sizes = _sizes(surrogate, size, count)
    return tfb.Chain([*members, tfb.Invert(tfb.Split(sizes))])


def _sizes(surrogate: tfd.Distribution, size: int, count: int) -> list[int]:
    """Sizes of the parts of noise: those of the unconstrained parts, if known."""
    split = [m for m in surrogate.bijector.submodules if isinstance(m, tfb.Split)]
    if split and len(split[0].split_sizes) == count:
        return [int(n) for n in split[0].split_sizes]
    raise ValueError(
        f"surrogate must split its {size} numbers into the {count} parts of a state by "
        "a tfb.Split, as surrogate_posterior does."
    )
