"""TensorFlow Probability's own bijectors."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from libraries import Contender, NotOffered
from libraries.on_tensorflow import contender, set_threads
from libraries.workloads import BOUND, Workload

tfb = tfp.bijectors
tfd = tfp.distributions

PACKAGES = ("tensorflow-probability", "tensorflow", "keras", "tf-keras")


def build(
    workload: Workload, data: np.ndarray, threads: int, jit: bool = False
) -> Contender:
    set_threads(threads)
    if workload.name == "residual":
        raise NotOffered(f"no {workload.flow}")
    x = tf.constant(data)
    make = {"glow": _glow, "continuous": _continuous}.get(workload.name, _chain)
    bijector, keep = make(workload)
    size = workload.size
    base = tfd.MultivariateNormalDiag(tf.zeros(size))
    flow = tfd.TransformedDistribution(base, bijector)
    # Networks and ActNorm get their variables and their values at the first call.
    flow.log_prob(x)
    variables = list({id(v): v for v in keep()}.values())
    note = {
        "glow": "each triangular factor is half of a matrix",
        "continuous": "adaptive steps, with a tolerance of 1e-5",
    }.get(workload.name, "")
    return contender(
        x,
        variables,
        lambda x, seed: -tf.reduce_mean(flow.log_prob(x)),
        lambda x: flow.log_prob(x),
        lambda seed: flow.sample(workload.batch, seed=seed),
        jit,
        lambda x: bijector.inverse(x),
        lambda z: bijector.forward(z),
        keras.optimizers.Adam,
        note=note,
    )


def _chain(workload):
    """A chain in the order in which data meet it, and a function to its variables."""
    layers, networks = [], []
    size, half = workload.size, workload.size // 2
    for i in range(workload.layers):
        if workload.name == "maf":
            network = tfb.AutoregressiveNetwork(
                params=2,
                event_shape=[size],
                hidden_units=list(workload.hidden),
                activation="relu",
                input_order="left-to-right" if i % 2 == 0 else "right-to-left",
            )
            layers.append(tfb.MaskedAutoregressiveFlow(network))
        else:
            outputs = (size - half) * workload.num_parameters
            network = _mlp(workload.hidden, outputs)
            layers.append(
                tfb.RealNVP(
                    num_masked=half if i % 2 == 0 else -half,
                    is_constant_jacobian=workload.name == "nice",
                    **_coupling(workload, network),
                )
            )
        networks.append(network)
    scale = []
    if workload.name == "nice":
        scale = [tf.Variable(tf.zeros(size))]
        layers.append(tfb.Scale(log_scale=scale[0]))

    def variables():
        return [v for net in networks for v in net.trainable_variables] + scale

    return tfb.Chain(layers), variables


def _continuous(workload):
    network = _mlp(workload.hidden, workload.size, "tanh")

    def velocity(t, x):
        return network(tf.concat([x, tf.fill([*x.shape[:-1], 1], t)], -1))

    exact = tfb.ffjord.trace_jacobian_exact
    bijector = tfb.FFJORD(velocity, trace_augmentation_fn=exact)
    return bijector, lambda: network.trainable_variables


def _mlp(hidden, outputs, activation="relu"):
    layers = [tf_keras.layers.Dense(width, activation=activation) for width in hidden]
    output = tf_keras.layers.Dense(outputs, kernel_initializer="zeros")
    return tf_keras.Sequential([*layers, output])


def _coupling(workload, network):
    if workload.name == "nice":
        return {"shift_and_log_scale_fn": lambda x, units: (network(x), None)}
    if workload.name == "real_nvp":
        return {"shift_and_log_scale_fn": lambda x, units: tf.split(network(x), 2, -1)}
    bins = workload.bins

    def spline(x, units):
        raw = network(x)
        raw = tf.reshape(raw, [*raw.shape[:-1], units, 3 * bins - 1])
        widths, heights, slopes = tf.split(raw, [bins, bins, bins - 1], -1)

        def sizes(raw):
            return tf.nn.softmax(raw) * (2 * BOUND - bins * 1e-3) + 1e-3

        return tfb.RationalQuadraticSpline(
            sizes(widths),
            sizes(heights),
            tf.nn.softplus(slopes + np.log(np.e - 1)) + 1e-3,
            range_min=-BOUND,
        )

    return {"bijector_fn": spline}


def _glow(workload):
    glow = tfb.Glow(
        output_shape=workload.event_shape,
        num_glow_blocks=workload.levels,
        num_steps_per_block=workload.layers,
        coupling_bijector_fn=lambda shape: tfb.GlowDefaultNetwork(
            shape, num_hidden=workload.hidden[0]
        ),
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
    )
    return glow, lambda: glow.trainable_variables
