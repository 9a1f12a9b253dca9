"""Icons of masks, orders and permutations: arrays of colours `[rows, columns]`.

An empty text is a square without a colour.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_flows.plots._figure import BLUE, ORANGE
from tfp_flows.plots._pen import GREY

__all__ = ["mask_icon", "order_icon", "permutation_icon"]

# Squares of a row; of each side of an image; of an order; of a permutation.
_LONGEST, _CORNER, _ORDER, _PERMUTATION = 12, 4, 5, 8


def mask_icon(mask: np.ndarray) -> np.ndarray:
    """What a mask keeps and changes: of an image the corner, or a row of channels."""
    if mask.ndim == 3:
        same = (mask == mask[..., :1]).all()
        mask = mask[..., 0] if same else mask[0, 0]
    if mask.ndim == 1 and len(mask) > _LONGEST:  # both ends
        half = _LONGEST // 2
        mask = np.concatenate([mask[:half], mask[-half:]])
    rows = np.atleast_2d(mask)
    rows = rows.reshape(len(rows), -1)
    columns = _LONGEST if len(rows) == 1 else _CORNER
    return np.where(rows[:_CORNER, :columns], BLUE, ORANGE)


def order_icon(conditioner: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Which entries (columns) each entry (row) sees, of the first few."""
    size = min(shape[-1], _ORDER) if shape else _ORDER
    order = getattr(conditioner, "order", np.arange(size))
    rank = np.argsort(np.argsort(np.argsort(order)[:size]))
    cells = np.where(rank[:, None] > rank, BLUE, "")
    np.fill_diagonal(cells, ORANGE)
    return cells


def permutation_icon(permutation: np.ndarray, inverted: bool) -> np.ndarray | None:
    """Where (row) each entry (column) of the data goes, of a few."""
    if len(permutation) > _PERMUTATION:
        return None
    # `forward` gathers: entry i of data is entry `permutation[i]` of noise.
    goes = np.argsort(permutation) if inverted else permutation
    return np.where(np.arange(len(goes))[:, None] == goes, GREY, "")
