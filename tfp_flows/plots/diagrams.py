"""Block diagrams of flows: layers as data meet them, shapes, who sees whom."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from tfp_flows.plots._figure import Picture, finish
from tfp_flows.plots._layout import ARROW, Columns, Stack, Step
from tfp_flows.plots._levels import Levels
from tfp_flows.plots._pen import PAD, TITLE, Pen, text_width
from tfp_flows.plots._structure import steps_of

__all__ = ["diagram"]

# The height, in inches, beyond which layers go on in another column.
_TALLEST = 8.0


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
    whole = _page(steps_of(flow, event_shape))
    above = 0.3 if title else 0.0
    width = max(whole.width, text_width(title or "", TITLE + 1, bold=True))
    pen = Pen(width + 2 * PAD, whole.height + above + 2 * PAD)
    if title:
        pen.text(PAD + width / 2, PAD + 0.1, title, TITLE + 1, bold=True)
    whole.draw(pen, PAD + (width - whole.width) / 2, PAD + above)
    return finish(pen.figure, path)


def _page(steps: list[Step]) -> Stack | Columns:
    """The blocks in one column, or in several if it would be too tall."""
    whole = Stack(steps)
    levels = any(isinstance(step.block, Levels) for step in steps)
    if whole.height <= _TALLEST or levels:
        return whole
    count = math.ceil(whole.height / _TALLEST)
    # Layers fill the columns up to the same share of the whole height.
    share = (whole.height + ARROW) / count
    groups: list[list[Step]] = [[]]
    height = 0.0
    for step in steps:
        height += step.block.height + ARROW
        if groups[-1] and height > len(groups) * share + 0.01:
            groups.append([])
        groups[-1].append(step)
    shapes = [group[-1].shape for group in groups[:-1]]
    return Columns([Stack(group) for group in groups], shapes)
