"""Blocks of diagrams: what each has to say, and how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfp_flows.plots._figure import BLUE, ORANGE
from tfp_flows.plots._pen import (
    BROWN,
    GREEN,
    GREY,
    INK,
    LABEL,
    PAD,
    TEXT,
    TITLE,
    Pen,
    icon_size,
    text_width,
)

__all__ = ["GIVEN", "Block", "Box", "Lanes"]

# The line of a box whose bijector or distribution sees the context.
GIVEN = "given the context"

# Letters of the longest name in a box.
_LONGEST = 30


class Block:
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

    def draw(self, pen: Pen, x: float, y: float) -> None:
        """Draws it, given its upper left corner."""
        raise NotImplementedError


class Box(Block):
    """A title, lines below it and an icon beside them.

    Args:
      title: the title.
      lines: the lines.
      icon: colours `[rows, columns]`.
      pill: whether it is one of the ends, which are round and grey.
    """

    def __init__(
        self,
        title: str,
        lines: Sequence[str] = (),
        icon: np.ndarray | None = None,
        pill: bool = False,
    ):
        self._title, *self._lines = map(_short, (title, *lines))
        self._icon, self._pill = icon, pill
        wide, high = icon_size(icon)
        self._text_width = 2 * PAD + max(
            text_width(self._title, TITLE, bold=True),
            *(text_width(line, TEXT) for line in self._lines),
            0.5,
        )
        self.width = self._text_width + (wide + PAD if wide else 0)
        self.height = max(0.3 + 0.15 * len(self._lines), high + 0.14)
        self.enter = self.leave = self.width / 2

    def draw(self, pen: Pen, x: float, y: float) -> None:
        size = self.width, self.height
        if self._pill:
            pen.box(x, y, *size, face="#e8e8e8", edge=GREY, round_by=0.13)
        else:
            pen.box(x, y, *size, face="#f6f6f6")
        middle = x + self._text_width / 2
        at = y + self.height / 2 - 0.075 * len(self._lines)
        pen.text(middle, at, self._title, TITLE, bold=True)
        for i, line in enumerate(self._lines):
            color = GREEN if line == GIVEN else INK
            pen.text(middle, at + 0.16 + 0.15 * i, line, color=color)
        if self._icon is not None:
            wide, high = icon_size(self._icon)
            left, top = self.width - PAD - wide, (self.height - high) / 2
            pen.icon(x + left, y + top, self._icon)


class Lanes(Block):
    """Two parts of an event: a network sees the first, and changes the second.

    Args:
      title: the title.
      icon: what stands beside it.
      parts: what to call the first part, which is seen, and the second.
      network: name of the network; without one, the parts only go apart.
      transformer: name of what the second part goes through.
      given: whether the network sees the context, too.
      mirrored: whether the first part is on the right.

    Attributes:
      first: distance from the left to the first part, in inches.
      second: the same to the second.
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
        self._given, self._sign = given, -1 if mirrored else 1
        wide, high = icon_size(icon)
        self._header = max(0.3, high + 0.12)
        boxes = [text_width(t, TEXT) + 0.14 for t in (network, transformer)]
        self._halves = boxes[0] / 2, boxes[1] / 2
        first = 0.1 + text_width(parts[0], LABEL) / 2
        last = max(boxes[1], text_width(parts[1], LABEL)) / 2
        between = 0.48 + boxes[0] if network else 1.2
        lanes = first + between + 2 * last + 0.1
        header = text_width(title, TITLE, bold=True) + wide + 3 * PAD
        self.width = max(header, lanes)
        spare = (self.width - lanes) / 2
        first, second = first + spare, self.width - 0.1 - last - spare
        centre = (first + second - self._halves[1]) / 2
        places = [first, second, centre]
        if mirrored:
            places = [self.width - place for place in places]
        self.first, self.second, self._centre = places
        self.height = self._header + (0.72 if network else 0.34)
        self.height += 0.24 if network and given else 0
        self.enter = self.leave = self.width / 2

    def draw(self, pen: Pen, x: float, y: float) -> None:
        pen.box(x, y, self.width, self.height)
        middle = y + self._header / 2
        pen.text(x + PAD, middle, self._title, TITLE, bold=True, align="left")
        if self._icon is not None:
            wide, high = icon_size(self._icon)
            pen.icon(x + self.width - PAD - wide, middle - high / 2, self._icon)
        top, bottom = y + self._header, y + self.height
        pen.line((x, top), (x + self.width, top), color="#cccccc", head=False)
        first, second, centre = x + self.first, x + self.second, x + self._centre
        pen.text(first, top + 0.12, self._parts[0], LABEL, color=BLUE)
        pen.text(second, top + 0.12, self._parts[1], LABEL, color=BROWN)
        start = top + 0.2
        pen.line((first, start), (first, bottom), color=BLUE, head=False)
        if not self._network:
            pen.line((second, start), (second, bottom), color=ORANGE, head=False)
            return
        row, half = top + 0.42, 0.12
        network, transformer = self._halves
        towards = self._sign * network, self._sign * transformer
        pen.line((second, start), (second, row - half), color=ORANGE)
        pen.line((second, row + half), (second, bottom), color=ORANGE, head=False)
        pen.line((first, row), (centre - towards[0], row), color=BLUE)
        pen.line((centre + towards[0], row), (second - towards[1], row))
        for at, size, text, face, edge in (
            (centre, network, self._network, "#e2f2ec", GREEN),
            (second, transformer, self._transformer, "#fdf0d9", ORANGE),
        ):
            pen.box(at - size, row - half, 2 * size, 2 * half, face=face, edge=edge)
            pen.text(at, row, text)
        if self._given:
            pen.text(centre, row + 0.38, "context", LABEL, color=GREEN)
            pen.line((centre, row + 0.3), (centre, row + half), color=GREEN)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
