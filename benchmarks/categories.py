"""Bounds of rows with categories: with learned noise, and without.

    python benchmarks/categories.py

draws a table of three columns of categories (12, 3 and 40 of them), one of integers and
two of numbers, whose exact density is known and in which columns depend on each other.
A `maf` is trained on 8,000 rows for 800 steps of 200, once for each way, and
`benchmarks/results/categories.md` says by how much the bound on the log-likelihood of
2,000 others is below their exact one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tfp_flows import FlowModel, flows
from tfp_flows.training import FusedAdam

RESULTS = Path(__file__).parent / "results"
COLUMNS = [12, 3, 40, "integer", "real", "real"]
TRAIN, TEST, BATCH = 8_000, 2_000, 200
DRAWS = (1, 16, 64)
WAYS = {
    "signs": {},
    "signs, noise not learned": {"layers": 0},
}


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and their exact log-densities in nats."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    of_first = fixed.dirichlet(np.full(12, 2.0))
    of_second = fixed.dirichlet(np.full(3, 0.5), 12)
    of_third = fixed.dirichlet(np.full(40, 0.2), 3)
    rates, means = fixed.uniform(15, 60, 12), fixed.normal(1.7, 0.1, 3)
    first = rng.choice(12, n, p=of_first)
    second = (of_second[first].cumsum(1) < rng.random((n, 1))).sum(1).clip(0, 2)
    third = (of_third[second].cumsum(1) < rng.random((n, 1))).sum(1).clip(0, 39)
    count = rng.poisson(rates[first])
    height = rng.normal(means[second], 0.05)
    middle = 2 * height + 0.01 * count
    weight = rng.normal(middle, 0.3)
    log_p = np.log(of_first[first] * of_second[first, second])
    log_p += np.log(of_third[second, third])
    log_p += stats.poisson.logpmf(count, rates[first])
    log_p += stats.norm.logpdf(height, means[second], 0.05)
    log_p += stats.norm.logpdf(weight, middle, 0.3)
    rows = np.stack([first, second, third, count, height, weight], 1)
    return rows.astype("float32"), log_p


def measure(way: dict, steps: int) -> dict:
    """How far bounds of test rows are below their exact log-densities, in nats."""
    train, (test, log_p) = draw(TRAIN, 1)[0], draw(TEST, 2)
    keras.utils.set_random_seed(0)
    dequantize = {"name": "mixed", "columns": COLUMNS, **way}
    flow = flows.maf((6,), layers=8, width=64, seed=0, dequantize=dequantize)
    model = FlowModel(flow)
    model.compile(FusedAdam(keras.optimizers.schedules.CosineDecay(3e-3, steps)))
    epochs = max(steps * BATCH // TRAIN, 1)
    model.fit(
        train,
        batch_size=BATCH,
        epochs=epochs,
        steps_per_epoch=min(steps, TRAIN // BATCH),
        verbose=0,
    )
    found = {"size": flow.flow.event_shape[0]}
    for draws in DRAWS:
        gap = log_p - flow.log_prob(test, samples=draws, seed=0).numpy()
        found[draws] = gap.mean(), gap.std() / np.sqrt(TEST)
    return found


def table(results: dict[str, dict]) -> str:
    """The results as Markdown."""
    head = ["categories as", "numbers for a row", *(f"draws: {n}" for n in DRAWS)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, found in results.items():
        cells = ["{:.2f} ± {:.2f}".format(*found[n]) for n in DRAWS]
        lines.append("| " + " | ".join([name, str(found["size"]), *cells]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--only", nargs="+", choices=WAYS, metavar="NAME")
    given = parser.parse_args(arguments)
    results = {}
    for name in given.only or WAYS:
        results[name] = measure(WAYS[name], given.steps)
        print(name, results[name], flush=True)
    text = table(results)
    print(text)
    if given.only is None and given.steps == parser.get_default("steps"):
        note = (
            "Nats per row by which the bound is below the exact log-density (± its "
            f"standard error), TensorFlow {tf.__version__}.\n"
        )
        (RESULTS / "categories.md").write_text(f"{text}\n{note}")


if __name__ == "__main__":
    main()
