"""Pictures of flows: densities, warped grids, images and training curves.

Every function returns a `matplotlib.figure.Figure`, which shows itself at the end of a
notebook cell, and with `path`, which ends in `.png`, writes it to a file. Nothing here
needs or changes pyplot, a display or a backend.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["density", "history", "images", "strip", "warped_grid"]

_Bounds = tuple[tuple[float, float], tuple[float, float]]

# A power of two, so that whole pixels divided by it are exact inches.
_DPI = 128
_PALETTE = "magma"
# Blue and vermilion of Okabe & Ito 2008, told apart with any colour vision.
_BLUE, _RED = "#0072B2", "#D55E00"
_UNITS = {"loss": "nats", "nll": "nats", "bits_per_dim": "bits per dimension"}
_CHUNK = 10_000
# Pixels: least width of a picture, space between its images and around its labels.
_WIDTH, _GAP, _MARGIN = 600, 2, 6


def density(
    log_prob: Callable,
    *,
    bounds: _Bounds = ((-4, 4), (-4, 4)),
    resolution: int = 200,
    points: Any = None,
    truth: Callable | None = None,
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
      title: title of the figure.
      path: PNG file to write.

    Returns:
      The figure, with one to three panels: model, truth, data.

    Raises:
      TypeError: if `log_prob` or `truth` is not callable.
      ValueError: on a wrong shape, bounds that are not increasing, points that are NaN
        or infinite, or a density that is.
    """
    _check_planar_bounds(bounds)
    if resolution < 1:
        raise ValueError(f"resolution must be 1 or more, got {resolution}.")
    if points is not None:
        points = _finite("points", points)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be [N, 2], got shape {list(points.shape)}.")
    densities = {"model": _density_on_grid("log_prob", log_prob, bounds, resolution)}
    if truth is not None:
        densities["truth"] = _density_on_grid("truth", truth, bounds, resolution)

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
    path: str | os.PathLike | None = None,
) -> Figure:
    """A square grid before and after a map of the plane.

    Args:
      forward: maps points `[N, 2]` (float32) to points `[N, 2]`: a bijector's
        `forward` or `inverse`, a flow's `encode` or `decode`.
      bounds: `(low, high)` of the first and of the second coordinate of the grid.
      lines: number of lines in each direction.
      path: PNG file to write.

    Returns:
      The figure: lines along the first coordinate are blue, along the second red.

    Raises:
      TypeError: if `forward` is not callable.
      ValueError: on a wrong shape, bounds that are not increasing, fewer than 2 lines,
        or a result that is NaN or infinite.
    """
    _check_planar_bounds(bounds)
    if lines < 2:
        raise ValueError(f"lines must be 2 or more, got {lines}.")
    (low1, high1), (low2, high2) = bounds
    fine = np.linspace(0, 1, 401, dtype=np.float32)
    steps = np.linspace(0, 1, lines, dtype=np.float32)
    along_first = np.stack(np.meshgrid(fine, steps), -1)
    unit = np.stack([along_first, along_first[..., ::-1]])
    before = unit * (high1 - low1, high2 - low2) + (low1, low2)
    after = _evaluate("forward", forward, before.reshape(-1, 2), (2,))
    _finite("the result of forward", after)

    from matplotlib.collections import LineCollection

    figure, panels = _panels(2, (7.4, 3.7))
    grids = {"before": before, "after": after.reshape(before.shape)}
    for axes, (name, grid) in zip(panels, grids.items(), strict=True):
        for curves, color in zip(grid, (_BLUE, _RED), strict=True):
            axes.add_collection(LineCollection(curves, colors=color, linewidths=0.8))
        axes.autoscale_view()
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(box_aspect=1, xlabel="$x_1$", ylabel="$x_2$", title=name)
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
    # A Figure that pyplot does not know has no picture in a notebook otherwise.
    figure._repr_png_ = functools.partial(_png, figure)
    if path is not None:
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"path must end in .png, got {os.fspath(path)!r}.")
        Path(path).write_bytes(_png(figure))
    return figure


def _png(figure: Figure) -> bytes:
    import matplotlib

    file = io.BytesIO()
    # A user's style must not crop the figure, which would change its size.
    with matplotlib.rc_context({"savefig.bbox": "standard"}):
        figure.savefig(file, format="png", dpi="figure")
    return file.getvalue()


# Densities and grids.


def _check_planar_bounds(bounds: _Bounds) -> None:
    if np.shape(bounds) != (2, 2):
        raise ValueError(f"bounds must be ((low, high), (low, high)), got {bounds}.")
    for pair in bounds:
        _check_increasing(pair)


def _check_increasing(bounds: tuple[float, float]) -> None:
    if not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}.")


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
    """Values `[N, *event]` of a function at points `[N, 2]`, a chunk at a time."""
    if not callable(function):
        raise TypeError(
            f"{name} must be a function of points [N, 2], got "
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
        if np.shape(bounds) != (2,):
            raise ValueError(f"bounds must be (low, high), got {bounds}.")
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
