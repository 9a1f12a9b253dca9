"""Densities in the plane as heat maps, of numbers as histograms; warped grids."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from tfp_flows.core.arguments import check_integer
from tfp_flows.plots._figure import (
    BLUE,
    RED,
    Picture,
    distinct_colors,
    finish,
    graded_colors,
    side_by_side,
    trim,
)
from tfp_flows.plots._values import (
    Bounds,
    PlanarBounds,
    check_finite,
    check_increasing,
    check_numbers,
    check_planar_bounds,
    check_titles,
    check_top,
    density_at,
    evaluate,
)

__all__ = ["density", "histogram", "warped_grid"]

_PALETTE = "magma"

# Axes get the same scale unless their ranges differ by more than this factor.
_COMPARABLE = 4


def density(
    log_prob: Callable,
    *,
    bounds: PlanarBounds = ((-4, 4), (-4, 4)),
    resolution: int = 200,
    points: Any = None,
    truth: Callable | None = None,
    top: float | None = None,
    title: str | None = None,
    titles: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws a density in the plane as a heat map, beside the truth or data if given.

    All densities share one colour scale, from 0 to the highest of them. A spike with
    less than a hundredth of the mass may exceed the scale, so that the rest stays
    visible.

    Example:
      >>> from tfp_flows import datasets, plots
      >>> toy = datasets.TOYS["eight_gaussians"]
      >>> picture = plots.density(
      ...     toy.log_prob, points=toy.sample(100, seed=0), resolution=20)
      >>> [axes.get_title() for axes in picture.axes][:2]
      ['model', 'data']

    Args:
      log_prob: gives the log-densities `[N]`, in nats, of points `[N, 2]` (float32): a
        flow's `log_prob`, or that of one of `tfp_flows.datasets.TOYS`.
      bounds: `(low, high)` of the first and of the second coordinate.
      resolution: number of cells in each direction; the density is that at their
        middles.
      points: data `[N, 2]`, for a panel that shows them.
      truth: another function like `log_prob`, for a panel that shows its density.
      top: density at the top of the colour scale, which is then the same in all frames
        of an animation.
      title: title of the figure.
      titles: a title for each panel; by default `"model"`, `"truth"` and `"data"` if
        there are several.
      path: PNG file to write.

    Returns:
      The figure, with one to three panels: model, truth, data.

    Raises:
      TypeError: if `log_prob` or `truth` is not callable, or `resolution` no integer.
      ValueError: on a wrong shape, bounds that are not increasing, points that are NaN
        or infinite, or a density that is; a `top` that is not positive; a wrong number
        of titles.
    """
    check_planar_bounds(bounds)
    check_top(top)
    resolution = check_integer("resolution", resolution)
    if points is not None:
        points = check_finite("points", points)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be [N, 2], got shape {list(points.shape)}.")
    densities = {"model": _density_on_grid("log_prob", log_prob, bounds, resolution)}
    if truth is not None:
        densities["truth"] = _density_on_grid("truth", truth, bounds, resolution)

    if top is None:
        top = max(_top_of_scale(p) for p in densities.values())
    lengths = [high - low for low, high in bounds]
    comparable = max(lengths) <= _COMPARABLE * min(lengths)
    names = [*densities, *([] if points is None else ["data"])]
    check_titles(titles, len(names))
    if titles is None:
        titles = names if len(names) > 1 else [""]
    figure, panels = side_by_side(len(names), (3.3 * len(names) + 0.8, 3.6))
    for name, heading, axes in zip(names, titles, panels, strict=True):
        if name in densities:
            heat = axes.imshow(
                densities[name],
                cmap=_PALETTE,
                vmin=0.0,
                vmax=top or 1.0,
                origin="lower",
                extent=(*bounds[0], *bounds[1]),
            )
        else:
            axes.set_facecolor(heat.get_cmap()(0.0))
            size = np.clip(4000 / max(len(points), 1), 0.4, 6)
            color = heat.get_cmap()(0.85)
            axes.scatter(points[:, 0], points[:, 1], s=size, color=color, linewidths=0)
        axes.set(xlim=bounds[0], ylim=bounds[1])
        if comparable:
            axes.set_aspect("equal")
        else:
            axes.set(aspect="auto", box_aspect=1)
        axes.set(xlabel="$x_1$", ylabel="$x_2$", title=heading)
        axes.label_outer()
    clipped = any(p.max() > top for p in densities.values())
    figure.colorbar(
        heat,
        cax=panels[-1].inset_axes((1.06, 0, 0.06, 1)),
        label="density",
        extend="max" if clipped else "neither",
    )
    if title is not None:
        figure.suptitle(title)
    trim(figure)
    return finish(figure, path)


def histogram(
    samples: Any,
    *,
    log_prob: Callable | None = None,
    bounds: Bounds | None = None,
    bins: int = 60,
    xlabel: str = "$x$",
    label: str = "formula",
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws a histogram of numbers, and over it the density by a formula if given.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> picture = plots.histogram(np.random.default_rng(0).normal(size=100), bins=10)
      >>> picture.axes[0].get_ylabel()
      'density'

    Args:
      samples: numbers of any shape, or a dict of several such sets with their labels.
      log_prob: gives the log-densities `[N]`, in nats, of numbers `[N]` (float32).
      bounds: `(low, high)` of what is shown; the range of all samples by default. The
        density counts samples beyond too.
      bins: number of bins.
      xlabel: label of the horizontal axis.
      label: what the density is called in the legend.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      TypeError: if `log_prob` is not callable, or `bins` not an integer.
      ValueError: if there are no samples, or one is NaN or infinite; on bounds that are
        not increasing, or fewer than one bin.
    """
    sets = samples if isinstance(samples, Mapping) else {"samples": samples}
    sets = {k: check_numbers("samples", k, v) for k, v in sets.items()}
    if not sets:
        raise ValueError("samples must hold at least one set of numbers.")
    bins = check_integer("bins", bins)
    if bounds is None:
        low, high = (f([f(v) for v in sets.values()]) for f in (np.min, np.max))
        bounds = (low, high) if low < high else (low - 0.5, low + 0.5)
    check_increasing(bounds)
    edges = np.linspace(*bounds, bins + 1)
    line = np.linspace(*bounds, 401)
    p = None if log_prob is None else density_at("log_prob", log_prob, line)

    figure, (axes,) = side_by_side(1, (4.8, 3.2))
    for (name, values), color in zip(
        sets.items(), distinct_colors(len(sets)), strict=True
    ):
        counts = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.35, label=name)
        axes.stairs(counts, edges, color=color, lw=1)
    if p is not None:
        axes.plot(line, p, color="black", lw=1.5, label=label)
    axes.set(xlim=bounds, xlabel=xlabel, ylabel="density")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if p is not None or isinstance(samples, Mapping):
        axes.legend(frameon=False)
    return finish(figure, path)


def warped_grid(
    forward: Callable,
    *,
    bounds: PlanarBounds = ((-2, 2), (-2, 2)),
    lines: int = 21,
    limits: PlanarBounds | None = None,
    names: tuple[str, str] = ("x", "x"),
    before: bool = True,
    graded: bool = False,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws a square grid before and after a map of the plane.

    Example:
      >>> from tfp_flows import bijectors, plots
      >>> radial = bijectors.Radial(2, seed=0)
      >>> picture = plots.warped_grid(radial.forward, names=("z", "x"), lines=5)
      >>> [axes.get_xlabel() for axes in picture.axes]
      ['$z_1$', '$x_1$']

    Args:
      forward: maps points `[N, 2]` (float32) to points `[N, 2]`: a bijector's
        `forward` or `inverse`, a flow's `encode` or `decode`.
      bounds: `(low, high)` of the first and of the second coordinate of the grid.
      lines: number of lines in each direction.
      limits: `(low, high)` of both axes of both panels, which are then the same in all
        frames of an animation; by default each panel shows its whole grid.
      names: letters of the coordinates before and after.
      before: whether the grid before the map is shown beside the one after it. A film
        may do without.
      graded: whether colours say where each line comes from: lines along the second
        coordinate go from dark to bright with the first, and the others are left out.
      path: PNG file to write.

    Returns:
      The figure: lines along the first coordinate are blue, along the second red,
      unless they are graded.

    Raises:
      TypeError: if `forward` is not callable, or `lines` not an integer.
      ValueError: on a wrong shape, bounds that are not increasing, fewer than 2 lines,
        or a result that is NaN or infinite.
    """
    check_planar_bounds(bounds)
    if limits is not None:
        check_planar_bounds(limits, "limits")
    lines = check_integer("lines", lines, at_least=2)
    (low1, high1), (low2, high2) = bounds
    fine = np.linspace(0, 1, 401, dtype=np.float32)
    steps = np.linspace(0, 1, lines, dtype=np.float32)
    along_first = np.stack(np.meshgrid(fine, steps), -1)
    unit = np.stack([along_first, along_first[..., ::-1]])
    grid = unit * (high1 - low1, high2 - low2) + (low1, low2)
    after = evaluate("forward", forward, grid.reshape(-1, 2), (2,))
    check_finite("the result of forward", after)

    shown = [("before", names[0], grid)] if before else []
    shown.append(("after" if before else "", names[1], after.reshape(grid.shape)))
    figure, panels = side_by_side(len(shown), (3.7 * len(shown), 3.7))
    for axes, (title, letter, grid) in zip(panels, shown, strict=True):
        for curves, color in zip(grid, (BLUE, RED), strict=True):
            if graded and color == BLUE:
                continue
            colors = graded_colors(lines) if graded else color
            axes.add_collection(LineCollection(curves, colors=colors, linewidths=0.8))
        axes.autoscale_view()
        if limits is not None:
            axes.set(xlim=limits[0], ylim=limits[1])
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(box_aspect=1, title=title)
        axes.set(xlabel=f"${letter}_1$", ylabel=f"${letter}_2$")
    return finish(figure, path)


def _density_on_grid(
    name: str, log_prob: Callable, bounds: PlanarBounds, resolution: int
) -> np.ndarray:
    """Density at the middles of cells, `[second coordinate, first coordinate]`."""
    middles = (np.arange(resolution) + 0.5) / resolution
    axes = [low + (high - low) * middles for low, high in bounds]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return density_at(name, log_prob, points).reshape(resolution, resolution)


def _top_of_scale(p: np.ndarray) -> float:
    """The highest density on a grid, or less where spikes with little mass exceed it.

    It is at most 1.5 times the density above which a hundredth of the mass lies. The
    peak of a normal in the plane is lower than this.
    """
    falling = np.sort(p, axis=None)[::-1]
    mass = np.cumsum(falling)
    return min(falling[0], 1.5 * falling[np.searchsorted(mass, 0.01 * mass[-1])])
