"""Makes a ready flow of a generator of bijectors: see `building.py`.

Files of `tfp_flows.flows` import from here; what of it is public stands there, too.
"""

from collections.abc import Iterator

from tensorflow_probability import bijectors as tfb

from tfp_flows.ready.building import ready
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.stacks import (
    count_changed,
    coupling_layers,
    in_turn,
    masks_in_turn,
    repeat,
)

__all__ = [
    "Bijectors",
    "Plan",
    "count_changed",
    "coupling_layers",
    "in_turn",
    "masks_in_turn",
    "ready",
    "repeat",
]

# What a ready flow yields.
Bijectors = Iterator[tfb.Bijector]
