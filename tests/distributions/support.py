"""Small flows, moved away from the identity."""

from __future__ import annotations

from tests.support import perturb
from tfp_flows import Flow, bijectors, distributions, masks, networks


def make_chain(dtype: str = "float32", context_shape=None) -> bijectors.Chain:
    def coupling(mask, seed):
        network = networks.MLP(4, (8,), activation="tanh", seed=seed, dtype=dtype)
        return bijectors.AffineCoupling(
            mask, network, context_shape=context_shape, dtype=dtype
        )

    mask = masks.half(4)
    return bijectors.Chain(
        [
            coupling(mask, 1),
            coupling(~mask, 2),
            bijectors.ActNorm([4], dtype=dtype),
        ]
    )


def make_flow(dtype: str = "float32", context_shape=None, **options) -> Flow:
    base = distributions.diagonal_normal((4,), dtype)
    flow = Flow(base, make_chain(dtype, context_shape), **options)
    perturb(flow, 0.3)
    # As after training: nothing waits for data.
    flow.bijector.bijectors[-1].initialized.assign(True)
    return flow
