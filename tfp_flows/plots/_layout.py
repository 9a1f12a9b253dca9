"""How blocks of diagrams are put together: in stacks, frames and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tfp_flows.plots._blocks import Block
from tfp_flows.plots._pen import GREY, INK, LABEL, PAD, TITLE, Pen, text_width

__all__ = ["ARROW", "Columns", "Repeated", "Shape", "Stack", "Step", "shape_text"]

_TIMES = "\N{MULTIPLICATION SIGN}"

# Inches: length of an arrow.
ARROW = 0.32

Shape = tuple[int, ...] | None


def shape_text(shape: Shape) -> str:
    """How a shape is written; nothing, if it is not known."""
    return "" if shape is None else f" {_TIMES} ".join(map(str, shape)) or "a number"


class Step(NamedTuple):
    """A block, and the shape of what goes out of it."""

    block: Block
    shape: Shape = None


class Stack(Block):
    """Blocks one below the other, with arrows between them, and shapes beside these."""

    def __init__(self, steps: Sequence[Step]):
        self._blocks = [step.block for step in steps]
        self._labels = [shape_text(step.shape) for step in steps[:-1]]
        lefts, at = [], 0.0
        for block in self._blocks:
            lefts.append(at - block.enter)
            at = lefts[-1] + block.leave
        self._lefts = [left - min(lefts) for left in lefts]
        self._leaves = [
            left + block.leave
            for left, block in zip(self._lefts, self._blocks, strict=True)
        ]
        rights = [
            left + block.width
            for left, block in zip(self._lefts, self._blocks, strict=True)
        ]
        rights += [
            at + 0.08 + text_width(label, LABEL)
            for at, label in zip(self._leaves, self._labels, strict=False)
        ]
        self.width = max(rights)
        self.height = sum(block.height for block in self._blocks)
        self.height += ARROW * len(self._labels)
        self.enter = self._lefts[0] + self._blocks[0].enter
        self.leave = self._leaves[-1]
        self.inlet, self.outlet = self._blocks[0].inlet, self._blocks[-1].outlet

    def draw(self, pen: Pen, x: float, y: float) -> None:
        for i, (left, block) in enumerate(zip(self._lefts, self._blocks, strict=True)):
            block.draw(pen, x + left, y)
            y += block.height
            if i < len(self._labels):
                at = x + self._leaves[i]
                end = y + ARROW + self._blocks[i + 1].inlet
                pen.line((at, y - block.outlet), (at, end))
                pen.label(at, y + 0.13, self._labels[i])
                y += ARROW


class Repeated(Block):
    """A dashed frame around what repeats, which says how often."""

    _above, _below = 0.3, 0.16

    def __init__(self, stack: Stack, count: int):
        self._stack, self._count = stack, f"{_TIMES} {count}"
        room = text_width(self._count, TITLE + 1, bold=True)
        self.inlet = self._above + stack.inlet
        self.width = max(stack.width, stack.enter + 0.2 + room) + 2 * PAD
        self.height = self._above + stack.height + self._below
        self.enter, self.leave = PAD + stack.enter, PAD + stack.leave

    def draw(self, pen: Pen, x: float, y: float) -> None:
        line, size = (0, (4, 2.5)), (self.width, self.height)
        pen.box(x, y, *size, face="none", edge=GREY, line=line, kind="frame")
        right = x + self.width - 0.1
        pen.text(right, y + 0.15, self._count, TITLE + 1, bold=True, align="right")
        self._stack.draw(pen, x + PAD, y + self._above)
        at, bottom = x + self.leave, y + self.height
        start = bottom - self._below - self._stack.outlet
        pen.line((at, start), (at, bottom), head=False)


class Columns(Block):
    """Columns side by side; a line leads from the foot of each to the head of the next.

    Args:
      columns: the columns.
      shapes: the shape of what goes on, for each but the last.
    """

    _gap, _head, _foot = 0.4, 0.36, 0.12
    _color = INK

    def __init__(self, columns: Sequence[Block], shapes: Sequence[Shape]):
        self._columns = columns
        self._labels = [shape_text(shape) for shape in shapes]
        self._lefts, at = [], 0.0
        for column in columns:
            self._lefts.append(at)
            at += column.width + self._gap
        self.width = at - self._gap
        tallest = max(column.height for column in columns)
        self.height = self._head + tallest + self._foot
        first, last = columns[0], columns[-1]
        self.enter, self.leave = first.enter, self._lefts[-1] + last.leave
        self.inlet = self._head + first.inlet
        self.outlet = self._foot + tallest - last.height + last.outlet

    def draw(self, pen: Pen, x: float, y: float) -> None:
        top = y + self._head
        for left, column in zip(self._lefts, self._columns, strict=True):
            column.draw(pen, x + left, top)
        for i, label in enumerate(self._labels):
            column, following = self._columns[i : i + 2]
            begin = x + self._lefts[i] + column.leave
            foot = top + column.height - column.outlet
            side = x + self._lefts[i + 1] - self._gap / 2
            to = x + self._lefts[i + 1] + following.enter
            pen.line(
                (begin, foot),
                (begin, foot + self._foot),
                (side, foot + self._foot),
                (side, y + 0.04),
                (to, y + 0.04),
                (to, top + following.inlet),
                color=self._color,
            )
            pen.label(to, y + 0.2, label)
