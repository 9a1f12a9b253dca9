"""How the levels of a `MultiScale` are drawn, and the noise that leaves after each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfp_flows.plots._blocks import Block, Lanes
from tfp_flows.plots._figure import BLUE, ORANGE
from tfp_flows.plots._layout import Columns, Shape, Stack, Step, shape_text
from tfp_flows.plots._pen import FAINT, INK, LABEL, PAD, TITLE, Pen, text_width

__all__ = ["Level", "Levels"]


class Level(Block):
    """A frame around one level and the split behind it.

    Args:
      title: the title.
      steps: the blocks of the level.
      split: the part that stays, and the one that leaves; the last level has none.

    Attributes:
      noise: distance from the left to where the noise goes out, in inches.
    """

    _above, _below = 0.32, 0.2

    def __init__(self, title: str, steps: Sequence[Step], split: Lanes | None):
        self._title = title
        self._stack = stack = Stack([*steps, Step(split)] if split else steps)
        room = text_width(title, TITLE, bold=True) + 0.1
        self._left = PAD + max(0.0, room - stack.enter)
        self.inlet = self._above + stack.inlet
        self.outlet = self._below + stack.outlet
        self.width = self._left + stack.width + PAD
        self.height = self._above + stack.height + self._below
        self.enter = self._left + stack.enter
        self.leave = self.noise = self._left + stack.leave
        if split:
            self.leave += split.first - split.leave
            self.noise += split.second - split.leave

    def draw(self, pen: Pen, x: float, y: float) -> None:
        size = self.width, self.height
        pen.box(x, y, *size, face="#fafafa", edge="#b8b8b8", kind="frame")
        pen.text(x + 0.1, y + 0.15, self._title, TITLE, bold=True, align="left")
        self._stack.draw(pen, x + self._left, y + self._above)


class Levels(Columns):
    """The levels, a column each, and a bar with the noise below them.

    Args:
      levels: the levels.
      shapes: the shape of what stays, for each but the last.
      parts: the shapes of the noise of each.
    """

    _color = BLUE
    _bar = 0.42

    def __init__(
        self,
        levels: Sequence[Level],
        shapes: Sequence[Shape],
        parts: Sequence[tuple[int, ...]],
    ):
        super().__init__(levels, shapes)
        self._levels, self._parts = levels, parts
        self.height += 0.3 + self._bar
        self.leave, self.outlet = self.width / 2, 0.0

    def draw(self, pen: Pen, x: float, y: float) -> None:
        super().draw(pen, x, y)
        bar, top = y + self.height - self._bar, y + self._head
        inner = (x + left - self._gap / 2 for left in self._lefts[1:])
        edges = [x, *inner, x + self.width]
        for i, (left, level, part) in enumerate(
            zip(self._lefts, self._levels, self._parts, strict=True)
        ):
            at, start = x + left + level.noise, top + level.height - level.outlet
            color = INK if level is self._levels[-1] else ORANGE
            pen.line((at, start), (at, bar), color=color)
            first, end = edges[i : i + 2]
            pen.box(first, bar, end - first, self._bar, face="#e8e8e8", round_by=0.001)
            middle = (first + end) / 2
            pen.text(middle, bar + 0.13, f"$z_{{{i}}}$: {shape_text(part)}")
            numbers = f"{math.prod(part):,} numbers"
            pen.text(middle, bar + 0.29, numbers, LABEL, color=FAINT)
