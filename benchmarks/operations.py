"""Where the time of a flow goes, operation by operation.

    python benchmarks/operations.py

runs TensorFlow's profiler on the workloads of `speed.py` (training step, log_prob,
sample; tfp_flows and the bare networks) and writes `benchmarks/results/operations.md`:
milliseconds of all operations together for one call, and how they divide among matrix
products and convolutions, random numbers, Adam, and the rest, of which the largest are
named. Two operations may run at a time, so that a call takes less than their sum.

Where networks are all, what is left is how fast a framework multiplies. With
`--interpreter jax=/some/venv/bin/python` (also torch) the same products alone are timed
there, in turns: the networks of a density of NICE and RealNVP, and nothing around them.
"""

from __future__ import annotations

import argparse
import collections
import glob
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CALLS = 10
GROUPS = {
    "products": ("MatMul", "Conv2D", "Einsum"),
    "random numbers": ("Random",),
    "Adam": ("ApplyAdam",),
}
FRAMEWORKS = ("tensorflow", "jax", "torch")
RESULTS = Path(__file__).parent / "results"


def durations(call) -> dict[str, float]:
    """Milliseconds of each kind of operation in one call."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(3):
        call()
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for _ in range(CALLS):
            call()
        tf.profiler.experimental.stop()
        (path,) = glob.glob(f"{directory}/**/*.xplane.pb", recursive=True)
        space = xplane_pb2.XSpace()
        space.ParseFromString(Path(path).read_bytes())
    found = collections.Counter()
    for plane in space.planes:
        for event in itertools.chain(*(line.events for line in plane.lines)):
            # Operations are named `path:Kind`; what runs them is `Class::method`.
            name = plane.event_metadata[event.metadata_id].name
            path, separator, kind = name.rpartition(":")
            # What oneDNN runs is called `_MklMatMul` or `_MklNativeFusedMatMul`.
            kind = kind.removeprefix("_Mkl").removeprefix("Native")
            if separator and kind.isidentifier() and not path.endswith(":"):
                found[kind] += event.duration_ps / 1e9 / CALLS
    return dict(found)


def row(label: str, found: dict[str, float]) -> str:
    total, rest, cells = sum(found.values()), dict(found), []
    for kinds in GROUPS.values():
        own = [k for k in rest if any(kind in k for kind in kinds)]
        part = sum(rest.pop(k) for k in own)
        cells.append(f"{part:.3g} ({part / total:.0%})" if part else "")
    largest = sorted(rest.items(), key=lambda item: -item[1])[:3]
    cells.append(f"{sum(rest.values()):.3g} ({sum(rest.values()) / total:.0%})")
    cells.append(", ".join(f"{kind} {ms:.2g}" for kind, ms in largest))
    return f"| {label} | {total:.3g} | {' | '.join(cells)} |"


def profile(names: list[str]) -> list[str]:
    from libraries import bare, on_tensorflow, tfp_flows
    from libraries.workloads import WORKLOADS

    on_tensorflow.set_threads(2)
    head = ("", "all operations, ms", *GROUPS, "rest", "the largest of it")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for name in names:
        workload = WORKLOADS[name]
        data = workload.data()
        for library in (tfp_flows, bare):
            contender = library.build(workload, data, 2)
            for operation in ("train", "log_prob", "sample"):
                which = library.__name__.rpartition(".")[2]
                lines.append(
                    row(
                        f"{name}, {operation}, {which}",
                        durations(getattr(contender, operation)),
                    )
                )
                print(lines[-1], flush=True)
    return lines


# The products of a density: batch, and the sizes of the layers of each network.
PRODUCTS = {
    "nice": (200, [(392, 1000, 1000, 1000, 1000, 1000, 392)] * 4),
    "real_nvp": (1024, [(32, 256, 256, 64)] * 8),
}


def products(name: str, framework: str, seconds: float = 3.0) -> float:
    """Median milliseconds of the networks' products, in the framework given."""
    batch, networks = PRODUCTS[name]
    draw = np.random.default_rng(0)
    weights = [
        [
            (draw.normal(size=(n, m)) / n**0.5).astype("float32")
            for n, m in itertools.pairwise(sizes)
        ]
        for sizes in networks
    ]
    x = draw.normal(size=(batch, networks[0][0])).astype("float32")

    def run(x, weights, relu):
        for network in weights:
            h = x
            for i, w in enumerate(network):
                h = h @ w
                h = relu(h) if i < len(network) - 1 else h
            x = h[:, : x.shape[1]]
        return x

    if framework == "jax":
        import jax

        compiled = jax.jit(lambda x, weights: run(x, weights, jax.nn.relu))
        x, weights = jax.device_put((x, weights))
        call = lambda: np.asarray(compiled(x, weights))  # noqa: E731
    elif framework == "torch":
        import torch

        torch.set_num_threads(2)
        x = torch.from_numpy(x)
        weights = [[torch.from_numpy(w) for w in network] for network in weights]
        with torch.no_grad():
            return _median(lambda: run(x, weights, torch.relu).numpy(), seconds)
    else:
        import tensorflow as tf
        from libraries.on_tensorflow import set_threads

        set_threads(2)
        variables = [[tf.Variable(w) for w in network] for network in weights]
        traced = tf.function(lambda x: run(x, variables, tf.nn.relu), autograph=False)
        x = tf.constant(x)
        call = lambda: traced(x).numpy()  # noqa: E731
    return _median(call, seconds)


def _median(call, seconds):
    call()
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found)


def compare(interpreters: dict[str, str], rounds: int) -> list[str]:
    lines = [f"| products alone, ms | {' | '.join(interpreters)} |"]
    lines.append("|" + " --- |" * (1 + len(interpreters)))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name in PRODUCTS:
        times = {framework: [] for framework in interpreters}
        for _ in range(rounds):
            for framework, interpreter in interpreters.items():
                command = [interpreter, __file__, "--products", name, framework]
                out = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                ).stdout
                times[framework].append(float(out.split()[-1]))
        cells = [
            f"{statistics.median(t):.3g} ({min(t):.3g} to {max(t):.3g})"
            for t in times.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workloads", nargs="+")
    parser.add_argument(
        "--interpreter", action="append", default=[], metavar="NAME=PYTHON"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--products", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.products:
        print(products(*options.products))
        return
    from libraries.machine import processor
    from libraries.workloads import WORKLOADS

    # Those that have bare networks beside them.
    names = options.workloads or [n for n, w in WORKLOADS.items() if not w.libraries]
    interpreters = {"tensorflow": sys.executable}
    interpreters |= dict(entry.split("=", 1) for entry in options.interpreter)
    unknown = set(interpreters) - set(FRAMEWORKS) | (set(names) - set(WORKLOADS))
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    lines = [
        f"By `python benchmarks/operations.py`, on {processor()}; its first lines say "
        "what the columns mean.",
        "",
        *profile(names),
    ]
    if len(interpreters) > 1:
        lines += ["", *compare(interpreters, options.rounds)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "operations.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
