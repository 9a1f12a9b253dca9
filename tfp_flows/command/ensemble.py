"""Runs that differ in their seed, mixed as one density."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_flows import FlowModel, datasets
from tfp_flows.command import evaluate, files, train
from tfp_flows.command.settings import Settings

__all__ = ["count", "finish", "members", "name", "sample"]


def name(i: int) -> str:
    """The folder of a member, counted from 0."""
    return f"member-{i}"


def members(directory: Path) -> list[Path]:
    """The directories of the members that there are, in order."""
    found: list[Path] = []
    while (path := directory / name(len(found)) / files.SETTINGS).exists():
        found.append(path.parent)
    return found


def count(directory: Path, given: int | None, resume: bool) -> int | None:
    """How many members a run is to have, `None` if it is to be a single one.

    Args:
      directory: of the ensemble.
      given: what was asked for.
      resume: whether it goes on; then as many as there are, unless more are given.

    Raises:
      ValueError: if there are more than are given, or a single run.
    """
    there = len(members(directory)) if resume else 0
    if there > (given or there):
        raise ValueError(f"{directory} has {there} members, more than {given}.")
    if given and resume and not there:
        raise ValueError(f"there is no ensemble in {directory} (no {name(0)}).")
    return given or there or None


def finish(
    directory: Path,
    count: int,
    source: datasets.DataSource,
    settings: Settings,
    command: str,
) -> dict[str, Any]:
    """Evaluates the mixture of all members and writes its `report.json`.

    Returns:
      The report: `results` of the mixture, see `evaluate`; of the members alone the
      `mean` of their log-likelihoods in nats, and its `deviation` between them.
    """
    paths = [directory / name(i) for i in range(count)]
    models = [files.load_model(path) for path in paths]
    found = [evaluate.log_probs(model, source, "test", settings) for model in models]
    results = evaluate.summary(found, models[0], source, "test")
    alone = [log_q.mean() for log_q, _ in found]
    report = {
        "command": command,
        "members": [path.name for path in paths],
        "results": results,
        "mean": float(np.mean(alone)),
        "deviation": float(np.std(alone, ddof=1)) if count > 1 else 0.0,
    }
    if settings.recipe is not None:
        report["recipe"] = train.beside_recipe(settings, results)
    files.write_json(directory / files.REPORT, report)
    return report


def sample(
    models: Sequence[FlowModel], n: int, *, seed: int = 0, **options: Any
) -> np.ndarray:
    """Draws from the mixture of models, each sample from one of them at random.

    Args:
      models: the members; a single one is that model itself.
      n: number of samples.
      seed: natural number on which alone the samples depend.
      **options: see `tfp_flows.command.evaluate.sample`.

    Returns:
      Data `[n, *event_shape]`.
    """
    chosen = np.random.default_rng(seed).integers(len(models), size=n)
    x = evaluate.sample(models[0], n, seed=seed, **options)
    for i, model in enumerate(models[1:], 1):
        x[chosen == i] = evaluate.sample(model, n, seed=seed, **options)[chosen == i]
    return x
