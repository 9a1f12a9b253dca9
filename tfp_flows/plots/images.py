"""Images, pixel for pixel: in a grid, or in rows with labels."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_flows.core.arguments import check_integer
from tfp_flows.plots._figure import DPI, Picture, finish, picture_of
from tfp_flows.plots._values import Bounds, check_finite, check_increasing

__all__ = ["images", "strip"]

# Pixels: least width of a picture, space between its images and around its labels.
_WIDTH, _GAP, _MARGIN = 600, 2, 6


def images(
    x: Any,
    *,
    columns: int | None = None,
    bounds: Bounds | None = None,
    scale: int | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws images in a grid, row by row.

    The figure and the PNG file have exactly the pixels of the grid: every pixel of an
    image is a square of `scale` by `scale`, with 2 white ones between images.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> picture = plots.images(np.zeros((6, 8, 8, 1)), columns=3, scale=10)
      >>> picture.axes[0].images[0].get_array().shape
      (162, 244, 3)

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
      TypeError: if `columns` or `scale` is not an integer.
      ValueError: on a wrong shape, values that are NaN or infinite, `columns` or
        `scale` below 1, or bounds that are not increasing.
    """
    x = _images("x", x, "[N, H, W, C]")
    count, height, width, channels = x.shape
    if columns is None:
        columns = min(count, math.ceil(math.sqrt(count * height / width)))
    columns = check_integer("columns", columns)
    if scale is not None:
        scale = check_integer("scale", scale)
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:count] = _to_bytes(x, bounds)
    cells = cells.reshape(rows, columns, height, width, channels)
    return finish(picture_of(_tile(cells, scale))[0], path)


def strip(
    rows: Any,
    *,
    labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    bounds: Bounds | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws rows of images with a label each: interpolations, traversals, temperatures.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> picture = plots.strip(np.zeros((2, 5, 8, 8, 1)), labels=["0.5", "1.0"])
      >>> [label.get_text() for label in picture.axes[0].get_yticklabels()]
      ['0.5', '1.0']

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
    figure, axes = picture_of(grid)

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
    return finish(figure, path)


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
    return check_finite(name, x.astype(np.float64))


def _to_bytes(x: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    """Grey levels 0 to 255 of values between bounds."""
    if bounds is None:
        low, high = x.min(), x.max()
        high = high if low < high else low + 1
    else:
        check_increasing(bounds)
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


def _make_room(figure: Figure, axes: Axes) -> None:
    """Grows a picture by what its labels need, and leaves its pixels as they are."""
    size = np.rint(figure.get_size_inches() * DPI)
    box = axes.get_tightbbox()
    assert box is not None, "the picture is visible"
    before = np.ceil(np.maximum(-np.array(box.min), 0))
    after = np.ceil(np.maximum(np.array(box.max) - size, 0))
    # Where there is a label, it does not touch the edge.
    before += _MARGIN * (before > 1)
    after += _MARGIN * (after > 1)
    total = before + size + after
    figure.set_size_inches(total / DPI)
    axes.set_position((*(before / total), *(size / total)))
