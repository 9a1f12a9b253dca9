"""Pictures of flows: densities, warped grids, masks, images, curves and animations.

Every function returns a `matplotlib.figure.Figure`, which shows itself at the end of a
notebook cell, and with `path`, which ends in `.png`, writes it to a file; `animate`
makes a film of such figures. Nothing here needs or changes pyplot, a display or a
backend.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Animation",
    "Frames",
    "animate",
    "change_of_variables",
    "curves",
    "density",
    "describe",
    "histogram",
    "history",
    "images",
    "masks",
    "matrices",
    "rearrangement",
    "spectrum",
    "strip",
    "warped_grid",
]

_Bounds = tuple[tuple[float, float], tuple[float, float]]

# A power of two, so that whole pixels divided by it are exact inches.
_DPI = 128
_PALETTE = "magma"
# Blue and vermilion of Okabe & Ito 2008, told apart with any colour vision.
_BLUE, _RED, _ORANGE = "#0072B2", "#D55E00", "#E69F00"
_COLORS = (
    _BLUE,
    _RED,
    "#009E73",
    _ORANGE,
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#999999",
)
_UNITS = {"loss": "nats", "nll": "nats", "bits_per_dim": "bits per dimension"}
_CHUNK = 10_000
# Pixels: least width of a picture, space between its images and around its labels.
_WIDTH, _GAP, _MARGIN = 600, 2, 6
# Rows and columns of a matrix whose numbers can be read.
_WRITTEN = 4


def density(
    log_prob: Callable,
    *,
    bounds: _Bounds = ((-4, 4), (-4, 4)),
    resolution: int = 200,
    points: Any = None,
    truth: Callable | None = None,
    top: float | None = None,
    title: str | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Heat map of a density in the plane, beside the truth or data if they are given.

    All densities share one colour scale, from 0 to the highest of them. A spike with
    less than a hundredth of the mass may exceed it, instead of darkening all the rest.

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
      path: PNG file to write.

    Returns:
      The figure, with one to three panels: model, truth, data.

    Raises:
      TypeError: if `log_prob` or `truth` is not callable.
      ValueError: on a wrong shape, bounds that are not increasing, points that are NaN
        or infinite, or a density that is; a `top` that is not positive.
    """
    _check_planar_bounds(bounds)
    _check_top(top)
    if resolution < 1:
        raise ValueError(f"resolution must be 1 or more, got {resolution}.")
    if points is not None:
        points = _finite("points", points)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be [N, 2], got shape {list(points.shape)}.")
    densities = {"model": _density_on_grid("log_prob", log_prob, bounds, resolution)}
    if truth is not None:
        densities["truth"] = _density_on_grid("truth", truth, bounds, resolution)

    if top is None:
        top = max(_top_of_scale(p) for p in densities.values())
    names = [*densities, *([] if points is None else ["data"])]
    figure, panels = _panels(len(names), (3.3 * len(names) + 0.8, 3.6))
    for name, axes in zip(names, panels, strict=True):
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
            axes.scatter(*points.T, s=size, color=color, linewidths=0)
        axes.set(xlim=bounds[0], ylim=bounds[1], aspect="equal")
        axes.set(xlabel="$x_1$", ylabel="$x_2$", title=name if len(names) > 1 else "")
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
    _trim(figure)
    return _finish(figure, path)


def warped_grid(
    forward: Callable,
    *,
    bounds: _Bounds = ((-2, 2), (-2, 2)),
    lines: int = 21,
    limits: _Bounds | None = None,
    names: tuple[str, str] = ("x", "x"),
    before: bool = True,
    path: str | os.PathLike | None = None,
) -> Figure:
    """A square grid before and after a map of the plane.

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
      path: PNG file to write.

    Returns:
      The figure: lines along the first coordinate are blue, along the second red.

    Raises:
      TypeError: if `forward` is not callable.
      ValueError: on a wrong shape, bounds that are not increasing, fewer than 2 lines,
        or a result that is NaN or infinite.
    """
    _check_planar_bounds(bounds)
    if limits is not None:
        _check_planar_bounds(limits, "limits")
    if lines < 2:
        raise ValueError(f"lines must be 2 or more, got {lines}.")
    (low1, high1), (low2, high2) = bounds
    fine = np.linspace(0, 1, 401, dtype=np.float32)
    steps = np.linspace(0, 1, lines, dtype=np.float32)
    along_first = np.stack(np.meshgrid(fine, steps), -1)
    unit = np.stack([along_first, along_first[..., ::-1]])
    grid = unit * (high1 - low1, high2 - low2) + (low1, low2)
    after = _evaluate("forward", forward, grid.reshape(-1, 2), (2,))
    _finite("the result of forward", after)

    from matplotlib.collections import LineCollection

    shown = [("before", names[0], grid)] if before else []
    shown.append(("after" if before else "", names[1], after.reshape(grid.shape)))
    figure, panels = _panels(len(shown), (3.7 * len(shown), 3.7))
    for axes, (title, letter, grid) in zip(panels, shown, strict=True):
        for curves, color in zip(grid, (_BLUE, _RED), strict=True):
            axes.add_collection(LineCollection(curves, colors=color, linewidths=0.8))
        axes.autoscale_view()
        if limits is not None:
            axes.set(xlim=limits[0], ylim=limits[1])
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(box_aspect=1, title=title)
        axes.set(xlabel=f"${letter}_1$", ylabel=f"${letter}_2$")
    return _finish(figure, path)


def images(
    x: Any,
    *,
    columns: int | None = None,
    bounds: tuple[float, float] | None = None,
    scale: int | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Images in a grid, row by row.

    The figure and the PNG file have exactly the pixels of the grid: every pixel of an
    image is a square of `scale` by `scale`, with 2 white ones between images.

    Args:
      x: images `[N, H, W, C]`, with C 1 (grey) or 3 (colour).
      columns: images in a row; about as many as make the grid square by default.
      bounds: `(low, high)`, the values shown as black and as white; values beyond are
        clipped. The smallest and the largest value in `x` by default.
      scale: side of a pixel; by default the smallest that makes the grid 600 wide.
      path: PNG file to write.

    Returns:
      The figure, with the grid as its one image.

    Raises:
      ValueError: on a wrong shape, values that are NaN or infinite, `columns` or
        `scale` below 1, or bounds that are not increasing.
    """
    x = _images("x", x, "[N, H, W, C]")
    count, height, width, channels = x.shape
    if columns is None:
        columns = min(count, math.ceil(math.sqrt(count * height / width)))
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}.")
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:count] = _to_bytes(x, bounds)
    cells = cells.reshape(rows, columns, height, width, channels)
    return _finish(_picture(_tile(cells, scale))[0], path)


def strip(
    rows: Any,
    *,
    labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Rows of images with a label each: interpolations, traversals, temperatures.

    Args:
      rows: images `[R, N, H, W, C]`, with C 1 (grey) or 3 (colour).
      labels: R labels of the rows, on their left.
      titles: N titles of the columns, above them.
      bounds: see `images`.
      path: PNG file to write.

    Returns:
      The figure, at least 600 pixels wide; all pixels of images are of one size.

    Raises:
      ValueError: on a wrong shape, values that are NaN or infinite, bounds that are
        not increasing, or a wrong number of labels or titles.
    """
    x = _images("rows", rows, "[R, N, H, W, C]")
    texts = {"labels": labels, "titles": titles}
    for (name, text), size in zip(texts.items(), x.shape, strict=False):
        if text is not None and len(text) != size:
            raise ValueError(f"{name} must be {size} texts, got {len(text)}.")
    grid = _tile(_to_bytes(x, bounds), None)
    figure, axes = _picture(grid)

    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    for axis, size, text in (
        (axes.yaxis, grid.shape[0], labels),
        (axes.xaxis, grid.shape[1], titles),
    ):
        text = [] if text is None else list(map(str, text))
        cell = (size + _GAP) / max(len(text), 1)
        middles = (np.arange(len(text)) + 0.5) * cell - (_GAP + 1) / 2
        axis.set_ticks(middles, text)
        axis.set_tick_params(length=0, labelsize="small")
    axes.xaxis.tick_top()
    _make_room(figure, axes)
    return _finish(figure, path)


def history(
    history: Mapping[str, Sequence[float]],
    *,
    metrics: Sequence[str] = ("nll",),
    path: str | os.PathLike | None = None,
) -> Figure:
    """Curves of training and validation over the epochs.

    Values that are NaN or infinite leave gaps. The axis may cut off the highest tenth
    of a curve, if all the rest would be flattened otherwise.

    Args:
      history: for each metric a list with a number per epoch, that of the validation
        under `val_` and its name: what `FlowModel.fit(...).history` holds.
      metrics: metrics to show, a panel each. `loss` and `nll` are in nats,
        `bits_per_dim` is in bits per dimension.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      TypeError: if `history` is not a dict.
      ValueError: if `metrics` is empty or a string; if a metric is not in `history`,
        has no epochs, or not as many in training as in validation.
    """
    if not isinstance(history, Mapping):
        raise TypeError(
            "history must be a dict of lists, such as model.fit(...).history, got "
            f"{type(history).__name__}."
        )
    if isinstance(metrics, str) or len(metrics) == 0:
        raise ValueError(f"metrics must be one or more names, got {metrics!r}.")
    curves = {metric: _curves(history, metric) for metric in metrics}

    from matplotlib.ticker import MaxNLocator

    figure, panels = _panels(len(curves), (4.8 * len(curves), 3.2))
    for axes, (metric, both) in zip(panels, curves.items(), strict=True):
        for values, label, color in zip(
            both, ("training", "validation"), (_BLUE, _RED), strict=False
        ):
            epochs = np.arange(1, len(values) + 1)
            # A line through a single epoch, or one between gaps, would not be seen.
            marked = len(values) <= 20 or np.isnan(values).any()
            marker = "o" if marked else None
            axes.plot(epochs, values, color=color, label=label, marker=marker, ms=4)
        axes.set_ylim(_readable_limits(both))
        axes.set_xlim(0.5, len(both[0]) + 0.5)
        axes.set(xlabel="epoch", ylabel=_UNITS.get(metric, metric), title=metric)
        ticks = MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_locator(ticks)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return _finish(figure, path)


def change_of_variables(
    forward: Callable,
    log_prob: Callable,
    *,
    bounds: tuple[float, float] = (0, 1),
    boxes: int = 10,
    limits: tuple[float, float] | None = None,
    top: float | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    r"""What a map of numbers does to a density: little boxes that keep their area.

    Below, the density of $z$ is cut into boxes of one area; the curve carries each over
    to the left, where it stands on $x$. Where the curve is steep a box gets wide, and
    low in proportion: $p(x) = p(z) \, |dz/dx|$. Areas are equal on paper too.

    Args:
      forward: maps numbers `[N]` (float32) to numbers `[N]`, strictly monotonic: the
        `forward` of a bijector of scalars.
      log_prob: gives the log-densities `[N]`, in nats, of $z$.
      bounds: `(low, high)` of $z$.
      boxes: number of boxes; together they have the mass between the bounds.
      limits: `(low, high)` of the axis of $x$, which is then the same in all frames of
        an animation; by default that of the curve.
      top: density at which the axis of $p(z)$ ends, for the same purpose.
      path: PNG file to write.

    Returns:
      The figure, with three panels: the map, the density of $z$, that of $x$.

    Raises:
      TypeError: if `forward` or `log_prob` is not callable.
      ValueError: on a wrong shape, bounds or limits that are not increasing, fewer than
        one box, a `top` that is not positive; if `forward` is not strictly monotonic,
        there is no mass between the bounds, or a value is NaN or infinite.
    """
    _check_increasing(bounds)
    if boxes < 1:
        raise ValueError(f"boxes must be 1 or more, got {boxes}.")
    _check_top(top)
    edges = np.linspace(*bounds, 1025)
    p = _density_on_line("log_prob", log_prob, (edges[1:] + edges[:-1]) / 2)
    x = _finite("the result of forward", _evaluate("forward", forward, edges, ()))
    step = np.diff(x)
    if not ((step > 0).all() or (step < 0).all()):
        raise ValueError(f"forward must be strictly monotonic on {bounds}.")
    mass = np.concatenate([[0], np.cumsum(p * np.diff(edges))])
    if mass[-1] <= 0:
        raise ValueError(f"log_prob must have some mass on {bounds}.")
    inside = slice(np.flatnonzero(mass == 0)[-1], np.searchsorted(mass, mass[-1]) + 1)
    z_boxes = np.interp(
        np.linspace(0, mass[-1], boxes + 1), mass[inside], edges[inside]
    )
    x_boxes = np.interp(z_boxes, edges, x)
    area = mass[-1] / boxes
    z_heights, x_heights = (area / np.abs(np.diff(ends)) for ends in (z_boxes, x_boxes))
    q = p * np.diff(edges) / np.abs(step)
    low, high = limits = (x.min(), x.max()) if limits is None else limits
    _check_increasing(limits, "limits")

    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.6), dpi=_DPI, layout="none")
    main = figure.add_axes((0.4, 0.36, 0.55, 0.55))
    below = figure.add_axes((0.4, 0.12, 0.55, 0.2), sharex=main)
    left = figure.add_axes((0.18, 0.36, 0.2, 0.55), sharey=main)
    main.plot(edges, x, color="black", lw=1.5)
    ranges = np.ptp(edges), high - low
    # One unit of area is as large in both panels.
    if top is None:
        top = 1.2 * max(z_heights.max(), x_heights.max() * ranges[1] / ranges[0])
    main.set(xlim=bounds, ylim=limits, title="$x = f(z)$")
    below.set(ylim=(top, 0), xlabel="$z$", ylabel="$p(z)$")
    left.set(xlim=(top * ranges[0] / ranges[1], 0), ylabel="$x$", xlabel="$p(x)$")
    left.xaxis.set_label_position("top")
    left.xaxis.tick_top()
    left.locator_params("x", nbins=3)
    below.locator_params("y", nbins=4)
    below.plot((edges[1:] + edges[:-1]) / 2, p, color="black", lw=1.2)
    left.plot(q, (x[1:] + x[:-1]) / 2, color="black", lw=1.2)
    colors = _colors(boxes)
    style = {"edgecolor": "white", "linewidth": 0.6}
    below.bar(
        z_boxes[:-1], z_heights, np.diff(z_boxes), align="edge", color=colors, **style
    )
    left.barh(
        x_boxes[:-1], x_heights, np.diff(x_boxes), align="edge", color=colors, **style
    )
    for z_end, x_end in zip(z_boxes, x_boxes, strict=True):
        main.plot(
            [z_end, z_end, bounds[0]],
            [low, x_end, x_end],
            color="0.75",
            lw=0.6,
            zorder=0,
        )
    main.tick_params(labelbottom=False, labelleft=False)
    for axes in (below, left):
        axes.spines[:].set_visible(False)
    return _finish(figure, path)


def histogram(
    samples: Any,
    *,
    log_prob: Callable | None = None,
    bounds: tuple[float, float] | None = None,
    bins: int = 60,
    xlabel: str = "$x$",
    path: str | os.PathLike | None = None,
) -> Figure:
    """Histogram of numbers, beside the density that a formula gives them.

    Args:
      samples: numbers of any shape, or a dict of several such sets with their labels.
      log_prob: gives the log-densities `[N]`, in nats, of numbers `[N]` (float32).
      bounds: `(low, high)` of what is shown; the range of all samples by default. The
        density counts samples beyond too.
      bins: number of bins.
      xlabel: label of the horizontal axis.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      TypeError: if `log_prob` is not callable.
      ValueError: if there are no samples, or one is NaN or infinite; on bounds that are
        not increasing, or fewer than one bin.
    """
    sets = samples if isinstance(samples, Mapping) else {"samples": samples}
    sets = {k: _numbers("samples", k, v) for k, v in sets.items()}
    if not sets:
        raise ValueError("samples must hold at least one set of numbers.")
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}.")
    if bounds is None:
        low, high = (f([f(v) for v in sets.values()]) for f in (np.min, np.max))
        bounds = (low, high) if low < high else (low - 0.5, low + 0.5)
    _check_increasing(bounds)
    edges = np.linspace(*bounds, bins + 1)
    line = np.linspace(*bounds, 401)
    p = None if log_prob is None else _density_on_line("log_prob", log_prob, line)

    figure, (axes,) = _panels(1, (4.8, 3.2))
    for (label, values), color in zip(sets.items(), _cycle(len(sets)), strict=True):
        counts = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.35, label=label)
        axes.stairs(counts, edges, color=color, lw=1)
    if p is not None:
        axes.plot(line, p, color="black", lw=1.5, label="formula")
    axes.set(xlim=bounds, xlabel=xlabel, ylabel="density")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if p is not None or isinstance(samples, Mapping):
        axes.legend(frameon=False)
    return _finish(figure, path)


def curves(
    x: Any,
    curves: Mapping[str, Any],
    *,
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    path: str | os.PathLike | None = None,
) -> Figure:
    """Lines with a label each: times against sizes, errors against depths.

    Args:
      x: N numbers.
      curves: N numbers for each label; those that are NaN leave gaps.
      xlabel: label of the horizontal axis, with its unit.
      ylabel: label of the vertical axis, with its unit.
      log: the axes that are logarithmic: `""`, `"x"`, `"y"` or `"xy"`.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      ValueError: on another `log`, no curves, or numbers of another shape.
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}.')
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"x must be [N], got shape {list(x.shape)}.")
    lines = {k: np.asarray(v, np.float64) for k, v in curves.items()}
    for name, y in lines.items():
        if y.shape != x.shape:
            raise ValueError(
                f"curves must hold {list(x.shape)} numbers, got {list(y.shape)} for "
                f"{name!r}."
            )
    return _finish(
        _lines({k: (x, y) for k, y in lines.items()}, xlabel, ylabel, log), path
    )


def spectrum(
    values: Any,
    *,
    ylabel: str = "value",
    log: bool = False,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Numbers in falling order: how many of them matter.

    Args:
      values: numbers of any shape (scales of a layer, standard deviations of codes), or
        a dict of several such sets with their labels (a level each).
      ylabel: label of the vertical axis.
      log: whether the vertical axis is logarithmic; the numbers are then positive.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      ValueError: if there are no numbers, one is NaN or infinite, or (with `log`) not
        positive.
    """
    sets = values if isinstance(values, Mapping) else {"": values}
    sets = {k: np.sort(_numbers("values", k, v))[::-1] for k, v in sets.items()}
    if not sets:
        raise ValueError("values must hold at least one set of numbers.")
    if log and min(v[-1] for v in sets.values()) <= 0:
        raise ValueError("values must be positive on a logarithmic axis.")
    lines = {k: (np.arange(1, len(v) + 1), v) for k, v in sets.items()}
    return _finish(_lines(lines, "rank", ylabel, "y" if log else ""), path)


def masks(
    masks: Any,
    *,
    titles: Sequence[str] | None = None,
    event_shape: Sequence[int] | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Masks of couplings as squares: blue is kept, orange transformed.

    Args:
      masks: boolean arrays, `[D]`, `[H, W]` or `[H, W, C]`, or one of them. Channels
        stand side by side.
      titles: a title for each mask.
      event_shape: shape to which masks are broadcast, for those with sizes of 1.
      path: PNG file to write.

    Returns:
      The figure, with a panel for each mask.

    Raises:
      TypeError: if a mask is not boolean.
      ValueError: on a wrong shape or a wrong number of titles.
    """
    if isinstance(masks, np.ndarray):
        masks = [masks]
    arrays = []
    for mask in masks:
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(f"masks must be boolean, got dtype {mask.dtype}.")
        if event_shape is not None:
            try:
                mask = np.broadcast_to(mask, tuple(event_shape))
            except ValueError:
                raise ValueError(
                    f"masks must broadcast to event_shape {tuple(event_shape)}, got "
                    f"shape {mask.shape}."
                ) from None
        arrays.append(_check_cells("masks", mask))
    colors = [np.where(mask, _BLUE, _ORANGE) for mask in arrays]
    figure = _cells(colors, None, titles, "masks", below=0.3)

    from matplotlib.patches import Patch

    keys = [Patch(color=_BLUE, label="kept"), Patch(color=_ORANGE, label="transformed")]
    figure.legend(handles=keys, loc="lower center", ncols=2, frameon=False)
    return _finish(figure, path)


def rearrangement(
    forward: Callable,
    event_shape: Sequence[int],
    *,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Where a permutation or a squeeze takes each entry of an event.

    Entries are numbered in the order of the event. Those that end in one channel of an
    image have one colour; in a vector, colours go with the numbers.

    Args:
      forward: maps events `[1, *event_shape]` (float32) to events with the same entries
        at other places: the `forward` of a `Squeeze` or a `Permutation`.
      event_shape: `[D]`, `[H, W]` or `[H, W, C]`. Channels stand side by side.
      path: PNG file to write.

    Returns:
      The figure, with panels before and after.

    Raises:
      TypeError: if `forward` is not callable.
      ValueError: if `forward` does anything but rearrange; on a wrong shape.
    """
    if not callable(forward):
        raise TypeError(
            f"forward must be a function of events, got {type(forward).__name__}."
        )
    size = math.prod(event_shape)
    before = np.arange(size).reshape(event_shape)
    after = np.asarray(forward(before[None].astype(np.float32)))
    numbers = np.rint(after).astype(int)
    if after.shape[:1] != (1,) or not (
        np.array_equal(numbers, after)
        and np.array_equal(np.sort(numbers, None), np.arange(size))
    ):
        raise ValueError("forward must give an event with the same entries, once each.")
    both = [_check_cells("event_shape", cells) for cells in (before, numbers[0])]
    # Colours of entries by number, then by place.
    colors = np.empty(size, dtype="<U7")
    if both[1].ndim == 3:
        channels = both[1].shape[-1]
        palette = np.array(_cycle(channels) if channels <= 8 else _colors(channels))
        colors[both[1]] = palette
    else:
        colors[:] = _colors(size)
    texts = both if size <= 64 else None
    figure = _cells([colors[cells] for cells in both], texts, ["before", "after"], "")
    return _finish(figure, path)


def matrices(
    matrices: Any,
    *,
    titles: Sequence[str] | None = None,
    xlabel: str = "column",
    ylabel: str = "row",
    top: float | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Matrices as heat maps that share one scale: red is positive, blue negative.

    Small ones have their numbers written in.

    Args:
      matrices: matrices `[M, N]`, or one: the weights of an invertible 1x1 convolution,
        a Jacobian.
      titles: a title for each.
      xlabel: what the columns are.
      ylabel: what the rows are.
      top: magnitude at the ends of the colour scale, which is then the same in all
        frames of an animation; the largest of all matrices by default.
      path: PNG file to write.

    Returns:
      The figure, with a panel for each matrix.

    Raises:
      ValueError: on a wrong shape, values that are NaN or infinite, a wrong number of
        titles, or a `top` that is not positive.
    """
    _check_top(top)
    if np.ndim(matrices[0]) == 1:
        matrices = [matrices]
    arrays = [_finite("matrices", m).astype(np.float64) for m in matrices]
    for m in arrays:
        if m.ndim != 2 or not m.size:
            raise ValueError(f"matrices must be [M, N], got shape {list(m.shape)}.")
    _check_titles(titles, len(arrays))
    if top is None:
        top = max(np.abs(m).max() for m in arrays) or 1.0

    from matplotlib.ticker import MaxNLocator

    figure, panels = _panels(len(arrays), (2.8 * len(arrays) + 0.8, 3.2))
    for i, (axes, m) in enumerate(zip(panels, arrays, strict=True)):
        heat = axes.imshow(m, cmap="RdBu_r", vmin=-top, vmax=top)
        axes.set(title="" if titles is None else titles[i])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if max(m.shape) > _WRITTEN:
            continue
        for (row, column), value in np.ndenumerate(m):
            # Without the sign of what rounds to zero.
            text = f"{round(value, 2) + 0.0:.2f}"
            color = "white" if abs(value) > 0.6 * top else "black"
            axes.text(column, row, text, ha="center", va="center", color=color)
    figure.colorbar(heat, cax=panels[-1].inset_axes((1.06, 0, 0.06, 1)))
    _trim(figure)
    return _finish(figure, path)


class Animation:
    """A film of frames, as an animated GIF; it plays in a notebook, a stored one too.

    Made by `animate`.

    Attributes:
      frames: pictures `[H, W, 3]`, bytes, of one size.
      fps: frames per second.
      gif: the file's bytes.
      alt: what there is to see, see `describe`.
    """

    alt = "animation"

    def __init__(self, frames: Sequence[np.ndarray], fps: float, hold: float):
        from PIL import Image

        self.frames, self.fps = list(frames), fps
        pictures = [
            Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
            for frame in self.frames
        ]
        # Viewers count in hundredths of a second.
        durations = [10 * round(100 / fps)] * len(pictures)
        durations[-1] += 10 * round(100 * hold)
        file = io.BytesIO()
        pictures[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
        )
        self.gif = file.getvalue()

    def save(self, path: str | os.PathLike) -> None:
        """Writes the film to a file, which ends in `.gif`."""
        if Path(path).suffix.lower() != ".gif":
            raise ValueError(f"path must end in .gif, got {os.fspath(path)!r}.")
        Path(path).write_bytes(self.gif)

    def to_html(self) -> str:
        """An `<img>` element that holds the film itself."""
        data = base64.b64encode(self.gif).decode("ascii")
        alt = html.escape(self.alt)
        return f'<img src="data:image/gif;base64,{data}" alt="{alt}">'

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self):
        height, width, _ = self.frames[0].shape
        return (
            f"Animation({len(self.frames)} frames of {width}x{height}, {self.fps} fps)"
        )


def animate(
    frames: Sequence[Any],
    *,
    fps: float = 10,
    hold: float = 1.0,
    width: int | None = None,
    path: str | os.PathLike | None = None,
) -> Animation:
    """A film of figures.

    Frames of several sizes are padded with white; better give all figures the same
    limits (`warped_grid(limits=...)`, `density(top=...)`).

    Args:
      frames: figures, or pictures `[H, W, 3]` of bytes.
      fps: frames per second, more than 0 and at most 50.
      hold: seconds for which the last frame stays before the film starts again.
      width: pixels to which wider frames are made smaller, for a file that is.
      path: GIF file to write.

    Returns:
      An `Animation`, which plays at the end of a notebook cell.

    Raises:
      TypeError: if a frame is neither a figure nor such a picture.
      ValueError: if there are no frames, or on another `fps`, `hold`, `width` or
        ending of `path`.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps must be more than 0 and at most 50, got {fps}.")
    if not 0 <= hold < math.inf:
        raise ValueError(f"hold must be 0 seconds or more, got {hold}.")
    if width is not None and width < 1:
        raise ValueError(f"width must be 1 or more, got {width}.")
    pictures = [_pixels(frame) for frame in frames]
    if not pictures:
        raise ValueError("frames must hold at least one frame.")
    size = np.max([picture.shape[:2] for picture in pictures], axis=0)
    pictures = [
        np.pad(
            picture,
            [*((0, n - m) for n, m in zip(size, picture.shape, strict=False)), (0, 0)],
            constant_values=255,
        )
        for picture in pictures
    ]
    if width is not None:
        pictures = [_shrink(picture, width) for picture in pictures]
    animation = Animation(pictures, fps, hold)
    if path is not None:
        animation.save(path)
    return animation


class Frames(keras.callbacks.Callback):
    """Draws a frame before training and after epochs of it.

        frames = plots.Frames(lambda: plots.density(model.flow.log_prob, top=0.2))
        model.fit(x, epochs=50, callbacks=[frames])
        frames.animate()

    Args:
      draw: gives a figure of the model as it is.
      every: number of epochs from one frame to the next.

    Raises:
      ValueError: if `every` is less than 1.
    """

    def __init__(self, draw: Callable[[], Figure], every: int = 1):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be 1 or more, got {every}.")
        self.draw, self.every = draw, every
        self.frames: list[np.ndarray] = []

    def on_train_begin(self, logs=None):
        self.frames.append(_pixels(self.draw()))

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.frames.append(_pixels(self.draw()))

    def animate(self, **options) -> Animation:
        """A film of the frames so far; options are those of `animate`."""
        return animate(self.frames, **options)


def describe(picture: Figure | Animation, alt: str) -> Figure | Animation:
    """Gives a picture a text for those who do not see it.

    A notebook stores it with the picture, screen readers say it, and it stands in the
    picture's place where that cannot be shown.

    Args:
      picture: a figure, also one of matplotlib's own, or an `Animation`.
      alt: what there is to see.

    Returns:
      `picture` itself.

    Raises:
      ValueError: if `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what there is to see; it is empty.")
    picture.alt = alt
    return picture if isinstance(picture, Animation) else _show(picture)


# Figures and files.


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure, with its size in inches, and panels side by side."""
    from matplotlib.figure import Figure

    # The constrained layout, which with "compressed" keeps squares close together.
    figure = Figure(figsize=size, dpi=_DPI, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.08)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _trim(figure: Figure) -> None:
    """Takes away the margins that panels of a fixed aspect leave."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    figure.set_size_inches(box.width + 0.16, box.height + 0.16)


def _finish(figure: Figure, path: str | os.PathLike | None) -> Figure:
    if path is not None:
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"path must end in .png, got {os.fspath(path)!r}.")
        Path(path).write_bytes(_png(figure))
    return _show(figure)


def _show(figure: Figure) -> Figure:
    """Gives a notebook the picture of a figure that pyplot may not know."""
    figure._repr_mimebundle_ = functools.partial(_mime_bundle, figure)
    return figure


def _mime_bundle(figure: Figure, include: Any = None, exclude: Any = None):
    alt = getattr(figure, "alt", None)
    data = base64.b64encode(_png(figure)).decode("ascii")
    bundle = {"image/png": data, "text/plain": alt or repr(figure)}
    return bundle, {"image/png": {"alt": alt}} if alt else {}


def _png(figure: Figure) -> bytes:
    import matplotlib

    file = io.BytesIO()
    # A user's style must not crop the figure, which would change its size.
    with matplotlib.rc_context({"savefig.bbox": "standard"}):
        figure.savefig(file, format="png", dpi="figure")
    return file.getvalue()


def _pixels(frame: Any) -> np.ndarray:
    """A figure as a picture `[H, W, 3]` of bytes."""
    from matplotlib.figure import Figure
    from PIL import Image

    if isinstance(frame, Figure):
        return np.asarray(Image.open(io.BytesIO(_png(frame))).convert("RGB"))
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise TypeError(
            "frames must be figures or pictures [H, W, 3] of dtype uint8, got "
            f"{frame.dtype} of shape {list(frame.shape)}."
        )
    return frame


def _shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture `[H, W, 3]` at most that wide."""
    from PIL import Image

    scale = width / picture.shape[1]
    if scale >= 1:
        return picture
    size = width, max(round(scale * picture.shape[0]), 1)
    image = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


# Colours.


def _cycle(count: int) -> list[str]:
    """That many colours that are told apart with any colour vision, up to eight."""
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def _colors(count: int) -> list[str]:
    """That many colours in an order that is seen."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps["viridis"](np.linspace(0.05, 0.95, count))]


# Lines.


def _lines(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    log: str,
) -> Figure:
    if not lines:
        raise ValueError("curves must hold at least one curve.")

    from matplotlib.ticker import NullFormatter

    figure, (axes,) = _panels(1, (4.8, 3.2))
    for (label, (x, y)), color in zip(lines.items(), _cycle(len(lines)), strict=True):
        marker = "o" if len(x) <= 20 or np.isnan(y).any() else None
        axes.plot(x, y, color=color, label=label, marker=marker, ms=4)
    axes.set(
        xlabel=xlabel,
        ylabel=ylabel,
        xscale="log" if "x" in log else "linear",
        yscale="log" if "y" in log else "linear",
    )
    if "x" in log:
        # Labels between powers of ten would run into each other.
        axes.xaxis.set_minor_formatter(NullFormatter())
        points = np.unique(np.concatenate([x for x, _ in lines.values()]))
        if len(points) <= 8:
            axes.set_xticks(points, [f"{n:g}" for n in points])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if any(lines):
        axes.legend(frameon=False)
    return figure


def _numbers(name: str, label: str, values: Any) -> np.ndarray:
    """Numbers `[N]`, at least one."""
    values = _finite(name, np.asarray(values, np.float64)).ravel()
    if not values.size:
        raise ValueError(
            f"{name} must hold at least one number, got none for {label!r}."
        )
    return values


def _density_on_line(name: str, log_prob: Callable, points: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        p = np.exp(_evaluate(name, log_prob, points, ()))
    return _finite(f"the density of {name}", p)


# Cells.


def _check_cells(name: str, cells: np.ndarray) -> np.ndarray:
    if cells.ndim not in (1, 2, 3) or not cells.size:
        raise ValueError(
            f"{name} must be [D], [H, W] or [H, W, C], got shape {list(cells.shape)}."
        )
    return cells


def _check_titles(titles: Sequence[str] | None, count: int) -> None:
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles must be {count} texts, got {len(titles)}.")


def _cells(
    colors: Sequence[np.ndarray],
    texts: Sequence[np.ndarray] | None,
    titles: Sequence[str] | None,
    name: str,
    below: float = 0.0,
) -> Figure:
    """Panels of coloured squares, one for each array of colours; inches `below`."""
    if not colors:
        raise ValueError(f"{name} must hold at least one.")
    _check_titles(titles, len(colors))

    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    places = [_places(c.shape).reshape(-1, 2) for c in colors]
    sizes = np.array([where.max(0) + 1 for where in places])
    # Inches: squares are of one size in all panels, titles have room above.
    side = min(0.3, 8 / sizes[:, 0].sum(), 3.5 / sizes[:, 1].max())
    room = [0.085 * len(str(title)) for title in titles or [""] * len(places)]
    widths = np.maximum(side * sizes[:, 0], room)
    middles = np.cumsum(widths + 0.3) - widths / 2 - 0.15
    height = side * sizes[:, 1].max()
    total = np.array([middles[-1] + widths[-1] / 2 + 0.15, height + 0.5 + below])
    # What stands below needs a width of its own.
    more = max((2.8 if below else 0) - total[0], 0)
    total[0] += more
    figure = Figure(figsize=total, dpi=_DPI, layout="none")
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    for i, (where, size) in enumerate(zip(places, sizes, strict=True)):
        start = np.array(
            [
                middles[i] + (more - side * size[0]) / 2,
                below + 0.12 + height - side * size[1],
            ]
        )
        axes = figure.add_axes((*(start / total), *(side * size / total)))
        faces = colors[i].ravel()
        axes.add_collection(
            PolyCollection(
                where[:, None] + corners,
                facecolors=faces,
                edgecolors="white",
                linewidths=min(1.0, 3 * side),
            )
        )
        if texts is not None:
            for (x, y), text, face in zip(where, texts[i].ravel(), faces, strict=True):
                dark = np.dot(to_rgb(face), (0.299, 0.587, 0.114)) < 0.5
                axes.text(
                    x + 0.5,
                    y + 0.52,
                    str(text),
                    ha="center",
                    va="center",
                    size=26 * side,
                    color="white" if dark else "black",
                )
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        axes.set_title("" if titles is None else titles[i], fontsize="medium")
        axes.set_axis_off()
    return figure


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Left upper corners of cells, `[*shape, 2]`; channels stand side by side."""
    height, width, channels = ((1, *shape, 1), (*shape, 1), shape)[len(shape) - 1]
    rows, columns, channel = np.indices((height, width, channels))
    # Half a square between channels of an image, none between those of one pixel.
    gap = 0.5 if height * width > 1 else 0
    across = columns + channel * (width + gap)
    return np.stack([across, rows], -1).reshape(*shape, 2)


# Densities and grids.


def _check_planar_bounds(bounds: _Bounds, name: str = "bounds") -> None:
    if np.shape(bounds) != (2, 2):
        raise ValueError(f"{name} must be ((low, high), (low, high)), got {bounds}.")
    for pair in bounds:
        _check_increasing(pair, name)


def _check_top(top: float | None) -> None:
    if top is not None and not 0 < top < math.inf:
        raise ValueError(f"top must be positive, got {top}.")


def _check_increasing(bounds: tuple[float, float], name: str = "bounds") -> None:
    if np.shape(bounds) != (2,):
        raise ValueError(f"{name} must be (low, high), got {bounds}.")
    if not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"{name} must be (low, high) with low < high, got {bounds}.")


def _finite(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ValueError(
            f"{name} must be finite, but {bad} of {values.size} values are NaN or "
            "infinite."
        )
    return values


def _evaluate(
    name: str, function: Callable, points: np.ndarray, event: tuple[int, ...]
) -> np.ndarray:
    """Values `[N, *event]` of a function at points, a chunk at a time."""
    if not callable(function):
        shape = ", ".join(["N", *map(str, points.shape[1:])])
        raise TypeError(
            f"{name} must be a function of points [{shape}], got "
            f"{type(function).__name__}."
        )
    values = []
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK].astype(np.float32)
        value = np.asarray(function(part))
        if value.shape != (len(part), *event):
            raise ValueError(
                f"{name} must map points {list(part.shape)} to "
                f"{[len(part), *event]}, got shape {list(value.shape)}."
            )
        values.append(value.astype(np.float64))
    return np.concatenate(values)


def _density_on_grid(
    name: str, log_prob: Callable, bounds: _Bounds, resolution: int
) -> np.ndarray:
    """Density at the middles of cells, `[second coordinate, first coordinate]`."""
    middles = (np.arange(resolution) + 0.5) / resolution
    axes = [low + (high - low) * middles for low, high in bounds]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    with np.errstate(over="ignore"):
        p = np.exp(_evaluate(name, log_prob, points, ()))
    return _finite(f"the density of {name}", p).reshape(resolution, resolution)


def _top_of_scale(p: np.ndarray) -> float:
    """The highest density on a grid, or less where spikes with little mass exceed it.

    Half as much again as the density above which a hundredth of the mass lies: no
    normal in the plane reaches this.
    """
    falling = np.sort(p, axis=None)[::-1]
    mass = np.cumsum(falling)
    return min(falling[0], 1.5 * falling[np.searchsorted(mass, 0.01 * mass[-1])])


# Images.


def _images(name: str, values: Any, shape: str) -> np.ndarray:
    try:
        x = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be {shape}, got unequal shapes.") from error
    if x.ndim != shape.count(",") + 1 or x.shape[-1] not in (1, 3) or x.size == 0:
        raise ValueError(
            f"{name} must be {shape} with C 1 or 3 and at least one image, got shape "
            f"{list(x.shape)}."
        )
    return _finite(name, x.astype(np.float64))


def _to_bytes(x: np.ndarray, bounds: tuple[float, float] | None) -> np.ndarray:
    """Grey levels 0 to 255 of values between bounds."""
    if bounds is None:
        low, high = x.min(), x.max()
        high = high if low < high else low + 1
    else:
        _check_increasing(bounds)
        low, high = bounds
    return np.rint(255 * np.clip((x - low) / (high - low), 0, 1)).astype(np.uint8)


def _tile(cells: np.ndarray, scale: int | None) -> np.ndarray:
    """One picture `[height, width, 3]` of images `[rows, columns, H, W, C]`."""
    rows, columns, height, width, _ = cells.shape
    if scale is None:
        scale = math.ceil((_WIDTH - _GAP * (columns - 1)) / (columns * width))
        scale = max(scale, 1)
    cells = cells.repeat(scale, axis=2).repeat(scale, axis=3)
    gaps = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)]
    cells = np.pad(cells, gaps, constant_values=255)
    height, width = height * scale + _GAP, width * scale + _GAP
    grid = cells.swapaxes(1, 2).reshape(rows * height, columns * width, -1)
    grid = grid[:-_GAP, :-_GAP]
    return np.broadcast_to(grid, (*grid.shape[:2], 3))


def _picture(grid: np.ndarray) -> tuple[Figure, Axes]:
    """A figure that is a picture, pixel for pixel."""
    from matplotlib.figure import Figure

    height, width, _ = grid.shape
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure, axes


def _make_room(figure: Figure, axes: Axes) -> None:
    """Grows a picture by what its labels need, and leaves its pixels as they are."""
    size = np.rint(figure.get_size_inches() * _DPI)
    box = axes.get_tightbbox()
    before = np.ceil(np.maximum(-box.min, 0))
    after = np.ceil(np.maximum(box.max - size, 0))
    # Where there is a label, it does not touch the edge.
    before += _MARGIN * (before > 1)
    after += _MARGIN * (after > 1)
    total = before + size + after
    figure.set_size_inches(total / _DPI)
    axes.set_position((*(before / total), *(size / total)))


# Histories.


def _curves(history: Mapping[str, Sequence[float]], metric: str) -> list[np.ndarray]:
    """Numbers per epoch in training and, if there was one, in validation."""
    if metric not in history:
        raise ValueError(
            f"history has no {metric!r}; metrics can be any of "
            f"{[k for k in history if not k.startswith('val_')]}."
        )
    curves = {
        name: np.asarray(history[name], dtype=np.float64)
        for name in (metric, f"val_{metric}")
        if name in history
    }
    length = curves[metric].size
    for name, curve in curves.items():
        if length == 0 or curve.shape != (length,):
            raise ValueError(
                f"history must hold one number per epoch for {name!r}, NaN where there "
                f"is none; got shape {list(curve.shape)} for {max(length, 1)} epoch(s)."
            )
    return [np.where(np.isfinite(curve), curve, np.nan) for curve in curves.values()]


def _readable_limits(curves: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Limits of the vertical axis, or None to leave them to matplotlib."""
    # A flow's first epoch can lie thousands of nats above all others. So the highest
    # tenth of each curve gets at most half of the height, and may leave it at the top.
    rising = [np.sort(curve[~np.isnan(curve)]) for curve in curves]
    rising = [curve for curve in rising if len(curve) > 0]
    if not rising:
        return None
    cut = [math.ceil(len(curve) / 10) if len(curve) > 2 else 0 for curve in rising]
    low = min(curve[0] for curve in rising)
    high = max(curve[-1] for curve in rising)
    rest = max(curve[-1 - n] for curve, n in zip(rising, cut, strict=True))
    if rest == low:
        return None
    high = min(high, 2 * rest - low)
    margin = 0.05 * (high - low)
    return low - margin, high + margin
