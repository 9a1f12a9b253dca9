"""What the libraries on TensorFlow share: threads, steps and timing's needs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from libraries import Contender
from libraries.workloads import LEARNING_RATE, SPREAD
from tfp_flows.training import FusedAdam

__all__ = ["contender", "set_threads", "train_step"]


def set_threads(threads: int) -> None:
    """Threads within an operation and operations at a time, `threads` of each."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def contender(
    x: tf.Tensor,
    variables: Sequence[tf.Variable],
    loss: Callable,
    log_prob: Callable,
    sample: Callable,
    jit: bool = False,
    inverse: Callable | None = None,
    forward: Callable | None = None,
    adam: type[keras.optimizers.Optimizer] = FusedAdam,
    **fields,
) -> Contender:
    """A contender from functions of tensors, each in a `tf.function` of its own.

    Args:
      x: the batch.
      variables: what is trained.
      loss: from `(x, seed)` to a scalar.
      log_prob: from `x` to a tensor.
      sample: from a stateless seed `[2]` to a tensor.
      jit: whether XLA compiles the functions.
      inverse: from data to noise, for the round trip.
      forward: from noise to data.
      adam: the optimiser.
      **fields: others of `Contender`.
    """
    step = train_step(variables, loss, adam, jit)
    log_prob = tf.function(log_prob, jit_compile=jit, autograph=False)
    sample = tf.function(sample, jit_compile=jit, autograph=False)
    # Arguments, so that nothing of the noise is a constant of the graph, and new ones,
    # since they say how many terms of a series a residual flow computes.
    seeds = (tf.constant([0, i]) for i in itertools.count())
    start = [v.numpy() for v in variables]
    return Contender(
        parameters=sum(int(np.prod(v.shape)) for v in variables),
        train=lambda: step(x, next(seeds)).numpy(),
        log_prob=lambda: log_prob(x).numpy(),
        sample=lambda: sample(next(seeds)).numpy(),
        round_trip=inverse
        and (lambda: _round_trip(x, variables, start, inverse, forward)),
        **fields,
    )


def train_step(
    variables: Sequence[tf.Variable],
    loss: Callable,
    adam: type[keras.optimizers.Optimizer],
    jit: bool = False,
) -> Callable:
    """From `(x, seed)` to the loss before one step of Adam."""
    optimizer = adam(LEARNING_RATE)
    optimizer.build(variables)

    @tf.function(jit_compile=jit, autograph=False)
    def step(x, seed):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable)
            value = loss(x, seed)
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    return step


def _round_trip(x, variables, start, inverse, forward):
    """Largest error of `x` after going to noise and back, with noise on parameters."""
    draw = np.random.default_rng(2)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value + SPREAD * draw.normal(size=variable.shape))
        # Where TFP keeps the masks of an autoregressive network.
        if getattr(variable, "constraint", None) is not None:
            variable.assign(variable.constraint(variable))
    there = tf.function(inverse, autograph=False)
    back = tf.function(forward, autograph=False)
    return float(tf.reduce_max(tf.abs(back(there(x)) - x)))
