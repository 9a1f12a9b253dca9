"""Flows of small tables beside a Gaussian and a mixture of Gaussians.

    python benchmarks/tables.py

trains flows on the tables that come with scikit-learn, and on counts with rare large
values, as `tfp-flows train TABLE.csv --flow FLOW --tidy` does, for several splits into
train, validation and test (80, 10 and 10 %; a fifth held out for tests below 1,000
rows). Writes `benchmarks/results/tables.md`: mean log-likelihoods of the test rows,
nats, and how far above those of the baselines that every run on a table reports, each
with the standard error over the splits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
FLOWS = ("neural_spline_flow", "maf", "real_nvp")


def counts(rows=4_000, seed=0):
    """Poisson and log-normal counts that depend on each other; one in 500 is large."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2.0, 2.0, rows)
    x = np.stack([rng.poisson(rate * k) for k in (1, 2, 5)], 1).astype(float)
    rare = np.where(rng.uniform(size=rows) < 0.002, rng.integers(1e3, 1e5, rows), 0)
    heavy = np.floor(np.exp(rng.normal(2 + 0.3 * np.log(rate + 0.1), 1.0)))
    return np.column_stack([x, heavy, rare + rng.poisson(1.0, rows)])


def tables():
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "diabetes"):
        yield name, getattr(datasets, f"load_{name}")().data
    yield "counts", counts()


def run(name, x, flow, seed):
    from tfp_flows.command import train as training
    from tfp_flows.command.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        x = np.random.default_rng(seed).permutation(x)
        path = Path(folder) / f"{name}.npz"
        held = len(x) // (5 if len(x) < 1_000 else 10)
        np.savez(
            path, train=x[held:].astype("float32"), test=x[:held].astype("float32")
        )
        settings = Settings.suited(str(path), flow, tidy=True, seed=seed)
        report = training.carry_out(
            training.prepare(settings, Path(folder) / "run"), verbose=0
        )
    return {
        "flow": report["results"]["log_likelihood"],
        **{k: v["log_likelihood"] for k, v in report["baselines"].items()},
        "epochs": report["settings"]["epochs"],
    }


def cell(numbers):
    mean, error = np.mean(numbers), np.std(numbers, ddof=1) / np.sqrt(len(numbers))
    return f"{mean:+.2f} ± {error:.2f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--flows", nargs="+", default=FLOWS)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    lines = []
    for name, x in tables():
        if arguments.tables and name not in arguments.tables:
            continue
        for flow in arguments.flows:
            found = [run(name, x, flow, seed) for seed in range(arguments.splits)]
            gaps = {
                k: cell([f["flow"] - f[k] for f in found])
                for k in ("gaussian", "mixture")
            }
            lines.append(
                f"| {name}, {x.shape[0]} x {x.shape[1]} | `{flow}` | "
                f"{cell([f['flow'] for f in found])} | {gaps['gaussian']} | "
                f"{gaps['mixture']} |"
            )
            print(lines[-1], json.dumps(found[0]), flush=True)
    head = (
        "| Table | Flow | Test log-likelihood, nats | above the Gaussian | "
        "above the mixture |\n| --- | --- | --- | --- | --- |\n"
    )
    (arguments.output / "tables.md").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
