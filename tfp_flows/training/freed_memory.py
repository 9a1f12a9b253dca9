"""Freed memory that stays with the process."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Lets the process keep the memory that it frees, for the next step.

    XLA allocates what a step needs as one block, and TensorFlow frees large tensors
    after each operation. The C library of Linux (glibc) gives blocks of more than 32 MB
    back to the system at once, which then clears new pages for each step: of a training
    step of eight spline couplings with XLA, that was a quarter. Call it once, before
    training on a CPU; `tfp-flows` does. The process then holds as much memory as it
    ever needed at a time, until it ends.

    Example:
      >>> import tfp_flows
      >>> kept = tfp_flows.training.keep_freed_memory()

    Returns:
      Whether the C library does so now: `False` if it is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
