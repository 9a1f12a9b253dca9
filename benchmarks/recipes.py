"""What the published configurations become here.

    python benchmarks/recipes.py
    python benchmarks/recipes.py cifar10 --flow glow --step

builds the flow of each recipe (of all, or of the data sets and flows that are named),
counts its trainable parameters and writes `benchmarks/results/recipes.md`: the
published result, and the number of parameters beside the published one where there is
one. With `--step` it takes one training step on two examples of noise too, at the full
learning rate, and writes `recipes_step.md`, with the loss before and after it, and the
seconds that the first step took, tracing included. Without the warm-up that Glow has, a
first step may raise the loss. Rows of recipes that are not named stay as they were.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tfp_flows import datasets
from tfp_flows.command import recipes, train
from tfp_flows.command.settings import Settings

RESULTS = Path(__file__).parent / "results"
HEAD = ["data", "flow", "recipe", "published", "parameters", "published parameters"]
STEP = ["nats per dimension of noise, before a step", "after it", "first step, s"]
SHAPES = {
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "downsampled_imagenet/32x32": (32, 32, 3),
    "downsampled_imagenet/64x64": (64, 64, 3),
}


def source_like(data: str) -> datasets.DataSource:
    """Noise of the shape of a data set."""
    draw = np.random.default_rng(0)
    if data in SHAPES:
        noise = draw.integers(0, 256, (20, *SHAPES[data]))
        return datasets.load(noise.astype(np.uint8))
    return datasets.load(draw.normal(size=(20, datasets.tabular.TABLES[data].features)))


def row(recipe: recipes.Recipe, step: bool) -> list[str]:
    source = source_like(recipe.data)
    settings = Settings.suited(
        recipe.data, recipe.flow, recipe=recipe.name, source=source, warmup=0.0
    )
    run = train.prepare(settings, Path("nowhere"), source=source)
    theirs = "" if recipe.parameters is None else f"{recipe.parameters:,}"
    cells = [recipe.data, recipe.flow, recipe.name, recipe.result]
    cells += [f"{run.parameters:,}", theirs]
    if step:
        x = next(iter(source.dataset("train", 2)))
        size = np.prod(source.event_shape)
        start = time.perf_counter()
        before = run.model.train_on_batch(x, return_dict=True)["nll"]
        seconds = time.perf_counter() - start
        run.model.reset_metrics()
        after = run.model.train_on_batch(x, return_dict=True)["nll"]
        cells += [f"{v / size:.4f}" for v in (before, after)] + [f"{seconds:.0f}"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", help="only the recipes of these data sets")
    parser.add_argument("--flow", nargs="+", help="only those of these flows")
    parser.add_argument("--step", action="store_true", help="take a training step too")
    arguments = parser.parse_args()
    chosen = [
        recipe
        for recipe in recipes.RECIPES
        if (not arguments.data or recipe.data in arguments.data)
        and (not arguments.flow or recipe.flow in arguments.flow)
    ]
    if not chosen:
        parser.error("there is no recipe of these data sets and flows.")
    path = RESULTS / ("recipes_step.md" if arguments.step else "recipes.md")
    before = path.read_text().splitlines() if path.exists() else []
    head = HEAD + STEP * arguments.step
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for recipe in recipes.RECIPES:
        start = f"| {recipe.data} | {recipe.flow} | {recipe.name} |"
        if recipe in chosen:
            lines.append("| " + " | ".join(row(recipe, arguments.step)) + " |")
            print(lines[-1], flush=True)
        else:
            lines += [line for line in before if line.startswith(start)]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
