"""Memory of a training step against depth, with and without recomputed gradients.

    python benchmarks/memory.py

trains Glows of several depths on 64x64 images, each way in a process of its own, and
writes `benchmarks/results/memory.md`. Memory is what a step holds at most beyond what
was held after a step of one image (variables, optimiser state, the compiled function),
as the operating system counts it (Linux alone does): what a whole batch took is not
always handed back. Times of the two ways are taken in turns, in one more process.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from libraries.machine import forget_peak, resident

RESULTS = Path(__file__).parent / "results"
LEVELS, WIDTH, BATCH, SIZE = 3, 64, 32, 64


def measure(steps: int, ways: list[bool], rounds: int) -> dict:
    """Of one depth, in this process: megabytes, seconds and gradients' difference."""
    import numpy as np
    import tensorflow as tf

    from tfp_flows import flows
    from tfp_flows.training import FusedAdam, initialize, reconstruction_error

    draw = np.random.default_rng(0)
    x = tf.constant(draw.uniform(0, 256, (BATCH, SIZE, SIZE, 3)), tf.float32)
    found, functions = {}, {}
    for recompute in ways:
        flow = flows.glow(
            (SIZE, SIZE, 3),
            levels=LEVELS,
            steps=steps,
            width=WIDTH,
            bounds=(0, 256),
            seed=0,
            recompute_gradients=recompute,
        )
        noise = np.random.default_rng(1)
        for v in flow.trainable_variables:
            v.assign_add(0.002 * noise.standard_normal(v.shape).astype(np.float32))
        initialize(flow, x)
        optimizer = FusedAdam(1e-5)
        optimizer.build(flow.trainable_variables)

        @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]], x.dtype)])
        def step(x, flow=flow, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(flow.log_prob(x))
            gradients = tape.gradient(loss, flow.trainable_variables)
            optimizer.apply(gradients, flow.trainable_variables)
            return loss

        start = time.perf_counter()
        step(x[:1]).numpy()
        line = found[recompute] = {"first": time.perf_counter() - start, "seconds": []}
        trim()
        before = resident()
        forget_peak()
        step(x).numpy()
        line["memory"] = (resident(peak=True) - before) / 2**20
        if recompute:
            line["error"] = float(reconstruction_error(flow, x))
        functions[recompute] = step
    for _ in range(rounds):
        for recompute, step in functions.items():
            start = time.perf_counter()
            step(x).numpy()
            found[recompute]["seconds"].append(time.perf_counter() - start)
    return {str(k): v for k, v in found.items()}


def trim() -> None:
    """Hands free memory back, so that only what is needed counts."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def run(steps: int, ways: list[bool], rounds: int) -> dict:
    """`measure` in a process whose large blocks go back as soon as they are free."""
    command = [sys.executable, __file__, "--worker", json.dumps([steps, ways, rounds])]
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    out = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(*json.loads(options.worker))))
        return
    lines = [
        f"A training step of Glow on {SIZE}x{SIZE} images: {LEVELS} levels, width "
        f"{WIDTH}, batch {BATCH}.",
        "",
        "| steps in each level | gradients | memory, MB | step, s | first call, s | "
        "reconstruction error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for steps in options.steps:
        both = run(steps, [False, True], options.rounds)
        for recompute, found in both.items():
            alone = run(steps, [recompute == "True"], 0)[recompute]
            seconds = sorted(found["seconds"])[len(found["seconds"]) // 2]
            error = f"{found['error']:.1e}" if "error" in found else "-"
            way = "recomputed" if recompute == "True" else "kept"
            lines.append(
                f"| {steps} | {way} | {alone['memory']:.0f} | {seconds:.2f} | "
                f"{alone['first']:.0f} | {error} |"
            )
            print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
