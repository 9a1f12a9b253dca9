"""Whether XLA pays on this machine, by flow and operation.

    python benchmarks/xla.py

times a training step, `log_prob` and `decode` of ready flows in a `tf.function` with
and without `jit_compile=True`. The two take turns; the ratio is the median over the
turns. The last column is how many calls repay the longer first one. Adds a table to
`benchmarks/results/xla.md`; run it with `TF_ENABLE_ONEDNN_OPTS` 0 and 1, which has each
its own.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

import tensorflow as tf
from libraries.machine import processor
from libraries.on_tensorflow import set_threads

from tfp_flows import flows
from tfp_flows.training import FusedAdam, initialize

RESULTS = Path(__file__).parent / "results"
SECONDS, TURN = 3.0, 0.1
OPTIONS = {"normalize": False, "seed": 0}
FLOWS = {
    "nice((784,))": (lambda: flows.nice((784,), **OPTIONS), 200),
    "real_nvp((64,))": (lambda: flows.real_nvp((64,), **OPTIONS), 512),
    "maf((64,))": (lambda: flows.maf((64,), **OPTIONS), 512),
    "neural_spline_flow((2,))": (
        lambda: flows.neural_spline_flow((2,), **OPTIONS),
        256,
    ),
    "neural_spline_flow((16,))": (
        lambda: flows.neural_spline_flow((16,), **OPTIONS),
        512,
    ),
    "flow_plus_plus((8,))": (
        lambda: flows.flow_plus_plus((8,), layers=4, width=128, **OPTIONS),
        512,
    ),
    "residual_flow((8,))": (
        lambda: flows.residual_flow((8,), layers=4, **OPTIONS),
        512,
    ),
    "planar((8,))": (lambda: flows.planar((8,), **OPTIONS), 512),
    "glow((16, 16, 3))": (
        lambda: flows.glow((16, 16, 3), steps=4, width=64, **OPTIONS),
        32,
    ),
}


def operations(flow, batch):
    """The functions to time, with their argument."""
    x = tf.random.stateless_normal([batch, *flow.event_shape], [1, 2])
    initialize(flow, x)
    variables = flow.trainable_variables
    optimizer = FusedAdam(1e-5)
    optimizer.build(variables)

    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        optimizer.apply(tape.gradient(loss, variables), variables)

    return {
        "training step": (step, x),
        "log_prob": (lambda x: flow.log_prob(x), x),
        "decode": (lambda z: flow.decode(z), flow.encode(x)),
    }


def measure(function, argument):
    """Milliseconds without XLA, the ratio with it, and seconds of both first calls."""
    compiled, first, turns = [], [], []
    for jit in (None, True):
        compiled.append(tf.function(function, autograph=False, jit_compile=jit))
        start = time.perf_counter()
        compiled[-1](argument)
        first.append(time.perf_counter() - start)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(turns) < 3:
        turn = []
        for call in compiled:
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < TURN:
                call(argument)
                count += 1
            turn.append((time.perf_counter() - start) / count)
        turns.append(turn)
    ratio = statistics.median(with_xla / without for without, with_xla in turns)
    return 1000 * statistics.median(turn[0] for turn in turns), ratio, first


def main() -> None:
    set_threads(os.cpu_count())
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1 where the processor has it")
    title = f"TF_ENABLE_ONEDNN_OPTS: {onednn}"
    lines = [
        f"## {title}",
        "",
        "| flow | operation | without XLA, ms | with it | first calls, s | repaid by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (make, batch) in FLOWS.items():
        for operation, given in operations(make(), batch).items():
            plain, ratio, first = measure(*given)
            saved = plain * (1 - ratio) / 1000
            calls = (first[1] - first[0]) / saved if saved > 0 else math.inf
            row = [
                f"{name}, batch {batch}",
                operation,
                f"{plain:.3g}",
                f"x {ratio:.2f}",
                " / ".join(f"{seconds:.1f}" for seconds in first),
                f"{calls:.0f}" if ratio < 0.98 else "never",
            ]
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    path = RESULTS / "xla.md"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    head, *tables = before.split("\n## ")
    kept = [f"## {table.strip()}" for table in tables if not table.startswith(title)]
    head = (
        f"Whether XLA pays, by `python benchmarks/xla.py`, on {processor()}, "
        f"{os.cpu_count()} threads: the time as a share of that without it."
    )
    path.write_text("\n\n".join([head.strip(), *kept, "\n".join(lines)]) + "\n")


if __name__ == "__main__":
    main()
