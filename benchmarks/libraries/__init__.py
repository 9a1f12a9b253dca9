"""The libraries that `benchmarks/speed.py` compares, one file for each.

Each module `libraries.NAME` has

* `PACKAGES`, what it needs, as `importlib.metadata` knows it;
* `build(workload, data, threads, **options)`, which returns a `Contender`, or raises
  `NotOffered` if the library has no such flow.

A module is imported in a process that runs nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["LABELS", "OPERATIONS", "Contender", "NotOffered"]

OPERATIONS = ("train", "log_prob", "sample")

# The rows of a table: name on the command line -> what the table says.
LABELS = {
    "bare": "bare networks",
    "bare-xla": "bare networks (XLA)",
    "tfp_flows": "tfp_flows",
    "tfp_flows-xla": "tfp_flows (XLA)",
    "tfp_flows-fit": "tfp_flows (fit)",
    "tfp": "TFP",
    "tfp-xla": "TFP (XLA)",
    "zuko": "zuko",
    "nflows": "nflows",
    "normflows": "normflows",
    "flowjax": "FlowJAX",
    "distrax": "distrax",
}


class NotOffered(Exception):
    """The library has no such flow; the message says what is missing."""


@dataclasses.dataclass
class Contender:
    """One flow of one library, ready to be timed.

    Attributes:
      parameters: number of trainable parameters.
      train: one training step on the data; done when it returns.
      log_prob: the log-density of the data, or `None` where there is none.
      sample: as many samples as the data have examples, or `None`.
      round_trip: largest error of data after going to noise and back, or `None`.
      note: what differs from the other libraries, for the foot of the table.
    """

    parameters: int
    train: Callable[[], Any] | None
    log_prob: Callable[[], Any] | None = None
    sample: Callable[[], Any] | None = None
    round_trip: Callable[[], float] | None = None
    note: str = ""
