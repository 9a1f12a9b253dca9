"""Conditioners in bfloat16 against float32: test likelihood and time of a step.

    python benchmarks/mixed_precision.py

trains each flow in both precisions from one seed on the same batches, and writes
`benchmarks/results/mixed_precision.md`. MNIST is taken from TensorFlow Datasets
(`--data-dir` says where it is).
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from libraries.machine import processor

import tfp_flows
from tfp_flows import datasets, flows
from tfp_flows.command.settings import Settings
from tfp_flows.command.train import train as train_and_report
from tfp_flows.training import initialize

RESULTS = Path(__file__).parent / "results"
RUNS = {
    "digits": ("glow", {"steps": 8, "width": 64, "logit_margin": 0.05}, 64),
    "mnist": ("nice", {"depth": 5, "width": 256}, 200),
}
EPOCHS = {"digits": 30, "mnist": 5}
DTYPES = ("float32", "bfloat16")


def train(data: str, dtype: str, epochs: int, data_dir: str | None) -> float:
    """Test log-likelihood in nats."""
    flow, options, batch_size = RUNS[data]
    settings = Settings.suited(
        data,
        flow,
        flow_options={**options, "conditioner_dtype": dtype},
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        data_dir=data_dir,
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        report = train_and_report(settings, Path(folder) / "run", verbose=0)
    return report["results"]["log_likelihood"]


def step_times(data: str, rounds: int, data_dir: str | None) -> dict[str, float]:
    """Median seconds of a training step, the two precisions taking turns."""
    name, options, batch_size = RUNS[data]
    source = datasets.load(data, data_dir=data_dir)
    x = next(iter(source.dataset("train", batch_size)))
    functions = {}
    for dtype in DTYPES:
        flow = getattr(flows, name)(
            source.event_shape,
            bounds=(0, 256),
            seed=0,
            conditioner_dtype=dtype,
            **options,
        )
        initialize(flow, x)
        model = tfp_flows.FlowModel(flow)
        model.compile(keras.optimizers.Adam(1e-4))
        model.optimizer.build(model.trainable_variables)
        functions[dtype] = tf.function(lambda x, model=model: model.train_step(x))
        functions[dtype](x)
    seconds = {dtype: [] for dtype in DTYPES}
    for _ in range(rounds):
        for dtype, step in functions.items():
            start = time.perf_counter()
            for _ in range(5):
                step(x)
            seconds[dtype].append((time.perf_counter() - start) / 5)
    return {dtype: float(np.median(values)) for dtype, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--epochs", type=int, help=f"by default {EPOCHS}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    lines = [
        "| data | flow | float32, nats | bfloat16, nats | difference | step |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for data in options.data:
        epochs = options.epochs or EPOCHS[data]
        full, half = (train(data, d, epochs, options.data_dir) for d in DTYPES)
        seconds = step_times(data, options.rounds, options.data_dir)
        lines.append(
            f"| {data}, {epochs} epochs | {RUNS[data][0]} | {full:.2f} | {half:.2f} | "
            f"{100 * abs(half / full - 1):.2f} % | "
            f"{seconds['bfloat16'] / seconds['float32']:.2f} of float32's |"
        )
        print(lines[-1], flush=True)
    lines += ["", f"TensorFlow {tf.__version__} on {platform.machine()}, {cpu()}."]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mixed_precision.md").write_text("\n".join(lines) + "\n")


def cpu() -> str:
    """The processor, and what it has for half precision."""
    try:
        info = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return processor()
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in info]
    without = "without AMX or AVX-512 for bfloat16"
    return f"{processor()}, {', '.join(units) or without}"


if __name__ == "__main__":
    main()
