"""The first training step against depth, taken apart.

    python benchmarks/first_call.py

builds RealNVPs (D=64, 2x256), residual flows (D=16, 2x128, the roulette) and Glows
(32x32x3, 3 levels, width 128; also with recomputed gradients) of several depths and
writes `benchmarks/results/first_call.md`: seconds for building, for tracing the
log-density, its gradient and Adam, and for the first run of the traced step (TensorFlow
optimises the graph then), with the step's operations. The next two columns are without
what keeps this small: each layer traced on its own, and Keras's Adam. The last is what
the bare networks take, built and trained for a step by the same Adam.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import time
from pathlib import Path

import keras
import report
import tensorflow as tf
from libraries import bare
from libraries.machine import processor
from libraries.on_tensorflow import set_threads
from libraries.tfp_flows import flow_of, initialize, training_keywords
from libraries.workloads import WORKLOADS

from tfp_flows.core.repeat import unrolled
from tfp_flows.training import FusedAdam

RESULTS = Path(__file__).parent / "results"
THREADS = os.cpu_count()
HEAD = (
    "flow",
    "layers",
    "variables",
    "building, s",
    "log_prob, s",
    "gradient, s",
    "Adam, s",
    "first run, s",
    "in all, s",
    "operations",
    "one by one: in all, s",
    "operations",
    "bare networks: in all, s",
)


def measure(flow, x, adam) -> tuple[list[float], int]:
    """Seconds of the parts of a first step, and its operations."""
    variables = flow.trainable_variables
    optimizer = adam(1e-4)
    optimizer.build(variables)
    keywords = training_keywords(flow, tf.constant([1, 2]))
    marks = []

    @tf.function(autograph=False)
    def step(x):
        marks.append(time.perf_counter())
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x, **keywords))
        marks.append(time.perf_counter())
        gradients = tape.gradient(loss, variables)
        marks.append(time.perf_counter())
        optimizer.apply(gradients, variables)
        marks.append(time.perf_counter())
        return loss

    start = time.perf_counter()
    traced = step.get_concrete_function(x)
    traced(x).numpy()
    # What is left, once traced, is in the first run.
    total = time.perf_counter() - start
    parts = [b - a for a, b in itertools.pairwise(marks)]
    return [*parts, total - sum(parts)], len(traced.graph.get_operations())


def row(name: str, layers: int, recompute: bool) -> list:
    """A flow with `layers` couplings, or steps in each level of a Glow."""
    workload = dataclasses.replace(WORKLOADS[name], layers=layers)
    x = tf.constant(workload.data())
    start = time.perf_counter()
    flow = flow_of(workload, recompute_gradients=recompute)
    building = time.perf_counter() - start
    initialize(flow, x)
    parts, operations = measure(flow, x, FusedAdam)
    with unrolled():
        alone, of_alone = measure(flow, x, keras.optimizers.Adam)
    start = time.perf_counter()
    bare.build(workload, x.numpy(), THREADS).train()
    of_bare = time.perf_counter() - start
    return [
        f"{name}, recomputed" if recompute else name,
        f"{workload.levels} levels x {layers}" if workload.levels else f"{layers}",
        len(flow.trainable_variables),
        *(f"{s:.2f}" for s in (building, *parts)),
        f"{building + sum(parts):.1f}",
        f"{operations:,}",
        f"{building + sum(alone):.1f}",
        f"{of_alone:,}",
        f"{of_bare:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8, 16])
    options = parser.parse_args()
    set_threads(THREADS)
    rows = []
    for name, recompute in (
        ("real_nvp", False),
        ("residual", False),
        ("glow", False),
        ("glow", True),
    ):
        for layers in options.layers:
            rows.append(row(name, layers, recompute))
            print(*rows[-1], sep="  ", flush=True)
    text = f"by `python benchmarks/first_call.py`, on {processor()}."
    table = report.table(HEAD, [[str(cell) for cell in line] for line in rows])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "first_call.md"
    path.write_text(f"The first training step, {text}\n\n{table}")


if __name__ == "__main__":
    main()
