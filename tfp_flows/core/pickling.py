"""Pickles and deep-copies TFP's compositions by their constructor arguments.

Classes such as `tfd.Independent` and `tfb.Chain` choose a private class in `__new__`,
by their arguments. Python can neither pickle nor deep-copy such objects by itself, and
flows and base distributions contain them. Importing this module registers how to do it.
"""

from __future__ import annotations

import copyreg
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.core.tfp_internals import class_behind

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
    # The class itself, and its private class for parts that are not composite tensors.
    copyreg.pickle(_cls, _reduce)
    copyreg.pickle(class_behind(_cls), _reduce)
