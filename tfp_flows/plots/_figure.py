"""Figures that show themselves, the files they become, and their colours."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["Picture"]

# A power of two, so that whole pixels divided by it are exact inches.
DPI = 128
# Blue and vermilion of Okabe & Ito 2008, told apart with any colour vision.
BLUE, RED, ORANGE = "#0072B2", "#D55E00", "#E69F00"
_COLORS = (
    BLUE,
    RED,
    "#009E73",
    ORANGE,
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#999999",
)


class Picture(Figure):
    """A matplotlib figure that shows itself at the end of a notebook cell.

    It needs neither pyplot nor a backend. Every function of `tfp_flows.plots` that
    draws returns one. Arguments are those of `matplotlib.figure.Figure`.

    Example:
      >>> from tfp_flows import plots
      >>> picture = plots.curves([1, 2, 3], {"error": [0.3, 0.1, 0.05]}, xlabel="depth")
      >>> picture.axes[0].get_xlabel()
      'depth'

    Attributes:
      alt: a text that says what there is to see; `None` until `describe` sets it.
    """

    alt: str | None = None

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        data = base64.b64encode(to_png(self)).decode("ascii")
        bundle = {"image/png": data, "text/plain": self.alt or repr(self)}
        return bundle, {"image/png": {"alt": self.alt}} if self.alt else {}


def side_by_side(count: int, size: tuple[float, float]) -> tuple[Picture, list[Axes]]:
    """A figure of a size in inches, and its panels."""
    # The constrained layout, which with "compressed" keeps squares close together.
    figure = Picture(figsize=size, dpi=DPI)
    figure.set_layout_engine("compressed", w_pad=0.08)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def blank(width: float, height: float) -> Picture:
    """A figure of a size in inches without a layout engine: callers place all parts."""
    figure = Picture(figsize=(width, height), dpi=DPI)
    # A user's style may set a layout engine.
    figure.set_layout_engine("none")
    return figure


def picture_of(pixels: np.ndarray) -> tuple[Picture, Axes]:
    """A figure that shows pixels `[H, W, 3]` one by one and nothing else."""
    height, width, _ = pixels.shape
    figure = blank(width / DPI, height / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure, axes


def trim(figure: Figure) -> None:
    """Removes the margins that panels of a fixed aspect leave."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    figure.set_size_inches(box.width + 0.16, box.height + 0.16)


def finish(figure: Picture, path: str | os.PathLike | None) -> Picture:
    """Writes a figure to a PNG file, if there is a path."""
    if path is not None:
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"path must end in .png, got {os.fspath(path)!r}.")
        Path(path).write_bytes(to_png(figure))
    return figure


def to_png(figure: Figure) -> bytes:
    """The bytes of a figure's PNG file."""
    file = io.BytesIO()
    # A user's style must not crop the figure, which would change its size.
    with matplotlib.rc_context({"savefig.bbox": "standard"}):
        figure.savefig(file, format="png", dpi="figure")
    return file.getvalue()


def to_pixels(figure: Figure) -> np.ndarray:
    """The picture `[H, W, 3]`, bytes, of a figure."""
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


def distinct_colors(count: int) -> list[str]:
    """Colours that people with any colour vision can tell apart, up to eight."""
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def graded_colors(count: int) -> list[str]:
    """Colours whose order is visible: a scale from dark to bright."""
    return [to_hex(c) for c in colormaps["viridis"](np.linspace(0.05, 0.95, count))]
