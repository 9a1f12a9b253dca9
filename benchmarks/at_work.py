"""Seconds of flows at work: autoencoders, hybrid models, detection, translation.

    python benchmarks/at_work.py
    python benchmarks/at_work.py scores

times training steps of the models of `examples/flow_vae.py` and
`examples/hybrid_digits.py`, and calls of the scores of `tfp_flows.detection` and of
`latent.translate`, without and with XLA, beside what they are made of: the same model
without a flow, the flow alone, its density. The last columns say how the time of all
operations divides. Writes `at_work_autoencoders.md`, `at_work_hybrids.md` and
`at_work_scores.md` under `benchmarks/results`, or those that are named.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import operations
import report
import tensorflow as tf

from tfp_flows import FlowModel, detection, flows, latent, models

RESULTS = Path(__file__).parent / "results"
EXAMPLES = Path(__file__).parent.parent / "examples"
HEAD = ("ms a call", "with XLA", "first call, s", "with XLA", "products", "largest")

# What is called without (False) and with XLA; `None` where there is no such choice.
Make = Callable[[bool], Callable[[], Any] | None]


def steps(build: Callable[[], keras.Model], *data: Any) -> Make:
    """Training steps of a model on one batch."""

    def make(jit):
        keras.utils.set_random_seed(0)
        model = build()
        model.compile("adam", jit_compile=jit)
        batch = [tf.constant(part) for part in data]
        return lambda: model.train_on_batch(*batch)

    return make


def calls(function: Callable[[Any], Any], x: Any) -> Make:
    """Calls of a function of one batch in a graph."""
    x = tf.constant(x)

    def make(jit):
        compiled = tf.function(function, jit_compile=jit, autograph=False)
        return lambda: tf.nest.map_structure(np.asarray, compiled(x))

    return make


def plainly(function: Callable[[Any], Any], x: Any) -> Make:
    """Calls of a function that makes its own graphs."""
    return lambda jit: None if jit else lambda: function(x)


def autoencoders(batch: int) -> Iterator[tuple[str, Make]]:
    """Autoencoders of images like those of MNIST."""
    example = runpy.run_path(str(EXAMPLES / "flow_vae.py"))
    x = np.random.default_rng(0).uniform(size=(batch, 28, 28, 1)).astype("float32")
    for name, parts in example["CASES"].items():
        label = "RealNVP prior" if name == "prior" else f"{name} posterior"

        def build(parts=parts):
            return example["build"](x.shape[1:], **parts())

        yield f"training step, {label}", steps(build, x)


def hybrids(batch: int) -> Iterator[tuple[str, Make]]:
    """Hybrid models of vectors like the digits."""
    example = runpy.run_path(str(EXAMPLES / "hybrid_digits.py"))
    draw = np.random.default_rng(0)
    x = draw.integers(0, 17, size=(batch, 64)).astype("float32")
    y = draw.integers(0, 10, size=batch)
    for kind, make in example["FLOWS"].items():

        def build(weight, make=make):
            flow = make((64,), width=128, bounds=(0, 17), seed=0)
            if weight is None:
                return FlowModel(flow, dequantize=True)
            return models.HybridModel(flow, 10, weight, dequantize=True)

        for name, weight in {
            "alone": None,
            "classifier": 0.0,
            "hybrid": 1 / 64,
        }.items():
            data = (x,) if weight is None else (x, y)
            yield (
                f"training step, {kind} flow, {name}",
                steps(lambda w=weight: build(w), *data),
            )


def scores(batch: int) -> Iterator[tuple[str, Make]]:
    """Scores of how unusual images are, and translation."""
    options = {"bounds": (0, 256), "width": 256, "depth": 2}
    flow, other = (flows.nice((28, 28, 1), seed=s, **options) for s in (0, 1))
    x = np.random.default_rng(0).integers(0, 256, size=(batch, 28, 28, 1))
    x = x.astype("float32")
    yield "density of a NICE", calls(flow.log_prob, x)
    named = {
        "`negative_log_likelihood`": detection.negative_log_likelihood,
        "`typicality`": lambda flow, x: detection.typicality(flow, x, 4000.0),
        "`likelihood_ratio`": lambda f, x: detection.likelihood_ratio(f, other, x),
        "`complexity_corrected`": detection.complexity_corrected,
        "`gradient_norm`": detection.gradient_norm,
        "`latent_norm`": detection.latent_norm,
    }
    for name, score in named.items():
        yield name, plainly(lambda x, score=score: score(flow, x), x)
    yield "`translate`", calls(lambda x: latent.translate(flow, x, other), x)


def row(label: str, make: Make, count: int) -> list[str]:
    """Cells of one line of the table."""
    each, first = [], []
    for jit in (False, True):
        call = make(jit)
        if call is None:
            each.append("")
            first.append("")
            continue
        start = time.perf_counter()
        call()
        first.append(f"{time.perf_counter() - start:.1f}")
        found = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            found.append(1000 * (time.perf_counter() - start))
        each.append(f"{statistics.median(found):.3g}")
        if not jit:
            spent = operations.durations(call)
    total = sum(spent.values())
    products = {k: v for k, v in spent.items() if "MatMul" in k}
    rest = sorted(spent.keys() - products, key=lambda k: -spent[k])[:3]
    share = f"{sum(products.values()) / total:.0%}" if total else ""
    named = ", ".join(f"{k} {spent[k] / total:.0%}" for k in rest)
    return [label, *each, *first, share, named]


PARTS = {
    "autoencoders": (autoencoders, 128, "images of 28x28"),
    "hybrids": (hybrids, 100, "vectors of 64"),
    "scores": (scores, 256, "images of 28x28"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    report.add_parts(parser, PARTS)
    parser.add_argument("--calls", type=int, default=100, help="of which the median")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.parts or PARTS:
        part, batch, what = PARTS[name]
        rows = []
        for label, make in part(batch):
            rows.append(row(label, make, options.calls))
            print(*rows[-1], sep=" | ", flush=True)
        text = report.table([f"{batch} {what}", *HEAD], rows)
        (options.output / f"at_work_{name}.md").write_text(text)


if __name__ == "__main__":
    main()
