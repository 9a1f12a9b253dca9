"""Whose code runs inside a bijector: this package's and Keras's, or also a user's."""

from __future__ import annotations

from typing import Any

import keras

from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.keras_internals import layers_in

__all__ = ["is_own"]


def is_own(part: Any) -> bool:
    """Whether a transformer or a conditioner runs no code of a user's.

    Code of a user's may do what this package and Keras's layers never do, such as
    taking a gradient.

    Args:
      part: a transformer, with those that it is made of; or a `Conditioner`, with all
        layers of its network. A plain function is never the package's.
    """
    if isinstance(part, Conditioner):
        layer = part.keras_layer
        return layer is not None and all(map(_is_of_a_library, layers_in(layer)))
    inside = getattr(part, "transformers", [getattr(part, "transformer", None)])
    return _is_of_a_library(part) and all(is_own(t) for t in inside if t is not None)


def _is_of_a_library(thing):
    library = type(thing).__module__.partition(".")[0]
    return library in ("keras", "tfp_flows") and type(thing) is not keras.layers.Lambda
