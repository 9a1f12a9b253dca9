"""Pictures of what a run has learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfp_flows import datasets, plots
from tfp_flows.command import files

__all__ = ["draw_pictures"]


def draw_pictures(
    flow: Any,
    source: datasets.DataSource,
    samples: np.ndarray,
    history: Mapping[str, list[float]],
    directory: Path,
) -> Iterator[str]:
    """Draws, or writes, what the flow has learnt; yields a line for what cannot be."""

    def images(path):
        plots.images(samples, columns=10, bounds=source.bounds, path=path)

    def density(path):
        toy = datasets.TOYS.get(source.name)
        points = source.arrays("test", limit=5000)[0]
        plots.density(
            flow.log_prob,
            bounds=_square(points),
            truth=toy and toy.log_prob,
            points=None if toy else points,
            path=path,
        )

    def numbers(path):
        np.save(path, samples)

    def loss(path):
        # Flow matching knows no likelihood in training.
        metric = "nll" if "nll" in history else "velocity_error"
        plots.history(history, metrics=[metric], path=path)

    def table(path):
        files.write_table(path, flow, samples, source.columns)

    wanted = [("loss.png", loss)]
    if len(source.event_shape) == 3:
        wanted.append(("samples.png", images))
    elif source.kinds is not None:
        wanted.append(("samples.csv", table))
    else:
        wanted.append(("samples.npy", numbers))
        if source.event_shape == (2,) and flow.context_shape is None:
            wanted.append(("density.png", density))
    for name, draw in wanted:
        try:
            with files.replacing(directory / name) as partial:
                draw(partial)
        except OSError:
            raise
        # The results are written; whatever is wrong with a picture, they count.
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            yield f"{name} cannot be drawn: {reason}"
            if name == "samples.png":
                wanted.append(("samples.npy", numbers))


def _square(points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """A range for each axis that holds the points with a margin."""
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, 0.15 * (high - low), 1.0)
    x, y = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
    return x, y
