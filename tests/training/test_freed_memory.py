"""Freed memory stays with the process."""

from __future__ import annotations

import inspect
import platform
import subprocess
import sys

import pytest

import tfp_flows_command
from tfp_flows.training.freed_memory import keep_freed_memory

# New pages for 64 MB that are freed and allocated again, in 10 turns.
PAGES = """
import ctypes, resource
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def turn():
    block = libc.malloc(64 * 2**20)
    ctypes.memset(block, 1, 64 * 2**20)
    libc.free(block)
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PAGES.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    # The file alone: importing the package would take seconds.
    path = inspect.getsourcefile(keep_freed_memory)
    call = f"import runpy; assert runpy.run_path({path!r})['keep_freed_memory']()"
    assert new_pages(call) < 100
    # At least one new page in each turn, however large they are.
    assert new_pages("") >= 10


def test_other_systems(monkeypatch):
    class WithoutMallopt:
        def __init__(self, name):
            assert name is None

    monkeypatch.setattr("ctypes.CDLL", WithoutMallopt)
    assert keep_freed_memory() is False


def test_the_command_line_keeps_it(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        "tfp_flows.training.keep_freed_memory", lambda: calls.append("kept")
    )
    monkeypatch.setattr("sys.argv", ["tfp-flows", "info", "nowhere"])
    assert tfp_flows_command.main() == 2
    assert calls == ["kept"] and "nowhere" in capsys.readouterr().err
