"""Every ready flow on every toy density, and the same flows on digits.

    python benchmarks/family.py

trains what `benchmarks/results` does not hold yet and writes `toys.md`, `digits.md`,
`toys.json`, `digits.json` and `toys.png` there. Each result is that of `tfp-flows
train` with the settings that suit the data, but for the number of steps, which is the
same for all flows of a table, and for the base, which is the flow's own: a mixture of
Gaussians, by which the command begins on tables, would be most of a toy. Delete a line
of a .json to have it measured again. First calls are those of a flow that was just
built, on the batch of its training.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfp_flows import datasets, flows
from tfp_flows.command import train as training
from tfp_flows.command.files import load_model
from tfp_flows.command.settings import Settings

RESULTS = Path(__file__).parent / "results"
# Others are of surfaces.
FLOWS = [f for f in flows.READY if f not in ("torus", "sphere", "simplex")]
TABLES = {
    "toys": (list(datasets.TOYS), [f for f in FLOWS if f not in ("glow", "jet")]),
    "digits": (["digits"], FLOWS),
}
# All flows take as many steps, whatever suits each alone.
STEPS = {
    "toys": {"epochs": 40, "batch_size": 256},
    "digits": {"epochs": 30, "batch_size": 64},
}
GRID = 160


def settings_of(data: str, flow: str, epochs: int | None) -> Settings:
    given = dict(STEPS["toys" if data in datasets.TOYS else data])
    if epochs:
        given["epochs"] = epochs
    base = inspect.signature(flows.READY[flow]).parameters["base"].default
    return Settings.suited(data, flow, flow_options={"base": base}, **given)


def train(data: str, flow: str, epochs: int | None) -> dict:
    """One line of a table."""
    settings = settings_of(data, flow, epochs)
    with tempfile.TemporaryDirectory() as folder:
        run = training.prepare(settings, Path(folder) / "run")
        first = first_calls(run)
        report = training.carry_out(run, verbose=0)
        line = {
            "data": data,
            "flow": flow,
            "parameters": report["parameters"],
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "seconds": report["training"]["seconds"],
            **first,
            **report["results"],
        }
        if data in datasets.TOYS:
            density = RESULTS / "densities" / f"{data}-{flow}.npy"
            density.parent.mkdir(parents=True, exist_ok=True)
            log_prob = load_model(Path(folder) / "run").flow.log_prob
            np.save(density, on_grid(log_prob).astype(np.float16))
        else:
            shutil.copyfile(
                Path(folder) / "run" / "samples.png", RESULTS / f"{data}-{flow}.png"
            )
    return line


def first_calls(run: training.Prepared) -> dict[str, float]:
    """Seconds until the first density of a batch: eager, traced and compiled."""
    settings, source = run.settings, run.source
    batch = next(iter(source.dataset("train", settings.batch_size)))
    x = batch[0] if isinstance(batch, tuple) else batch
    seconds = {}
    for how in ("eager", "traced", "xla"):
        flow = flows.from_config(run.model.flow.config)
        x_how = tf.cast(x, flow.dtype)

        def log_prob(x, flow=flow):
            return flow.log_prob(x)

        function = (
            log_prob
            if how == "eager"
            else tf.function(log_prob, jit_compile=how == "xla", autograph=False)
        )
        start = time.perf_counter()
        np.asarray(function(x_how))
        seconds[f"first_{how}"] = time.perf_counter() - start
    return seconds


def on_grid(log_prob) -> np.ndarray:
    """A density at the points of a grid over the plane, `[GRID, GRID]`."""
    ticks = np.linspace(-4, 4, GRID, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    return np.exp(np.asarray(log_prob(points))).reshape(GRID, GRID)


def draw(toys: list[str], names: list[str], path: Path) -> None:
    """Data and densities: a row for each toy, its points and the truth first."""
    columns = ["data", "truth", *names]
    figure = Figure((1.25 * len(columns), 1.32 * len(toys)), dpi=110)
    axes = figure.subplots(len(toys), len(columns), squeeze=False)
    for row, toy in zip(axes, toys, strict=True):
        truth = on_grid(datasets.TOYS[toy].log_prob)
        top = np.quantile(truth[truth > 1e-4], 0.98)
        for axis, name in zip(row, columns, strict=True):
            axis.set(xticks=[], yticks=[], aspect="equal")
            if name == "data":
                points = datasets.TOYS[toy].sample(4000, 0)
                axis.scatter(*points.T, s=0.4, c="black", linewidths=0)
                axis.set(xlim=(-4, 4), ylim=(-4, 4))
                continue
            file = RESULTS / "densities" / f"{toy}-{name}.npy"
            shown = truth if name == "truth" else np.load(file).astype(np.float32)
            axis.imshow(shown, origin="lower", cmap="magma", vmin=0, vmax=top)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name.replace("_", " "), fontsize=8)
    for axis, toy in zip(axes[:, 0], toys, strict=True):
        axis.set_ylabel(toy.replace("_", " "), fontsize=8)
    figure.tight_layout(pad=0.4)
    figure.savefig(path)


def table(lines: list[dict], data: list[str], names: list[str]) -> str:
    """The results as Markdown."""
    found = {(line["data"], line["flow"]): line for line in lines}
    text = []
    if len(data) > 1:
        for title, key, error in (
            (
                "KL divergence from the true density, nats (± standard error)",
                "kl",
                "kl_standard_error",
            ),
            (
                "Held-out log-likelihood, nats (± standard error)",
                "log_likelihood",
                "standard_error",
            ),
        ):
            text += [f"**{title}**", "", "| Flow | " + " | ".join(data) + " |"]
            text.append("|---|" + "---|" * len(data))
            for name in names:
                cells = [
                    f"{line[key]:.3f} ± {line[error]:.3f}" if line else ""
                    for line in (found.get((d, name)) for d in data)
                ]
                text.append(f"| `{name}` | " + " | ".join(cells) + " |")
            text.append("")
        text += [
            "**Cost** (means over the data)",
            "",
            "| Flow | Parameters | Training, s | First call eager, s | traced, s | "
            "XLA, s |",
            "|---|---|---|---|---|---|",
        ]
    else:
        text += [
            "| Flow | Test log-likelihood, nats | Bits per dimension | Parameters | "
            "Epochs | Training, s | First call eager, s | traced, s | XLA, s |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for name in names:
        own = [found[d, name] for d in data if (d, name) in found]
        if not own:
            continue

        def mean(key, own=own):
            return float(np.mean([line[key] for line in own if key in line]))

        cells = [f"{own[0]['parameters']:,}"]
        if len(data) == 1:
            cells = [
                f"{mean('log_likelihood'):.2f} ± {mean('standard_error'):.2f}",
                f"{mean('bits_per_dim'):.3f}",
                *cells,
                f"{own[0]['epochs']}",
            ]
        cells.append(f"{mean('seconds'):.0f}")
        cells += [f"{mean(f'first_{how}'):.2f}" for how in ("eager", "traced", "xla")]
        text.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--flows", nargs="+", choices=FLOWS, default=FLOWS)
    parser.add_argument("--toys", nargs="+", choices=list(datasets.TOYS))
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.tables:
        data, names = TABLES[name]
        store = RESULTS / f"{name}.json"
        lines = json.loads(store.read_text()) if store.exists() else []
        for flow in names:
            for d in data:
                done = any(line["data"] == d and line["flow"] == flow for line in lines)
                wanted = name != "toys" or d in (arguments.toys or data)
                if done or flow not in arguments.flows or not wanted:
                    continue
                lines.append(train(d, flow, arguments.epochs))
                line = lines[-1]
                print(
                    f"{d:<16}{flow:<20}{line['log_likelihood']:>9.3f} nats"
                    f"{line.get('kl', float('nan')):>9.3f} KL"
                    f"{line['seconds']:>8.1f} s",
                    flush=True,
                )
                rows = ",\n".join(json.dumps(line) for line in lines)
                store.write_text(f"[\n{rows}\n]\n")
        (RESULTS / f"{name}.md").write_text(table(lines, data, names))
        if name == "toys":
            # A picture of all flows is not replaced by one of some.
            kept = [
                (RESULTS / "densities" / f"{d}-{n}.npy") for d in data for n in names
            ]
            missing = sum(not file.exists() for file in kept)
            if missing:
                print(f"toys.png stays as it is: {missing} densities are not here")
            else:
                draw(data, names, RESULTS / "toys.png")


if __name__ == "__main__":
    main()
