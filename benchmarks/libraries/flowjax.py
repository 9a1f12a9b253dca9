"""FlowJAX (JAX)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from flowjax import bijections, flows
from flowjax.distributions import StandardNormal, Transformed

from libraries import Contender, NotOffered
from libraries.on_jax import contender, set_threads
from libraries.workloads import BOUND, Workload

PACKAGES = ("flowjax", "jax", "optax")


def build(workload: Workload, data: np.ndarray, threads: int) -> Contender:
    set_threads(threads)
    flow = _flow(workload)
    # As `flowjax.train.fit_to_data` does it.
    parameters, static = eqx.partition(
        flow,
        eqx.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
    )

    def whole(parameters):
        return paramax.unwrap(eqx.combine(parameters, static))

    def inverse(parameters, x):
        bijection = whole(parameters).merge_transforms().bijection
        return jax.vmap(bijection.inverse)(x)

    def forward(parameters, z):
        bijection = whole(parameters).merge_transforms().bijection
        return jax.vmap(bijection.transform)(z)

    note = "random permutations between layers"
    if workload.name == "spline":
        note += "; learned slopes at the ends, too"
    return contender(
        parameters,
        data,
        lambda parameters, x: whole(parameters).log_prob(x),
        lambda parameters, key: whole(parameters).sample(key, (workload.batch,)),
        inverse,
        forward,
        note=note,
    )


def _flow(workload):
    key = jax.random.key(0)
    base = StandardNormal((workload.size,))
    options = {
        "flow_layers": workload.layers,
        "nn_width": workload.hidden[0],
        "nn_depth": len(workload.hidden),
    }
    if workload.name == "nice":
        scaling = bijections.Scale(jnp.ones(workload.size))
        base = Transformed(base, scaling)
        transformer = bijections.Loc(jnp.zeros(()))
        return flows.coupling_flow(
            key, base_dist=base, transformer=transformer, **options
        )
    if workload.name == "real_nvp":
        return flows.coupling_flow(key, base_dist=base, **options)
    if workload.name == "spline":
        # Knots are counted without the ends.
        spline = bijections.RationalQuadraticSpline(
            knots=workload.bins - 1, interval=BOUND
        )
        return flows.coupling_flow(key, base_dist=base, transformer=spline, **options)
    if workload.name == "maf":
        return flows.masked_autoregressive_flow(key, base_dist=base, **options)
    raise NotOffered(f"no {workload.flow}")
