"""Speed and memory of the flows on a GPU, and whether they run there at all.

    python -m pip install "tensorflow[and-cuda]" && python benchmarks/gpu.py

prints one table. Each flow of `speed.py` is trained and sampled as it is, with
conditioners in bfloat16 (`conditioner_dtype`), with gradients that rebuild activations
(`recompute_gradients`), and with both; each with and without XLA. First the script
checks where every variable, the loss and the gradients live, and stops if one of them
is not on the device.

Times are medians over `--repeats`, with the loss, densities and samples brought to the
host each time. Memory is the most that TensorFlow's allocator held during training
steps after the first, less what it held before the flow was built. The round trip is
the largest error of the batch after going to noise and back, with noise of 0.01 on
every parameter.

Without a GPU, `--cpu` runs the same at tiny sizes: a trial of the script. There is no
memory to be told then.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import platform
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from libraries import OPERATIONS
from libraries import tfp_flows as ours
from libraries.machine import first_line
from libraries.workloads import QUICK, WORKLOADS

VARIANTS = {
    "float32": {},
    "bfloat16": {"conditioner_dtype": "bfloat16"},
    "recomputed": {"recompute_gradients": True},
    "bfloat16, recomputed": {
        "conditioner_dtype": "bfloat16",
        "recompute_gradients": True,
    },
}


def placement(flow, x, device: str) -> str:
    """Says that everything is on the device, or raises.

    Raises:
      RuntimeError: naming what is elsewhere, and where.
    """

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        return loss, tape.gradient(loss, flow.trainable_variables)

    loss, gradients = step(x)
    found = {"the loss": loss.device, "the data": x.device}
    found |= {f"variable {v.name}": v.device for v in flow.variables}
    found |= {
        f"the gradient of {v.name}": g.device
        for v, g in zip(flow.trainable_variables, gradients, strict=True)
        if g is not None
    }
    # Whole numbers (a seed, a permutation) may stay with the host.
    whole = {f"variable {v.name}" for v in flow.variables if not v.dtype.is_floating}
    wrong = {k: v for k, v in found.items() if device not in v and k not in whole}
    if wrong:
        what, where = next(iter(wrong.items()))
        raise RuntimeError(
            f"{len(wrong)} of {len(found)} tensors are not on {device}: {what} is on "
            f"{where or 'no device'}."
        )
    return (
        f"{len(flow.variables)} variables, their gradients, the data and the loss are "
        f"on {device}"
    )


def measure(workload, options: dict, jit: bool, device: str, repeats: int) -> dict:
    """Seconds, bytes and errors of one variant; of what fails, the error instead."""
    gc.collect()
    row = {"errors": {}}
    with tf.device(device):
        before = _memory(device)
        try:
            flow = ours.flow_of(workload, **options)
            x = tf.constant(workload.data())
            contender = ours.contender_of(flow, x, jit)
        except Exception as error:
            return {"errors": {"building": first_line(error)}}
        row["placement"] = placement(flow, x, device)
        for operation in OPERATIONS:
            function = getattr(contender, operation)
            try:
                row[f"first {operation}"] = _seconds(function)
                if operation == "train":
                    _reset_memory(device)
                row[operation] = statistics.median(
                    _seconds(function) for _ in range(repeats)
                )
                if operation == "train":
                    row["memory"] = before and _memory(device, "peak") - before
            except Exception as error:
                row["errors"][operation] = first_line(error)
        try:
            row["round trip"] = contender.round_trip()
        except Exception as error:
            row["errors"]["round trip"] = first_line(error)
    return row


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _memory(device, which="current"):
    """Bytes that the allocator holds, or held at most; `None` on a CPU."""
    if "GPU" not in device:
        return None
    return tf.config.experimental.get_memory_info(device)[which]


def _reset_memory(device):
    if "GPU" in device:
        tf.config.experimental.reset_memory_stats(device)


def line(name: str, variant: str, jit: bool, row: dict) -> str:
    """A row of the table in Markdown."""

    def milliseconds(operation):
        if operation in row["errors"]:
            return "fails"
        return f"{1e3 * row[operation]:.3g}" if operation in row else "-"

    memory, error = row.get("memory"), row.get("round trip")
    cells = [
        name,
        variant,
        "yes" if jit else "no",
        *(milliseconds(operation) for operation in OPERATIONS),
        f"{row['first train']:.3g}" if "first train" in row else "-",
        "-" if memory is None else f"{memory / 2**20:,.1f}",
        "-" if error is None else f"{error:.1e}",
        "; ".join(f"{what} fails: {why}" for what, why in row["errors"].items()),
    ]
    return f"| {' | '.join(cells)} |"


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS)
    )
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--batch-factor", type=int, default=1, help="times the batch of speed.py"
    )
    parser.add_argument("--cpu", action="store_true", help="tiny sizes, on the CPU")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    arguments = parse(argv)
    # Each variant traces its own functions, which is no mistake.
    tf.get_logger().setLevel("ERROR")
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not arguments.cpu:
        sys.exit(
            "TensorFlow sees no GPU here. `nvidia-smi` shows whether the system has "
            'one; `python -m pip install "tensorflow[and-cuda]"` brings the CUDA '
            "libraries. --cpu tries this script on the CPU, at tiny sizes."
        )
    device = "CPU:0" if arguments.cpu else "GPU:0"
    name = platform.processor() or platform.machine()
    if not arguments.cpu:
        details = tf.config.experimental.get_device_details(gpus[0])
        name = details.get("device_name", "unknown GPU")
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    print(
        f"{device}: {name}; TensorFlow {tf.__version__}, Python "
        f"{platform.python_version()}; TF32 {'on' if tf32 and gpus else 'off'}; median "
        f"of {arguments.repeats}; batches x{arguments.batch_factor}\n"
    )
    rows = []
    for chosen in arguments.workloads:
        workload = (QUICK if arguments.cpu else WORKLOADS)[chosen]
        workload = dataclasses.replace(
            workload, batch=workload.batch * arguments.batch_factor
        )
        print(workload.title, file=sys.stderr)
        for variant in arguments.variants:
            for jit in (False, True):
                row = measure(
                    workload, VARIANTS[variant], jit, device, arguments.repeats
                )
                rows.append(line(chosen, variant, jit, row))
                said = row.get("placement", "not built")
                print(f"  {variant}, XLA {jit}: {said}", file=sys.stderr, flush=True)
    head = ["flow", "variant", "XLA", "training step, ms", "log_prob, ms", "sample, ms"]
    head += ["first step, s", "memory, MiB", "round trip", ""]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
