"""What holds while all tests run."""

from __future__ import annotations

import gc


def pytest_collection_finish(session):
    """What has been imported stays: the collector need not walk through it again."""
    gc.collect()
    gc.freeze()
