"""TFP's compositions, pickled and deep-copied by the arguments they were built from.

Classes of TFP such as `tfd.Independent` or `tfb.Chain` decide in `__new__`, by their
arguments, whether they are composite tensors, so that Python can neither pickle nor
deep-copy them by itself. They are what bases and flows are made of. Importing this
module tells Python how.
"""

from __future__ import annotations

import copyreg
from typing import Any

import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

__all__ = ["COMPOSITIONS"]

COMPOSITIONS = tuple(
    cls
    for module in (tfb, tfd)
    for cls in vars(module).values()
    if isinstance(cls, type) and "__new__" in vars(cls)
)


def _reduce(composition: Any) -> tuple[Any, ...]:
    return _rebuild, (type(composition), composition.parameters)


def _rebuild(cls, parameters):
    return cls(**parameters)


for _cls in COMPOSITIONS:
    # The class itself, and what it is where a part is no composite tensor.
    copyreg.pickle(_cls, _reduce)
    copyreg.pickle(_cls.__mro__[1], _reduce)
