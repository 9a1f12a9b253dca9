"""The first training step against depth, taken apart.

    python benchmarks/first_call.py

builds Glows (32x32x3, 3 levels, width 128) and RealNVPs (D=64, 2x256) of several depths
and writes `benchmarks/results/first_call.md`: seconds for building, for tracing the
log-density, its gradient and Keras's Adam, and for the first run of the traced step
(TensorFlow optimises the graph then), with the step's operations.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from pathlib import Path

import keras
import tensorflow as tf
from libraries.machine import processor
from libraries.tfp_flows import flow_of, initialize
from libraries.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
HEAD = (
    "flow",
    "layers",
    "variables",
    "building, s",
    "log_prob, s",
    "gradient, s",
    "Adam, s",
    "first run, s",
    "operations before Adam",
    "with Adam",
)


def measure(name: str, layers: int) -> list:
    """One row: a flow with `layers` couplings, or steps in each level of a Glow."""
    workload = dataclasses.replace(WORKLOADS[name], layers=layers)
    x = tf.constant(workload.data())
    start = time.perf_counter()
    flow = flow_of(workload)
    building = time.perf_counter() - start
    initialize(flow, x)
    variables = flow.trainable_variables
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(variables)
    marks, operations = [], []

    def mark():
        marks.append(time.perf_counter())
        operations.append(len(tf.compat.v1.get_default_graph().get_operations()))

    @tf.function(autograph=False)
    def step(x):
        mark()
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        mark()
        gradients = tape.gradient(loss, variables)
        mark()
        optimizer.apply(gradients, variables)
        mark()
        return loss

    traced = step.get_concrete_function(x)
    start = time.perf_counter()
    traced(x).numpy()
    run = time.perf_counter() - start
    parts = [b - a for a, b in itertools.pairwise(marks)]
    seconds = [building, *parts, run]
    label = f"{workload.levels} levels x {layers}" if workload.levels else f"{layers}"
    counts = [f"{n:,}" for n in (operations[2], operations[3])]
    return [name, label, len(variables), *(f"{s:.2f}" for s in seconds), *counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument(
        "--flows", nargs="+", choices=WORKLOADS, default=["real_nvp", "glow"]
    )
    options = parser.parse_args()
    rows = [HEAD, ["---"] * len(HEAD)]
    for name in options.flows:
        for layers in options.layers:
            rows.append(measure(name, layers))
            print(*rows[-1], sep="  ", flush=True)
    lines = [
        "The first training step, by `python benchmarks/first_call.py`, on "
        f"{processor()}.",
        "",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "first_call.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
