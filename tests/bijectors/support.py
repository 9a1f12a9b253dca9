"""What tests of several bijectors share."""

from __future__ import annotations

import numpy as np


def assign(bijector, **values):
    """Sets variables by their names; the others stay."""
    for v in bijector.trainable_variables:
        name = v.name.split(":")[0]
        if name in values:
            v.assign(np.reshape(values[name], v.shape))
    return bijector
