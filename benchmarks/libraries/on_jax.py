"""What the libraries on JAX share: compiled steps that own their parameters."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from libraries import Contender
from libraries.workloads import LEARNING_RATE, SPREAD

__all__ = ["apply_mlp", "contender", "mlp", "set_threads"]


def set_threads(threads: int) -> None:
    """JAX has no setting: it takes as many threads as the process has processors."""
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > threads:
        raise RuntimeError(f"more than {threads} processors are left to JAX")


def contender(
    parameters: Any,
    x: np.ndarray,
    log_prob: Callable,
    sample: Callable,
    inverse: Callable | None = None,
    forward: Callable | None = None,
    **fields,
) -> Contender:
    """A contender from functions of parameters, each compiled.

    Args:
      parameters: tree of arrays, all of them trained.
      x: the batch.
      log_prob: from `(parameters, x)` to an array.
      sample: from `(parameters, key)` to an array.
      inverse: from `(parameters, x)` to noise, for the round trip.
      forward: from `(parameters, noise)` back.
      **fields: others of `Contender`.
    """
    x = jnp.asarray(x)
    optimizer = optax.adam(LEARNING_RATE)

    def loss(parameters, x):
        return -jnp.mean(log_prob(parameters, x))

    def step(parameters, state, x):
        value, gradient = jax.value_and_grad(loss)(parameters, x)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    step = jax.jit(step, donate_argnums=(0, 1))
    log_prob_jit, sample_jit = jax.jit(log_prob), jax.jit(sample)
    # Copies, which a step may overwrite.
    state = [jax.tree.map(jnp.array, parameters), optimizer.init(parameters)]
    key = jax.random.key(1)

    def train():
        state[0], state[1], value = step(state[0], state[1], x)
        return float(value)

    def round_trip():
        leaves, tree = jax.tree.flatten(parameters)
        keys = jax.random.split(jax.random.key(2), len(leaves))
        noisy = [
            leaf + SPREAD * jax.random.normal(k, leaf.shape)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        noisy = jax.tree.unflatten(tree, noisy)
        back = jax.jit(forward)(noisy, jax.jit(inverse)(noisy, x))
        return float(jnp.max(jnp.abs(back - x)))

    return Contender(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(parameters)),
        train=train,
        log_prob=lambda: jax.block_until_ready(log_prob_jit(state[0], x)),
        sample=lambda: jax.block_until_ready(sample_jit(state[0], key)),
        round_trip=None if inverse is None else round_trip,
        **fields,
    )


def mlp(key, inputs: int, hidden: tuple[int, ...], outputs: int):
    """Weights of dense layers, the last one zero; `apply_mlp` applies them."""
    sizes = [inputs, *hidden, outputs]
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        spread = (2.0 / a) ** 0.5 if i < len(hidden) else 0.0
        kernel = spread * jax.random.normal(jax.random.fold_in(key, i), (a, b))
        layers.append({"kernel": kernel, "bias": jnp.zeros(b)})
    return layers


def apply_mlp(layers, x):
    """Dense layers with rectified linear units."""
    for i, layer in enumerate(layers):
        x = (jax.nn.relu(x) if i else x) @ layer["kernel"] + layer["bias"]
    return x
