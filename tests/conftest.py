"""What holds while all tests run."""

from __future__ import annotations

import gc


def pytest_collection_finish(session):
    """What has been imported stays: the collector need not walk through it again.

    Nor need it look for cycles at every few hundred objects that a trace makes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
