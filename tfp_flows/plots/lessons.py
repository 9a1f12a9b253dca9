"""Pictures that explain: a map and its densities, masks, permutations, matrices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tfp_flows.core.arguments import check_integer, check_shape
from tfp_flows.plots._figure import (
    BLUE,
    ORANGE,
    Picture,
    blank,
    distinct_colors,
    finish,
    graded_colors,
    side_by_side,
    trim,
)
from tfp_flows.plots._values import (
    Bounds,
    check_finite,
    check_increasing,
    check_titles,
    check_top,
    density_at,
    evaluate,
)

__all__ = ["change_of_variables", "masks", "matrices", "rearrangement"]

# Rows and columns of a matrix whose numbers can be read.
_WRITTEN = 4

# z and x get one unit unless their ranges differ by more than this factor.
_COMPARABLE = 4


def change_of_variables(
    forward: Callable,
    log_prob: Callable,
    *,
    bounds: Bounds = (0, 1),
    boxes: int = 10,
    limits: Bounds | None = None,
    top: float | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    r"""Shows how a map of numbers moves a density, in boxes that keep their area.

    The lower panel cuts the density of $z$ into boxes of equal area. The curve carries
    each box up and over to the right panel, where it stands on the axis of $x$. Where
    the curve is steep, a box gets wide and low in proportion: $p(x) = p(z) \, |dz/dx|$.
    On the page $z$ and $x$ have one unit, and so have both densities, unless the ranges
    of $z$ and $x$ differ by more than a factor of 4; all boxes have the same area there
    in any case.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> picture = plots.change_of_variables(np.exp, np.zeros_like, boxes=4)
      >>> len(picture.axes)
      3

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
      TypeError: if `forward` or `log_prob` is not callable, or `boxes` not an integer.
      ValueError: on a wrong shape, bounds or limits that are not increasing, fewer than
        one box, a `top` that is not positive; if `forward` is not strictly monotonic,
        there is no mass between the bounds, or a value is NaN or infinite.
    """
    check_increasing(bounds)
    boxes = check_integer("boxes", boxes)
    check_top(top)
    edges = np.linspace(*bounds, 1025)
    p = density_at("log_prob", log_prob, (edges[1:] + edges[:-1]) / 2)
    x = check_finite("the result of forward", evaluate("forward", forward, edges, ()))
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
    check_increasing(limits, "limits")

    # Inches: the longer side of the map, the depth of both densities, gaps, margins.
    longest, depth, gap, margin = 3.4, 1.2, 0.12, 0.6
    ranges = np.array([np.ptp(edges), high - low])
    comparable = ranges.max() <= _COMPARABLE * ranges.min()
    width, height = longest * ranges / (ranges.max() if comparable else ranges)
    total = width + depth + gap + margin + 0.2, height + depth + gap + margin + 0.35
    figure = blank(*total)

    def panel(x, y, width, height, **shared):
        place = np.array(
            [x / total[0], y / total[1], width / total[0], height / total[1]]
        )
        return figure.add_axes(tuple(place), **shared)

    main = panel(margin, margin + depth + gap, width, height)
    below = panel(margin, margin, width, depth, sharex=main)
    right = panel(
        margin + width + gap, margin + depth + gap, depth, height, sharey=main
    )
    main.plot(edges, x, color="black", lw=1.5)
    # One unit of area is as large in both panels.
    per_unit = (height / ranges[1]) / (width / ranges[0])
    if top is None:
        top = 1.15 * max(z_heights.max(), x_heights.max() / per_unit)
    main.set(xlim=bounds, ylim=limits, title="$x = f(z)$", ylabel="$x$")
    below.set(ylim=(0, top), xlabel="$z$", ylabel="$p(z)$")
    right.set(xlim=(0, top * per_unit), xlabel="$p(x)$")
    right.locator_params("x", nbins=3)
    below.locator_params("y", nbins=4)
    below.locator_params("x", nbins=max(2, round(2 * width)))
    main.locator_params("y", nbins=max(2, round(2 * height)))
    below.plot((edges[1:] + edges[:-1]) / 2, p, color="black", lw=1.2)
    right.plot(q, (x[1:] + x[:-1]) / 2, color="black", lw=1.2)
    colors = graded_colors(boxes)
    style: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6, "align": "edge"}
    below.bar(z_boxes[:-1], z_heights, np.diff(z_boxes), color=colors, **style)
    right.barh(x_boxes[:-1], x_heights, np.diff(x_boxes), color=colors, **style)
    for z_end, x_end in zip(z_boxes, x_boxes, strict=True):
        main.plot(
            [z_end, z_end, bounds[1]],
            [low, x_end, x_end],
            color="0.75",
            lw=0.6,
            zorder=0,
        )
    main.tick_params(labelbottom=False)
    right.tick_params(labelleft=False)
    for axes in (below, right):
        axes.spines[:].set_visible(False)
    return finish(figure, path)


def masks(
    masks: Any,
    *,
    titles: Sequence[str] | None = None,
    event_shape: Sequence[int] | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws masks of couplings as squares: blue is kept, orange transformed.

    Example:
      >>> import tfp_flows
      >>> from tfp_flows import plots
      >>> checkerboard = tfp_flows.masks.checkerboard(4, 4)
      >>> picture = plots.masks([checkerboard, ~checkerboard], titles=["a", "b"])
      >>> [axes.get_title() for axes in picture.axes]
      ['a', 'b']

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
    colors = [np.where(mask, BLUE, ORANGE) for mask in arrays]
    figure = _cells(colors, None, titles, "masks", below=0.3)

    keys = [Patch(color=BLUE, label="kept"), Patch(color=ORANGE, label="transformed")]
    figure.legend(handles=keys, loc="lower center", ncols=2, frameon=False)
    return finish(figure, path)


def rearrangement(
    forward: Callable,
    event_shape: Sequence[int],
    *,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Shows where a permutation or a squeeze takes each entry of an event.

    Entries are numbered in the order of the event. In an image, entries that end in the
    same channel have the same colour; in a vector, colours follow the numbers.

    Example:
      >>> from tfp_flows import bijectors, plots
      >>> picture = plots.rearrangement(bijectors.Squeeze(2).forward, (4, 4, 1))
      >>> [axes.get_title() for axes in picture.axes]
      ['before', 'after']

    Args:
      forward: maps events `[1, *event_shape]` (float32) to events with the same entries
        at other places: the `forward` of a `Squeeze` or a `Permutation`.
      event_shape: `[D]`, `[H, W]` or `[H, W, C]`. Channels stand side by side.
      path: PNG file to write.

    Returns:
      The figure, with panels before and after.

    Raises:
      TypeError: if `forward` is not callable, or `event_shape` holds no integers.
      ValueError: if `forward` does anything but rearrange; on a wrong shape.
    """
    if not callable(forward):
        raise TypeError(
            f"forward must be a function of events, got {type(forward).__name__}."
        )
    event_shape = check_shape("event_shape", event_shape)
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
    # The colour of each entry by its number; panels look it up.
    colors = np.empty(size, dtype="<U7")
    if both[1].ndim == 3:
        channels = both[1].shape[-1]
        palette = np.array(
            distinct_colors(channels) if channels <= 8 else graded_colors(channels)
        )
        colors[both[1]] = palette
    else:
        colors[:] = graded_colors(size)
    texts = both if size <= 64 else None
    figure = _cells([colors[cells] for cells in both], texts, ["before", "after"], "")
    return finish(figure, path)


def matrices(
    matrices: Any,
    *,
    titles: Sequence[str] | None = None,
    xlabel: str = "column",
    ylabel: str = "row",
    top: float | None = None,
    scale: bool = True,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws matrices as heat maps that share one scale: red is positive, blue negative.

    Matrices with at most 4 rows and columns show their numbers.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> picture = plots.matrices([np.eye(3), np.ones((3, 3))], titles=["I", "ones"])
      >>> [axes.get_title() for axes in picture.axes][:2]
      ['I', 'ones']

    Args:
      matrices: matrices `[M, N]`, or one: the weights of an invertible 1x1 convolution,
        a Jacobian.
      titles: a title for each.
      xlabel: what the columns are.
      ylabel: what the rows are.
      top: magnitude at the ends of the colour scale, which is then the same in all
        frames of an animation; the largest of all matrices by default.
      scale: whether the colour scale is shown; zeros and ones need none.
      path: PNG file to write.

    Returns:
      The figure, with a panel for each matrix.

    Raises:
      ValueError: on a wrong shape, values that are NaN or infinite, a wrong number of
        titles, or a `top` that is not positive.
    """
    check_top(top)
    if np.ndim(matrices[0]) == 1:
        matrices = [matrices]
    arrays = [check_finite("matrices", m).astype(np.float64) for m in matrices]
    for m in arrays:
        if m.ndim != 2 or not m.size:
            raise ValueError(f"matrices must be [M, N], got shape {list(m.shape)}.")
    check_titles(titles, len(arrays))
    if top is None:
        top = max(np.abs(m).max() for m in arrays) or 1.0

    figure, panels = side_by_side(len(arrays), (2.8 * len(arrays) + 0.8, 3.2))
    for i, (axes, m) in enumerate(zip(panels, arrays, strict=True)):
        heat = axes.imshow(m, cmap="RdBu_r", vmin=-top, vmax=top)
        axes.set(title="" if titles is None else titles[i])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if max(m.shape) > _WRITTEN:
            continue
        for (row, column), value in np.ndenumerate(m):
            # Adding 0 removes the sign of -0.00.
            text = f"{round(value, 2) + 0.0:.2f}"
            color = "white" if abs(value) > 0.6 * top else "black"
            axes.text(column, row, text, ha="center", va="center", color=color)
    if scale:
        figure.colorbar(heat, cax=panels[-1].inset_axes((1.06, 0, 0.06, 1)))
    trim(figure)
    return finish(figure, path)


def _check_cells(name: str, cells: np.ndarray) -> np.ndarray:
    if cells.ndim not in (1, 2, 3) or not cells.size:
        raise ValueError(
            f"{name} must be [D], [H, W] or [H, W, C], got shape {list(cells.shape)}."
        )
    return cells


def _cells(
    colors: Sequence[np.ndarray],
    texts: Sequence[np.ndarray] | None,
    titles: Sequence[str] | None,
    name: str,
    below: float = 0.0,
) -> Picture:
    """Draws a panel of coloured squares for each array; `below` is in inches."""
    if not colors:
        raise ValueError(f"{name} must hold at least one.")
    check_titles(titles, len(colors))

    places = [_places(c.shape).reshape(-1, 2) for c in colors]
    sizes = np.array([where.max(0) + 1 for where in places])
    # Inches: squares are of one size in all panels, titles have room above.
    side = min(0.3, 8 / sizes[:, 0].sum(), 3.5 / sizes[:, 1].max())
    room = [0.085 * len(str(title)) for title in titles or [""] * len(places)]
    widths = np.maximum(side * sizes[:, 0], room)
    middles = np.cumsum(widths + 0.3) - widths / 2 - 0.15
    height = side * sizes[:, 1].max()
    total = np.array([middles[-1] + widths[-1] / 2 + 0.15, height + 0.5 + below])
    # The legend below needs a minimal width.
    more = max((2.8 if below else 0) - total[0], 0)
    total[0] += more
    figure = blank(*total)
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
