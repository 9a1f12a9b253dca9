"""Block diagrams of flows: layers as data meet them, shapes, who sees whom."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.textpath import TextPath
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import (
    Chain,
    Coupling,
    InverseAutoregressive,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    Repeat,
)
from tfp_flows.core.arguments import check_shape
from tfp_flows.core.tfp_internals import CHAINS, INVERTS
from tfp_flows.distributions import VariationalDequantization
from tfp_flows.plots._figure import BLUE, ORANGE, Picture, blank, finish
from tfp_flows.plots._values import data_shape

__all__ = ["diagram"]

# Inches: length of an arrow, room inside boxes and frames, side of a mask's square.
_ARROW, _PAD, _CELL = 0.32, 0.12, 0.075
_GREEN, _INK, _GREY = "#00785A", "#222222", "#8a8a8a"
_BROWN, _FAINT = "#9A6400", "#555555"  # texts beside what is orange; shapes
_TIMES = "\N{MULTIPLICATION SIGN}"
# Points.
_TITLE, _TEXT, _LABEL = 8.5, 7.5, 7.0

# The longest name in a box, the squares of a mask, and the height, in inches, beyond
# which layers go on in another column.
_LONGEST, _SQUARES, _TALLEST = 30, 12, 8.0

Shape = tuple[int, ...] | None


def diagram(
    flow: Any,
    *,
    event_shape: Sequence[int] | None = None,
    title: str | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws a flow as blocks, from data to noise, with the shapes between them.

    Each bijector is a box with the name of its class; what is inside a `tfb.Invert` is
    drawn like any other.

    * A **coupling** shows its mask, blue for what it keeps and orange for what it
      changes (the corner of a large image; few of many channels), and the conditioner,
      which sees the part that is kept and the context, if there is one.
    * An **autoregression** shows which entries (columns, blue) each entry (row, orange)
      sees; a small permutation, which entry goes where.
    * A `Repeat` is drawn once, in a dashed frame that says how often.
    * A `MultiScale` has a column for each level. What leaves goes down to the noise,
      what stays goes on to the next level; a learned prior sees what stays.

    Long chains go on in further columns.

    Example:
      >>> from tfp_flows import flows, plots
      >>> flow = flows.real_nvp((4,), layers=6, width=8, seed=0)
      >>> picture = plots.diagram(flow)
      >>> [t.get_text() for t in picture.axes[0].texts][:3]
      ['data', '4', 'Standardize']

    Args:
      flow: a `Flow`, another distribution with `bijector` and `distribution`, or a
        bijector.
      event_shape: shape of the data, for a bijector that does not say.
      title: title of the figure.
      path: PNG file to write.

    Returns:
      The figure, with one panel.

    Raises:
      TypeError: if `flow` is neither a distribution with a bijector nor a bijector.
    """
    blocks: list[_Block] = [_Box("data", pill=True)]
    base = None
    if isinstance(flow, VariationalDequantization):
        noise = "uniform" if flow.noise_flow is None else "a flow, given the integers"
        blocks += [_Box("add noise", [noise])]
        flow = flow.flow
    bijector = flow
    if not isinstance(flow, tfb.Bijector):
        bijector, base = (getattr(flow, k, None) for k in ("bijector", "distribution"))
        if not isinstance(bijector, tfb.Bijector):
            raise TypeError(
                "flow must be a bijector, or a distribution with one, such as a Flow; "
                f"got {type(flow).__name__}."
            )
        if event_shape is None:
            event_shape = flow.event_shape
    shape = (
        data_shape(bijector)
        if event_shape is None
        else check_shape("event_shape", event_shape)
    )
    shapes: list[Shape] = [shape] * len(blocks)
    _Walk(blocks, shapes).add(bijector)
    what = [] if base is None else [base.name]
    if getattr(base, "context_shape", None) is not None:
        what += ["given the context"]
    blocks.append(_Box("noise", what, pill=True))

    whole = _wrapped(blocks, shapes)
    above = 0.3 if title else 0.0
    width = whole.width
    if title:
        width = max(width, _width(title, _TITLE + 1, bold=True))
    pen = _Pen(width + 2 * _PAD, whole.height + above + 2 * _PAD)
    if title:
        pen.text(_PAD + width / 2, _PAD + 0.1, title, _TITLE + 1, bold=True)
    whole.draw(pen, _PAD + (width - whole.width) / 2, _PAD + above)
    return finish(pen.figure, path)


class _Walk:
    """Collects blocks, and the shape in front of each, as data meet the bijectors."""

    def __init__(self, blocks: list[_Block], shapes: list[Shape]):
        self.blocks, self.shapes = blocks, shapes

    def add(self, bijector: tfb.Bijector, inverted: bool = False) -> None:
        """Appends a bijector: one block, or those of the members of a chain."""
        if type(bijector) in INVERTS:
            self.add(bijector.bijector, not inverted)
            return
        if isinstance(bijector, Chain) or type(bijector) in CHAINS:
            members, count = list(bijector.bijectors), 1
            if isinstance(bijector, Repeat):
                count = bijector.count
                members = members[: len(members) // count]
            inner = self if count == 1 else _Walk([], [self.shapes[-1]])
            for member in members[::-1] if inverted else members:
                inner.add(member, inverted)
            if count > 1:
                stack = _Stack(inner.blocks, inner.shapes[1:-1])
                self.append(_Repeated(stack, count), inner.shapes[-1])
            return
        shape = _shape_after(bijector, self.shapes[-1], inverted)
        self.append(_block(bijector, self.shapes[-1], inverted), shape)

    def append(self, block: _Block, shape_behind: Shape) -> None:
        """Appends a block."""
        self.blocks.append(block)
        self.shapes.append(shape_behind)


def _block(bijector: tfb.Bijector, shape: Shape, inverted: bool) -> _Block:
    """What stands for one bijector that is no composition."""
    name = type(bijector).__name__.lstrip("_")
    given = getattr(bijector, "context_shape", None) is not None
    arguments = bijector.parameters or {}
    network = _name_of(arguments.get("conditioner", arguments.get("network")))
    transformer = _name_of_transformer(getattr(bijector, "transformer", None))
    if isinstance(bijector, Coupling):
        icon = _mask_icon(bijector.mask)
        return _Lanes(name, icon, ("kept", "changed"), network, transformer, given)
    if isinstance(bijector, MultiScale) and not inverted:
        return _Levels(bijector, shape)
    lines = [" ".join(filter(None, (transformer, network and f"by {network}")))]
    squares: np.ndarray | None = None
    if isinstance(bijector, MaskedAutoregressive):
        seen = isinstance(bijector, InverseAutoregressive) == inverted
        lines.append(f"each sees {'data' if seen else 'noise'} before it")
        squares = _order_icon(bijector.conditioner, shape)
    elif isinstance(bijector, Permutation):
        squares = _permutation_icon(bijector.permutation, inverted)
    elif not type(bijector).__module__.startswith("tfp_flows."):
        words = "".join("_" * c.isupper() + c.lower() for c in name).lstrip("_")
        own = bijector.name.rstrip("_0123456789")
        lines.append("" if own.replace("_", "") == words.replace("_", "") else own)
    return _Box(name, [*filter(None, lines), *["given the context"] * given], squares)


def _shape_after(bijector: tfb.Bijector, shape: Shape, inverted: bool) -> Shape:
    """The event shape behind a bijector on the way from data to noise, if known."""
    if shape is None:
        return None
    after = bijector.forward_event_shape if inverted else bijector.inverse_event_shape
    try:
        found = after(tf.TensorShape(shape))
    except Exception:  # whatever a user's bijector raises: it does not say
        return None
    return tuple(found) if found.is_fully_defined() else None


# Names.


def _name_of(function: Callable | None) -> str:
    """What to call a network: its class, or the name of a function."""
    if function is None:
        return ""
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else name


def _name_of_transformer(transformer: Any) -> str:
    while hasattr(transformer, "transformer"):  # an inverted one
        transformer = transformer.transformer
    return "" if transformer is None else type(transformer).__name__


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _text_of(shape: Shape) -> str:
    return "" if shape is None else f" {_TIMES} ".join(map(str, shape)) or "a number"


# Icons: arrays of colours `[rows, columns]`; an empty text is a square left white.


def _mask_icon(mask: np.ndarray) -> np.ndarray:
    """Squares of a mask: of an image the corner, or a row of its channels."""
    if mask.ndim == 3:
        places = mask[..., 0]
        mask = places if (mask == mask[..., :1]).all() else mask[0, 0]
    if mask.ndim == 1:
        half = _SQUARES // 2
        if len(mask) > _SQUARES:  # both ends
            mask = np.concatenate([mask[:half], mask[-half:]])
        mask = mask[None]
    mask = mask.reshape(mask.shape[0], -1)[:4, :_SQUARES]
    if mask.shape[0] > 1:
        mask = mask[:, :4]
    return np.where(mask, BLUE, ORANGE)


def _order_icon(conditioner: Any, shape: Shape) -> np.ndarray:
    """Which entries (columns) each entry (row) sees, of the first few."""
    size = min(shape[-1] if shape else 5, 5)
    order = getattr(conditioner, "order", np.arange(size))
    rank = np.argsort(np.argsort(np.argsort(order)[:size]))
    cells = np.where(rank[:, None] > rank, BLUE, "").astype("<U7")
    np.fill_diagonal(cells, ORANGE)
    return cells


def _permutation_icon(permutation: np.ndarray, inverted: bool) -> np.ndarray | None:
    """Where (row) each entry (column) of the data goes, of a few."""
    if len(permutation) > 8:
        return None
    # `forward` gathers: entry i of data is entry `permutation[i]` of noise.
    goes = np.argsort(permutation) if inverted else permutation
    return np.where(np.arange(len(goes))[:, None] == goes, _GREY, "")


# Drawing, in inches from the upper left corner.


def _width(text: str, size: float, bold: bool = False) -> float:
    """Inches that a text takes."""
    font = FontProperties(weight="bold" if bold else "normal")
    if not text:
        return 0.0
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72 + 0.02


class _Pen:
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
        edge: str = _INK,
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
        size: float = _TEXT,
        *,
        bold: bool = False,
        color: str = _INK,
        align: str = "center",
    ) -> None:
        """A text, at half its height."""
        weight = "bold" if bold else "normal"
        style: dict[str, Any] = {
            "size": size,
            "weight": weight,
            "color": color,
            "zorder": 4,
        }
        self.axes.text(x, y, text, ha=align, va="center_baseline", **style)

    def line(
        self, *points: tuple[float, float], color: str = _INK, head: bool = True
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
        """Coloured squares by their upper left corner."""
        for (row, column), color in np.ndenumerate(cells):
            place = x + column * _CELL, y + row * _CELL
            square = Rectangle(place, _CELL, _CELL, label="cell", zorder=2)
            square.set(facecolor=color or "white", edgecolor="white", linewidth=0.7)
            if not color:
                square.set(facecolor="#ececec")
            self.axes.add_patch(square)


class _Block:
    """Something to draw.

    Attributes:
      width: in inches, as all that follows.
      height: the same.
      enter: distance from the left to where data come in, at the top.
      leave: distance from the left to where they go out, at the bottom.
      inlet: distance from the top to where the arrow that comes in ends.
      outlet: distance from the bottom to where the arrow that goes out begins.
    """

    width: float
    height: float
    enter: float
    leave: float
    inlet = outlet = 0.0

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        """Draws it, given its upper left corner."""
        raise NotImplementedError


def _size_of(icon: np.ndarray | None) -> tuple[float, float]:
    if icon is None:
        return 0.0, 0.0
    height, width = icon.shape
    return width * _CELL, height * _CELL


class _Box(_Block):
    """A title, lines below it and an icon beside them."""

    def __init__(
        self,
        title: str,
        lines: Sequence[str] = (),
        icon: np.ndarray | None = None,
        pill: bool = False,
    ):
        self._title, *self._lines = map(_short, (title, *lines))
        self._icon, self._pill = icon, pill
        wide, high = _size_of(icon)
        text = max(
            _width(self._title, _TITLE, bold=True),
            *(_width(line, _TEXT) for line in self._lines),
            0.5,
        )
        self.width = text + 2 * _PAD + (wide + _PAD if wide else 0)
        self.height = max(0.3 + 0.15 * len(self._lines), high + 0.14)
        self.enter = self.leave = self.width / 2

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        style: dict[str, Any] = (
            {"face": "#e8e8e8", "round_by": 0.13, "edge": _GREY}
            if self._pill
            else {"face": "#f6f6f6"}
        )
        pen.box(x, y, self.width, self.height, **style)
        wide, high = _size_of(self._icon)
        middle = (self.width - (wide + _PAD if wide else 0)) / 2
        at = y + self.height / 2 - 0.075 * len(self._lines)
        pen.text(x + middle, at, self._title, _TITLE, bold=True)
        for i, line in enumerate(self._lines):
            color = _GREEN if line == "given the context" else _INK
            pen.text(x + middle, at + 0.16 + 0.15 * i, line, color=color)
        if self._icon is not None:
            left, top = self.width - _PAD - wide, (self.height - high) / 2
            pen.icon(x + left, y + top, self._icon)


class _Lanes(_Block):
    """Two parts of an event: a network sees the first, and changes the second.

    Args:
      title: the title.
      icon: what stands beside it.
      parts: what to call the first part, which is seen, and the second.
      network: name of the network; without one, the parts only go apart.
      transformer: name of what the second part goes through.
      given: whether the network sees the context, too.
      mirrored: whether the first part is on the right.
    """

    def __init__(
        self,
        title: str,
        icon: np.ndarray | None,
        parts: tuple[str, str],
        network: str,
        transformer: str,
        given: bool,
        mirrored: bool = False,
    ):
        title, network, transformer = map(_short, (title, network, transformer))
        self._title, self._icon, self._parts = title, icon, parts
        self._network, self._transformer = network, transformer
        self._given, self._mirrored = given, mirrored
        wide, high = _size_of(icon)
        self._header = max(0.3, high + 0.12)
        self._boxes = [_width(t, _TEXT) + 0.14 for t in (network, transformer)]
        first = 0.1 + _width(parts[0], _LABEL) / 2
        between = 0.24 if network else 0.6
        network_box = self._boxes[0] if network else 0.0
        last = max(self._boxes[1], _width(parts[1], _LABEL)) / 2
        header = _width(title, _TITLE, bold=True) + wide + 3 * _PAD
        lanes = first + 2 * between + network_box + 2 * last + 0.1
        self.width = max(header, lanes)
        spare = (self.width - lanes) / 2
        self._lanes = first + spare, self.width - 0.1 - last - spare
        self._middle = (self._lanes[0] + self._lanes[1] - self._boxes[1] / 2) / 2
        self.height = self._header + (0.72 if network else 0.34)
        self.height += 0.24 if network and given else 0
        self.enter = self.leave = self.width / 2

    @property
    def lanes(self) -> tuple[float, float]:
        """Distance from the left to the first part and to the second."""
        a, b = self._lanes
        return (self.width - a, self.width - b) if self._mirrored else (a, b)

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        pen.box(x, y, self.width, self.height)
        wide, high = _size_of(self._icon)
        middle = y + self._header / 2
        pen.text(x + _PAD, middle, self._title, _TITLE, bold=True, align="left")
        if self._icon is not None:
            left = x + self.width - _PAD - wide
            pen.icon(left, middle - high / 2, self._icon)
        top, bottom = y + self._header, y + self.height
        pen.line((x, top), (x + self.width, top), color="#cccccc", head=False)
        first, second = (x + lane for lane in self.lanes)
        pen.text(first, top + 0.12, self._parts[0], _LABEL, color=BLUE)
        pen.text(second, top + 0.12, self._parts[1], _LABEL, color=_BROWN)
        start = top + 0.2
        pen.line((first, start), (first, bottom), color=BLUE, head=False)
        if not self._network:
            pen.line((second, start), (second, bottom), color=ORANGE, head=False)
            return
        sign = -1 if self._mirrored else 1
        network, transformer = (size / 2 for size in self._boxes)
        centre = x + (self.width - self._middle if self._mirrored else self._middle)
        row, half = top + 0.42, 0.12
        pen.line((second, start), (second, row - half), color=ORANGE)
        pen.line((second, row + half), (second, bottom), color=ORANGE, head=False)
        pen.line((first, row), (centre - sign * network, row), color=BLUE)
        pen.line((centre + sign * network, row), (second - sign * transformer, row))
        for at, size, text, face, edge in (
            (centre, network, self._network, "#e2f2ec", _GREEN),
            (second, transformer, self._transformer, "#fdf0d9", ORANGE),
        ):
            pen.box(at - size, row - half, 2 * size, 2 * half, face=face, edge=edge)
            pen.text(at, row, text)
        if self._given:
            pen.text(centre, row + 0.38, "context", _LABEL, color=_GREEN)
            pen.line((centre, row + 0.3), (centre, row + half), color=_GREEN)


class _Stack(_Block):
    """Blocks one below the other, with arrows between them."""

    def __init__(self, blocks: Sequence[_Block], shapes: Sequence[Shape]):
        self._blocks = list(blocks)
        self._labels = [_text_of(shape) for shape in shapes]
        lefts, at = [], 0.0
        for block in self._blocks:
            lefts.append(at - block.enter)
            at = lefts[-1] + block.leave
        left = min(lefts)
        self._lefts = [x - left for x in lefts]
        rights = [
            x + block.width for x, block in zip(self._lefts, self._blocks, strict=True)
        ]
        rights += [
            x + block.leave + 0.08 + _width(label, _LABEL)
            for x, block, label in zip(
                self._lefts, self._blocks, self._labels, strict=False
            )
        ]
        self.width = max(rights)
        self.height = sum(b.height for b in self._blocks)
        self.height += _ARROW * (len(self._blocks) - 1)
        self.enter = self._lefts[0] + self._blocks[0].enter
        self.leave = self._lefts[-1] + self._blocks[-1].leave
        self.inlet, self.outlet = self._blocks[0].inlet, self._blocks[-1].outlet

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        for i, (left, block) in enumerate(zip(self._lefts, self._blocks, strict=True)):
            block.draw(pen, x + left, y)
            y += block.height
            if i < len(self._blocks) - 1:
                at = x + left + block.leave
                end = y + _ARROW + self._blocks[i + 1].inlet
                pen.line((at, y - block.outlet), (at, end))
                label = self._labels[i]
                pen.text(at + 0.08, y + 0.13, label, _LABEL, color=_FAINT, align="left")
                y += _ARROW


class _Repeated(_Block):
    """A dashed frame around what repeats."""

    def __init__(self, inner: _Stack, count: int):
        self._inner, self._count = inner, f"{_TIMES} {count}"
        self._count_width = _width(self._count, _TITLE + 1, bold=True)
        self._above, self._below = 0.3 + inner.inlet, 0.16
        right = max(inner.width, inner.enter + 0.2 + self._count_width)
        left = inner.enter
        self.width = right + 2 * _PAD
        self.height = inner.height + self._above + self._below
        self.enter, self.leave = _PAD + left, _PAD + inner.leave
        self.inlet = self._above

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        style: dict[str, Any] = {
            "face": "none",
            "edge": _GREY,
            "line": (0, (4, 2.5)),
            "kind": "frame",
        }
        pen.box(x, y, self.width, self.height, **style)
        right = x + self.width - 0.1
        count = self._count
        pen.text(right, y + 0.15, count, _TITLE + 1, bold=True, align="right")
        self._inner.draw(pen, x + _PAD, y + self._above)
        at, bottom = x + self.leave, y + self.height
        start = bottom - self._below - self._inner.outlet
        pen.line((at, start), (at, bottom), head=False)


class _Columns(_Block):
    """Stacks side by side; a line leads from the foot of each to the head of the next.

    Args:
      columns: the stacks.
      shapes: the shape of what goes on, for each but the last.
      starts: distance from the left of a column to where its line begins.
      depths: distance from the bottom of a column to there.
    """

    _gap, _head, _foot = 0.4, 0.36, 0.12
    _color = _INK

    def __init__(
        self,
        columns: Sequence[_Block],
        shapes: Sequence[Shape],
        starts: Sequence[float],
        depths: Sequence[float],
    ):
        self._columns, self._starts, self._depths = columns, starts, depths
        self._labels = [_text_of(shape) for shape in shapes]
        self.lefts, at = [], 0.0
        for column in columns:
            self.lefts.append(at)
            at += column.width + self._gap
        self.width = at - self._gap
        tallest = max(column.height for column in columns)
        self.height = self._head + tallest + self._foot
        self.enter = columns[0].enter
        self.leave = self.lefts[-1] + columns[-1].leave
        self.inlet = self._head + columns[0].inlet
        last = columns[-1]
        self.outlet = self._foot + tallest - last.height + last.outlet

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        top = y + self._head
        for left, column in zip(self.lefts, self._columns, strict=True):
            column.draw(pen, x + left, top)
        for i, label in enumerate(self._labels):
            column, following = self._columns[i : i + 2]
            begin = x + self.lefts[i] + self._starts[i]
            foot = top + column.height - self._depths[i]
            side = x + self.lefts[i + 1] - self._gap / 2
            to = x + self.lefts[i + 1] + following.enter
            pen.line(
                (begin, foot),
                (begin, foot + self._foot),
                (side, foot + self._foot),
                (side, y + 0.04),
                (to, y + 0.04),
                (to, top + following.inlet),
                color=self._color,
            )
            pen.text(to + 0.08, y + 0.2, label, _LABEL, color=_FAINT, align="left")


class _Level(_Block):
    """A frame around one level and the split behind it."""

    def __init__(self, title: str, inner: _Block, split: _Lanes | None, label: str):
        self._title, self._inner, self._split, self._label = title, inner, split, label
        self._above, self._below = 0.32, 0.2
        inlet = inner.inlet
        self._above += inlet
        at = max(inner.enter, split.enter if split else 0.0)
        at = max(at, _width(title, _TITLE, bold=True) + 0.1)
        self._left = _PAD + at - inner.enter
        self._split_left = _PAD + at + inner.leave - inner.enter
        self._split_left -= split.enter if split else 0.0
        rights = [self._left + inner.width]
        if split:
            rights.append(self._split_left + split.width)
        shift = max(0.0, _PAD - self._split_left)
        self._left, self._split_left = self._left + shift, self._split_left + shift
        self.width = max(rights) + shift + _PAD
        self.height = self._above + inner.height + self._below
        if split:
            self.height += _ARROW + split.height
        self.enter = self._left + inner.enter
        self.inlet = self._above
        stays, leaves = split.lanes if split else (0.0, 0.0)
        self.stays = self._split_left + stays
        self.leave = self._split_left + leaves if split else self._left + inner.leave

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        style: dict[str, Any] = {"face": "#fafafa", "edge": "#b8b8b8", "kind": "frame"}
        pen.box(x, y, self.width, self.height, **style)
        left = x + 0.1
        pen.text(left, y + 0.15, self._title, _TITLE, bold=True, align="left")
        top = y + self._above
        self._inner.draw(pen, x + self._left, top)
        if self._split is None:
            return
        end = top + self._inner.height
        at = x + self._left + self._inner.leave
        pen.line((at, end - self._inner.outlet), (at, end + _ARROW))
        label = self._label
        pen.text(at + 0.08, end + 0.13, label, _LABEL, color=_FAINT, align="left")
        self._split.draw(pen, x + self._split_left, end + _ARROW)


class _Levels(_Columns):
    """The levels of a `MultiScale`, and the noise that leaves after each."""

    _color = BLUE
    _bar = 0.42

    def __init__(self, bijector: MultiScale, shape: Shape):
        columns, shapes = [], []
        given = bijector.context_shape is not None
        priors = [*bijector.priors, None]
        parts = bijector.part_shapes
        for i, (level, prior, part) in enumerate(
            zip(bijector.levels, priors, parts, strict=True)
        ):
            walk = _Walk([], [shape])
            walk.add(level)
            inner = _Stack(walk.blocks, walk.shapes[1:-1])
            behind = walk.shapes[-1]
            split = None
            if i < len(parts) - 1:
                network = _name_of(prior)
                split = _Lanes(
                    "split",
                    None,
                    ("stays", "leaves"),
                    network,
                    "mean, scale" if network else "",
                    given,
                    mirrored=True,
                )
                shape = None if behind is None else (*behind[:2], behind[2] - part[2])
                shapes.append(shape)
            columns.append(_Level(f"level {i}", inner, split, _text_of(behind)))
        starts = [level.stays for level in columns[:-1]]
        super().__init__(columns, shapes, starts, [0.2] * len(starts))
        self._parts = parts
        self.height += 0.3 + self._bar
        self.leave, self.outlet = self.width / 2, 0.0

    def draw(self, pen: _Pen, x: float, y: float) -> None:
        super().draw(pen, x, y)
        bar, top = y + self.height - self._bar, y + self._head
        for i, (left, level, part) in enumerate(
            zip(self.lefts, self._columns, self._parts, strict=True)
        ):
            is_last = i == len(self._parts) - 1
            color = _INK if is_last else ORANGE
            start = top + level.height - 0.2
            at = x + left + level.leave
            pen.line((at, start), (at, bar), color=color)
            first = x + left - (self._gap / 2 if i else 0)
            end = x + left + level.width + (0 if is_last else self._gap / 2)
            pen.box(first, bar, end - first, self._bar, face="#e8e8e8", round_by=0.001)
            middle = (first + end) / 2
            pen.text(middle, bar + 0.13, f"$z_{{{i}}}$: {_text_of(part)}")
            size = math.prod(part)
            pen.text(middle, bar + 0.29, f"{size:,} numbers", _LABEL, color=_FAINT)


def _wrapped(blocks: list[_Block], shapes: list[Shape]) -> _Block:
    """The blocks in one column, or in several if it would be too tall."""
    whole = _Stack(blocks, shapes)
    levels = any(isinstance(block, _Levels) for block in blocks)
    if whole.height <= _TALLEST or levels:
        return whole
    count = math.ceil(whole.height / _TALLEST)
    groups: list[list[int]] = [[]]
    height = 0.0
    for i, block in enumerate(blocks):
        height += block.height + _ARROW
        if groups[-1] and height > len(groups) * (whole.height + _ARROW) / count + 0.01:
            groups.append([])
        groups[-1].append(i)
    columns = [
        _Stack([blocks[i] for i in group], [shapes[i] for i in group[:-1]])
        for group in groups
    ]
    between = [shapes[group[-1]] for group in groups[:-1]]
    starts = [column.leave for column in columns[:-1]]
    depths = [column.outlet for column in columns[:-1]]
    return _Columns(columns, between, starts, depths)
