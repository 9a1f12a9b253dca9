"""Every ready flow with all its defaults, plain `compile()` and plain `fit()`.

    python benchmarks/defaults.py [flow[:data] ...] [--seconds 60]

trains each flow on each data set that it takes: two moons, a table in raw units
(deviations from 0.003 to 570), 20 features of deviations from 0.5 to 325 with 32
layers, digits with and without logit, and colour images of 32 x 32. `iaf`, whose
densities take a pass through its networks for each feature, gets 20 features with its
own layers, and no images. Writes `benchmarks/results/defaults.json` and `.md`.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "defaults"
EPOCHS = 5
DATA = ("moons", "cancer", "scales", "digits", "logit", "colour")


def load(name):
    """Examples, and the options that such data need."""
    import numpy as np
    from sklearn import datasets

    draw = np.random.default_rng(0)
    if name == "moons":
        return datasets.make_moons(1000, noise=0.05, random_state=0)[0], {}
    if name == "cancer":
        return datasets.load_breast_cancer().data, {}
    if name == "scales":
        x = draw.standard_normal((1000, 20)) * np.geomspace(0.5, 325, 20)
        return x, {"layers": 32}
    if name == "colour":
        grid = np.linspace(0, 1, 32)
        x = np.zeros((64, 32, 32, 3))
        for _ in range(4):
            a, b, phase, height = draw.uniform(-6, 6, (4, 64, 1, 1, 1))
            wave = np.sin(a * grid[:, None, None] + b * grid[:, None] + phase)
            x = x + height * draw.uniform(0, 1, (64, 1, 1, 3)) * wave
        x = np.floor(255 * (x - x.min()) / np.ptp(x))
        return x + draw.uniform(size=x.shape), {"bounds": (0, 256)}
    x = datasets.load_digits().images[..., None]
    margin = {"logit_margin": 0.05} if name == "logit" else {}
    return x + draw.uniform(size=x.shape), {"bounds": (0, 17), **margin}


def gaussian(x):
    """Nats of a Gaussian with the covariance of the data; none for few of them."""
    import numpy as np

    x = x.reshape(len(x), -1)
    x = x[:, x.std(0) > 0.5] if x.shape[1] == 64 else x
    if len(x) < 2 * x.shape[1]:
        return None
    covariance = np.cov(x.T)
    return 0.5 * float(
        np.linalg.slogdet(covariance)[1] + x.shape[1] * np.log(2 * np.pi * np.e)
    )


def train(name, data, most):
    import keras
    import numpy as np

    from tfp_flows import FlowModel, flows, training

    class Enough(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            self.model.stop_training = time.perf_counter() - start > most

    keras.utils.set_random_seed(0)
    x, options = load(data)
    x = x.astype("float32")
    ready = getattr(flows, name)
    if name == "iaf" or "layers" not in inspect.signature(ready).parameters:
        options.pop("layers", None)
    flow = ready(x.shape[1:], **options)
    model = FlowModel(flow)
    model.compile()
    training.initialize(flow, x)
    before = model.evaluate(x[:64], verbose=0, return_dict=True)["nll"]
    start, enough = time.perf_counter(), Enough()
    seen = model.fit(x, epochs=EPOCHS, verbose=0, callbacks=[enough]).history["nll"]
    seconds = time.perf_counter() - start
    after = model.evaluate(x[:64], verbose=0, return_dict=True)["nll"]
    sample = flow.sample(64 if x[0].size > 64 else 1000, seed=0).numpy()
    axes = tuple(range(x.ndim - 1)) if x.ndim == 4 else 0
    center, half = (x.max(axes) + x.min(axes)) / 2, np.ptp(x, axes) / 2
    return {
        "flow": name,
        "data": data,
        "weights": sum(int(np.prod(v.shape)) for v in flow.trainable_variables),
        "steps": enough.steps,
        "before": float(before),
        "after": float(after),
        "finite": bool(np.isfinite([before, after, *seen]).all()),
        "gaussian": gaussian(x),
        "furthest": float((np.abs(sample - center) / half).max()),
        "seconds": seconds,
    }


def takes(name, data):
    from tfp_flows import flows

    if name == "iaf" and data in ("digits", "logit", "colour"):
        return False
    shape = {"moons": (2,), "cancer": (30,), "scales": (20,), "colour": (32, 32, 3)}
    try:
        getattr(flows, name)(shape.get(data, (8, 8, 1)), **SMALLEST.get(name, {}))
    except ValueError:
        return False
    return True


# What makes a flow quick to build, to see which shapes it takes.
SMALLEST = {"glow": {"steps": 1, "width": 1}, "residual_flow": {"layers": 1}}


def worker(name, seconds):
    import tensorflow as tf

    flow, _, chosen = name.partition(":")
    for data in [chosen] if chosen else DATA:
        if takes(flow, data):
            tf.keras.backend.clear_session()
            gc.collect()
            print(json.dumps(train(flow, data, seconds)), flush=True)


def markdown(rows):
    lines = [
        "# Ready flows with all their defaults",
        "",
        "By `python benchmarks/defaults.py`. Nats for each example before and after "
        f"{EPOCHS} epochs of `fit`, or fewer where these take above a minute (some "
        "rows with more `--seconds`), beside a Gaussian of the same data; the last "
        "column is how far from the centre of the data the furthest of the samples "
        "lies, in half ranges.",
        "",
        "| flow | data | weights | steps | seconds | nats before | after | Gaussian "
        "| furthest sample |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        normal = "" if r["gaussian"] is None else f"{r['gaussian']:.2f}"
        lines.append(
            f"| {r['flow']} | {r['data']} | {r['weights']:,} | {r['steps']} "
            f"| {r['seconds']:.0f} | {r['before']:.2f} | {r['after']:.2f} "
            f"| {normal} | {r['furthest']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(names, seconds):
    from tfp_flows import flows

    path = RESULTS.with_suffix(".json")
    rows = json.loads(path.read_text()) if path.exists() else []
    for name in names or sorted(n for n in flows.READY if ":" not in n):
        command = [sys.executable, __file__, "--worker", name, "--seconds", seconds]
        with subprocess.Popen(
            [str(c) for c in command], stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout:
                new = json.loads(line)
                place = (new["flow"], new["data"])
                rows = [r for r in rows if (r["flow"], r["data"]) != place] + [new]
                print(line, end="", flush=True)
        if process.returncode:
            sys.exit(f"{name}: ended with status {process.returncode}")
        rows.sort(key=lambda r: (r["flow"], DATA.index(r["data"])))
        path.write_text(json.dumps(rows, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(markdown(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="flow[:data]")
    parser.add_argument("--seconds", type=float, default=60, help="of `fit`, at most")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.seconds)
    elif wrong := {n.partition(":")[2] for n in given.names} - {"", *DATA}:
        parser.error(f"no such data: {sorted(wrong)}; there are {DATA}")
    else:
        main(given.names, given.seconds)
