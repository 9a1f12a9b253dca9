"""Where XLA pays: whole operations, or transformers alone, against none of it.

    python benchmarks/fusion.py

times a training step, `log_prob` and `decode` of small ready flows in a `tf.function`:
plain, with transformers that XLA compiles (`tfp_flows.core.fusion`), and compiled as a
whole (`jit_compile=True`). The three take turns; ratios are medians over the turns.
Writes `benchmarks/results/fusion.md`. Run it with `TF_ENABLE_ONEDNN_OPTS` 0 and 1: the
other arithmetic has its own table there.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from pathlib import Path

import tensorflow as tf
from libraries.machine import processor
from libraries.on_tensorflow import set_threads

from tfp_flows import flows
from tfp_flows.core.fusion import fusing
from tfp_flows.training import FusedAdam, initialize

RESULTS = Path(__file__).parent / "results"
SECONDS, TURN = 3.0, 0.1
OPTIONS = {"normalize": False, "seed": 0}
FLOWS = {
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
    "planar((8,))": (lambda: flows.planar((8,), **OPTIONS), 512),
    "glow((16, 16, 3))": (
        lambda: flows.glow((16, 16, 3), steps=4, width=64, **OPTIONS),
        32,
    ),
}
WAYS = {"plain": (False, None), "transformers": (True, None), "whole": (False, True)}


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


def first_calls(function, argument):
    """Each way's compiled function, and the seconds of its first call."""
    for fuse, jit in WAYS.values():
        compiled = tf.function(function, autograph=False, jit_compile=jit)
        start = time.perf_counter()
        with fusing(fuse) if fuse else contextlib.nullcontext():
            compiled(argument)
        yield compiled, time.perf_counter() - start


def measure(function, argument):
    """Milliseconds of the plain way, ratios to it, seconds of first calls."""
    compiled, first = zip(*first_calls(function, argument), strict=True)
    turns = []
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
    ratios = [
        statistics.median(turn[k] / turn[0] for turn in turns) for k in range(len(WAYS))
    ]
    return 1000 * statistics.median(turn[0] for turn in turns), ratios[1:], first


def main() -> None:
    set_threads(os.cpu_count())
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1 where the processor has it")
    title = f"TF_ENABLE_ONEDNN_OPTS: {onednn}"
    lines = [
        f"## {title}",
        "",
        "| flow | operation | plain, ms | transformers | whole | first calls, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (make, batch) in FLOWS.items():
        for operation, given in operations(make(), batch).items():
            plain, ratios, first = measure(*given)
            row = [
                f"{name}, batch {batch}",
                operation,
                f"{plain:.3g}",
                *(f"{ratio:.2f}" for ratio in ratios),
                " / ".join(f"{seconds:.1f}" for seconds in first),
            ]
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    path = RESULTS / "fusion.md"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    head, *tables = before.split("\n## ")
    kept = [f"## {table.strip()}" for table in tables if not table.startswith(title)]
    head = (
        "Where XLA pays, by `python benchmarks/fusion.py`, on "
        f"{processor()}, {os.cpu_count()} threads: times of the plain way.\n"
    )
    path.write_text("\n\n".join([head.strip(), *kept, "\n".join(lines)]) + "\n")


if __name__ == "__main__":
    main()
