"""Small flows, moved away from the identity."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows import Flow, bijectors, distributions, masks, networks


def perturb(module: tf.Module, scale: float = 0.3, seed: int = 7) -> None:
    draw = np.random.default_rng(seed)
    for v in module.trainable_variables:
        v.assign_add(tf.constant(scale * draw.standard_normal(v.shape), v.dtype))


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


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
    perturb(flow)
    # As after training: nothing waits for data.
    flow.bijector.bijectors[-1].initialized.assign(True)
    return flow


@pytest.fixture
def flow() -> Flow:
    """Over vectors of 4, its base a Gaussian with a mean and deviations of its own."""
    return make_flow()


@pytest.fixture
def conditional() -> Flow:
    """As `flow`, with contexts of shape `[2]`."""
    return make_flow(context_shape=(2,))
