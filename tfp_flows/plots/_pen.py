"""What diagrams are drawn with, in inches from the upper left corner."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.textpath import TextPath

from tfp_flows.plots._figure import blank

__all__ = [
    "BROWN",
    "FAINT",
    "GREEN",
    "GREY",
    "INK",
    "LABEL",
    "PAD",
    "TEXT",
    "TITLE",
    "Pen",
    "icon_size",
    "text_width",
]

GREEN, INK, GREY = "#00785A", "#222222", "#8a8a8a"
BROWN, FAINT = "#9A6400", "#555555"  # texts beside what is orange; shapes

# Sizes of texts, in points.
TITLE, TEXT, LABEL = 8.5, 7.5, 7.0

# Inches: room inside boxes and frames, side of an icon's square.
PAD, _CELL = 0.12, 0.075


class Pen:
    """A figure of a size in inches, and what draws in it."""

    def __init__(self, width: float, height: float):
        self.figure = blank(width, height)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        face: str = "white",
        edge: str = INK,
        line: Any = "-",
        round_by: float = 0.05,
        kind: str = "box",
    ) -> None:
        """A box by its upper left corner; `kind` stays as its label."""
        style = f"round,pad=0,rounding_size={round_by}"
        patch = FancyBboxPatch((x, y), width, height, boxstyle=style)
        patch.set(facecolor=face, edgecolor=edge, linestyle=line, linewidth=0.9)
        patch.set(label=kind, zorder=1)
        self.axes.add_patch(patch)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = TEXT,
        *,
        bold: bool = False,
        color: str = INK,
        align: str = "center",
    ) -> None:
        """A text, at half its height."""
        self.axes.text(
            x,
            y,
            text,
            size=size,
            weight=_weight(bold),
            color=color,
            ha=align,
            va="center_baseline",
            zorder=4,
        )

    def label(self, x: float, y: float, text: str) -> None:
        """A small text to the right of a line."""
        self.text(x + 0.08, y, text, LABEL, color=FAINT, align="left")

    def line(
        self, *points: tuple[float, float], color: str = INK, head: bool = True
    ) -> None:
        """A line through points, with an arrow's head at its end."""
        self.axes.plot(*np.transpose(points), color=color, lw=1.1, zorder=3)
        if head:
            arrow = FancyArrowPatch(
                *points[-2:],
                arrowstyle="-|>,head_length=3.4,head_width=1.7",
                shrinkA=0,
                shrinkB=0,
                mutation_scale=1,
            )
            arrow.set(color=color, linewidth=1.1, joinstyle="miter", zorder=3)
            self.axes.add_patch(arrow)

    def icon(self, x: float, y: float, cells: np.ndarray) -> None:
        """Coloured squares by their upper left corner; pale where there is no colour.

        Args:
          x: of the corner.
          y: of the corner.
          cells: colours `[rows, columns]`, an empty text for none.
        """
        for (row, column), color in np.ndenumerate(cells):
            place = x + column * _CELL, y + row * _CELL
            square = Rectangle(place, _CELL, _CELL, label="cell", zorder=2)
            square.set(facecolor=color or "#ececec", edgecolor="white", linewidth=0.7)
            self.axes.add_patch(square)


def icon_size(cells: np.ndarray | None) -> tuple[float, float]:
    """Inches that an icon takes, width and height."""
    if cells is None:
        return 0.0, 0.0
    height, width = cells.shape
    return width * _CELL, height * _CELL


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Inches that a text takes."""
    if not text:
        return 0.0
    font = FontProperties(weight=_weight(bold))
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72 + 0.02


def _weight(bold: bool) -> str:
    return "bold" if bold else "normal"
