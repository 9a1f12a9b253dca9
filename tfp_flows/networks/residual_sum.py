"""The sum of a residual block, as TensorFlow takes it without complaint."""

from __future__ import annotations

from typing import Any

__all__ = ["residual_sum"]


def residual_sum(h: Any, change: Any) -> Any:
    """`h + change`, both with the bias of a layer added last.

    TensorFlow 2.21 with oneDNN tries to fuse such a sum with the layers in front of it
    and behind it, fails, and says so in forty lines ("remapper failed"). A difference
    it leaves alone; the numbers are the same to the bit.

    Args:
      h: what goes around the block.
      change: what comes out of it.
    """
    return h - (-change)
