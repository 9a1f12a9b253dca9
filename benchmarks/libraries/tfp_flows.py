"""The flows of this package, as its users build and train them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from libraries import Contender
from libraries.on_tensorflow import contender, set_threads
from libraries.workloads import BOUND, DEGREES, LEARNING_RATE, Workload
from tfp_flows import (
    Flow,
    FlowModel,
    bijectors,
    distributions,
    flows,
    masks,
    networks,
    training,
    transformers,
)
from tfp_flows.ready.plan import network_dtype

PACKAGES = ("tfp_flows", "tensorflow", "keras", "tensorflow-probability")


def flow_of(workload: Workload, **options: Any) -> Flow:
    """The flow of a workload.

    Args:
      workload: what to build.
      **options: `conditioner_dtype` and `recompute_gradients` of the ready flows.
    """
    shape, count, hidden = workload.event_shape, workload.layers, workload.hidden
    if workload.name == "spline":
        return _spline(workload, **options)
    # Workloads are as they come, for all libraries.
    options |= {"seed": 0, "normalize": False}
    if workload.name == "nice":
        return flows.nice(
            shape,
            layers=count,
            depth=len(hidden),
            width=hidden[0],
            base="normal",
            **options,
        )
    if workload.name == "real_nvp":
        return flows.real_nvp(
            shape,
            layers=count,
            width=hidden[0],
            depth=len(hidden),
            scale="exp",
            **options,
        )
    if workload.name == "glow":
        return flows.glow(
            shape,
            levels=workload.levels,
            steps=count,
            width=hidden[0],
            max_log_scale=None,
            **options,
        )
    if workload.name == "maf":
        return flows.maf(
            shape,
            layers=count,
            width=hidden[0],
            depth=len(hidden),
            scale="exp",
            **options,
        )
    if workload.name in DEGREES:
        return flows.naf(
            shape,
            transformer=workload.name,
            components=DEGREES[workload.name],
            layers=count,
            width=hidden[0],
            depth=len(hidden),
            **options,
        )
    if workload.name == "gaussianization":
        return flows.gaussianization(
            shape, layers=count, components=workload.bins, **options
        )
    if workload.name == "continuous":
        return flows.ffjord(shape, width=hidden[0], depth=len(hidden), **options)
    return flows.residual_flow(
        shape,
        layers=count,
        width=hidden[0],
        depth=len(hidden),
        log_det="roulette",
        actnorm=False,
        **options,
    )


def _spline(workload, conditioner_dtype="float32", recompute_gradients=False):
    """The ready flow has residual networks; these have the layers of the others."""
    size = workload.size
    policy = network_dtype("float32", conditioner_dtype)
    seeds = itertools.count()

    def coupling(mask):
        spline = transformers.RationalQuadratic(workload.bins, BOUND)
        network = networks.MLP(
            spline.num_parameters * int((~mask).sum()),
            workload.hidden,
            seed=next(seeds),
            dtype=policy,
        )
        return bijectors.Coupling(mask, network, spline)

    mask = masks.alternating(size)
    chain = bijectors.Repeat(
        lambda: [coupling(mask), coupling(~mask)],
        workload.layers // 2,
        recompute_gradients=recompute_gradients,
    )
    return Flow(distributions.standard_normal([size]), chain, name="spline")


def build(
    workload: Workload,
    data: np.ndarray,
    threads: int,
    jit: bool = False,
    fit: bool = False,
) -> Contender:
    set_threads(threads)
    flow, x = flow_of(workload), tf.constant(data)
    made = _fit(flow, x) if fit else contender_of(flow, x, jit)
    if workload.name == "residual":
        made.note = (
            "slopes of activations to learn, no biases of outputs; the roulette, as "
            "normflows has it (without `log_det` it would be exact for D=16)"
        )
    if workload.name == "continuous":
        made.note = "32 evaluations of the velocity in 8 steps of a fixed size"
    return made


def training_keywords(flow: Flow, seed: Any) -> dict[str, Any]:
    """What training asks of densities that are estimated."""
    stochastic = {"seed", "training"} <= flow.keywords
    return {"training": True, "seed": seed} if stochastic else {}


def contender_of(flow: Flow, x: tf.Tensor, jit: bool = False) -> Contender:
    """A flow, initialised by its batch and ready to be timed."""
    initialize(flow, x)

    def loss(x, seed):
        return -tf.reduce_mean(flow.log_prob(x, **training_keywords(flow, seed)))

    return contender(
        x,
        flow.trainable_variables,
        loss,
        lambda x: flow.log_prob(x),
        lambda seed: flow.sample(x.shape[0], seed=seed),
        jit,
        lambda x: flow.encode(x),
        lambda z: flow.decode(z),
    )


def initialize(flow: Flow, x: tf.Tensor) -> None:
    """Initialises what depends on data, if there is anything, by a batch."""
    if training.needs_initialization(flow):
        training.initialize(flow, x)


def _fit(flow, x):
    """One step as `FlowModel.fit` takes it: its loss and its metrics."""
    initialize(flow, x)
    model = FlowModel(flow)
    model.compile(optimizer="adam")
    model.optimizer.learning_rate = LEARNING_RATE
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((x,)).repeat())

    def step():
        logs = model.train_function(batches)
        return float(logs["loss"])

    return Contender(
        parameters=sum(int(np.prod(v.shape)) for v in flow.trainable_variables),
        train=step,
    )
