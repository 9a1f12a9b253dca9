"""The conditioner networks alone: work that no coupling flow can avoid.

The networks are those of `tfp_flows`, on TensorFlow: same layers, batch and optimiser.
Each takes the first entries of what the one before it returns (of images, every second
pixel where a level ends), as in a flow none can start before the one in front of it has
ended. The loss is a mean over all outputs, so that every weight has a gradient. A
sample is one pass through the networks, and so is a log-density.

For MAF the networks are the masked ones, one pass each. For residual flows they are
plain networks of the same size: no bound on the Lipschitz constant, no power series.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from libraries import Contender
from libraries.on_tensorflow import contender, set_threads
from libraries.workloads import Workload
from tfp_flows import networks

PACKAGES = ("tensorflow", "keras")


def build(
    workload: Workload, data: np.ndarray, threads: int, jit: bool = False
) -> Contender:
    set_threads(threads)
    layers, inputs = zip(*_networks(workload), strict=True)
    for layer, shape in zip(layers, inputs, strict=True):
        layer.build((None, *shape))
        _randomize(layer)
    variables = [v.value for layer in layers for v in layer.trainable_variables]

    def run(x):
        h = tf.reshape(x, [workload.batch, *_flat(workload)])
        means = []
        for layer, shape in zip(layers, inputs, strict=True):
            h = layer(_part(h, shape))
            means.append(tf.reduce_mean(h, list(range(1, h.shape.rank))))
        return tf.add_n(means)

    def noise(seed):
        return tf.random.stateless_normal([workload.batch, *workload.event_shape], seed)

    return contender(
        tf.constant(data),
        variables,
        lambda x, seed: tf.reduce_mean(run(x)),
        run,
        lambda seed: run(noise(seed)),
        jit,
    )


def _part(h, shape):
    """As much of `h` as a network of this input takes."""
    pixels = [
        slice(None, None, size // wanted)
        for size, wanted in zip(h.shape[1:-1], shape[:-1], strict=True)
    ]
    return h[(slice(None), *pixels, slice(shape[-1]))]


def _flat(workload):
    if len(workload.event_shape) == 3:
        height, width, channels = workload.event_shape
        return height // 2, width // 2, 4 * channels
    return (workload.size,)


def _networks(workload):
    """Pairs of a network and the shape of its input."""
    size, hidden = workload.size, workload.hidden
    if workload.name == "glow":
        height, width, channels = workload.event_shape
        for level in range(workload.levels):
            height, width, channels = height // 2, width // 2, 4 * channels
            half = channels // 2
            for _ in range(workload.layers):
                net = networks.ConvNet(2 * (channels - half), hidden[0], seed=0)
                yield net, (height, width, half)
            channels = half
            if level < workload.levels - 1:
                prior = networks.ConvNet(2 * half, kernels=(), seed=0)
                yield prior, (height, width, half)
        return
    for i in range(workload.layers):
        if workload.name == "maf":
            order = ("natural", "reverse")[i % 2]
            yield networks.MADE(size, 2, hidden, order=order, seed=0), (size,)
        elif workload.name == "residual":
            yield networks.MLP(size, hidden, activation="silu", seed=0), (size,)
        else:
            half = size // 2
            outputs = (size - half) * workload.num_parameters
            yield networks.MLP(outputs, hidden, seed=0), (half,)


def _randomize(layer):
    """A new network returns zeros, which would be all that the next one sees."""
    draw = keras.random.SeedGenerator(0)
    for v in layer.trainable_variables:
        if len(v.shape) > 1:
            spread = (2.0 / np.prod(v.shape[:-1])) ** 0.5
            v.assign(keras.random.normal(v.shape, stddev=spread, seed=draw))
