"""The machine that a benchmark runs on, and what a process holds of it."""

from __future__ import annotations

import contextlib
import platform
import resource
import sys
from pathlib import Path

__all__ = ["first_line", "forget_peak", "processor", "resident"]


def processor() -> str:
    """The model of the processor."""
    with contextlib.suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text()
        return text.split("model name")[1].split(":", 1)[1].splitlines()[0].strip()
    return platform.processor() or "unknown"


def resident(peak: bool = False) -> int:
    """Bytes of memory that this process holds, or held at most."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    field = "VmHWM:" if peak else "VmRSS:"
    return 1024 * int(status.split(field)[1].split()[0])


def forget_peak() -> None:
    """Makes the peak what is held now. Linux can; elsewhere it stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def first_line(error: Exception) -> str:
    """What went wrong, for a cell of a table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
