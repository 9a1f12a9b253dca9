"""What holds while all tests run."""

from __future__ import annotations

import gc
import itertools

_TESTS = itertools.count(1)


def _freeze():
    """What is here stays: the collector need not walk through it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish(session):
    _freeze()


def pytest_runtest_logfinish(nodeid, location):
    # TensorFlow keeps a million objects after some thousand tests.
    if next(_TESTS) % 300 == 0:
        _freeze()
