"""distrax (JAX): its couplings, with networks written here, for it has none."""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from libraries import Contender, NotOffered
from libraries.on_jax import apply_mlp, contender, mlp, set_threads
from libraries.workloads import BOUND, Workload

PACKAGES = ("distrax", "jax", "optax")


def build(workload: Workload, data: np.ndarray, threads: int) -> Contender:
    set_threads(threads)
    if workload.name not in ("nice", "real_nvp", "spline"):
        raise NotOffered(f"no {workload.flow}")
    size, half = workload.size, workload.size // 2
    keys = jax.random.split(jax.random.key(0), workload.layers)
    outputs = (size - half) * workload.num_parameters
    parameters = {"networks": [mlp(k, half, workload.hidden, outputs) for k in keys]}
    if workload.name == "nice":
        parameters["log_scale"] = jnp.zeros(size)

    def flow(parameters):
        base = distrax.MultivariateNormalDiag(jnp.zeros(size), jnp.ones(size))
        return distrax.Transformed(base, bijector(parameters))

    def bijector(parameters):
        # A chain applies its last one first when sampling: data meet these in order.
        chain = [
            distrax.SplitCoupling(
                half,
                event_ndims=1,
                conditioner=lambda x, net=net: _arguments(workload, apply_mlp(net, x)),
                bijector=_TRANSFORMERS[workload.name],
                swap=bool(i % 2),
            )
            for i, net in enumerate(parameters["networks"])
        ]
        if workload.name == "nice":
            scale = distrax.ScalarAffine(0.0, log_scale=parameters["log_scale"])
            chain.append(distrax.Block(scale, 1))
        return distrax.Chain(chain)

    def sample(parameters, key):
        return flow(parameters).sample(seed=key, sample_shape=(workload.batch,))

    return contender(
        parameters,
        data,
        lambda parameters, x: flow(parameters).log_prob(x),
        sample,
        lambda parameters, x: bijector(parameters).inverse(x),
        lambda parameters, z: bijector(parameters).forward(z),
    )


def _arguments(workload, raw):
    """What a network returns, as the transformer takes it."""
    if workload.name == "nice":
        return raw
    if workload.name == "real_nvp":
        return jnp.split(raw, 2, -1)
    raw = raw.reshape(*raw.shape[:-1], -1, workload.num_parameters)
    # Slopes at the ends are asked for, and not used.
    ends = jnp.zeros((*raw.shape[:-1], 1))
    inner = 2 * workload.bins
    return jnp.concatenate([raw[..., :inner], ends, raw[..., inner:], ends], -1)


_TRANSFORMERS = {
    "nice": lambda shift: distrax.ScalarAffine(shift),
    "real_nvp": lambda p: distrax.ScalarAffine(p[0], log_scale=p[1]),
    "spline": lambda p: distrax.RationalQuadraticSpline(
        p, -BOUND, BOUND, boundary_slopes="identity"
    ),
}
