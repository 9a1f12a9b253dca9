"""All that relies on private parts of TensorFlow Probability, checked at import.

* The classes behind `tfb.Chain`, `tfb.Invert`, `tfd.Independent` and `tfd.Sample` of
  parts that are no composite tensors, and behind `tfd.TransformedDistribution`.
* The name under which auto-batched joint distributions draw many samples at once.
* TFP's compositions cache results under a hash that they derive from their members; a
  member's variables may have changed since. `is_asked_by_cache` tells when to answer
  with a new hash.
* `TransformedDistribution.log_prob(y)` asks first for `inverse(y) = x` and then for
  `forward_log_det_jacobian(x)`; a `tfb.Chain` walks its members once for the values
  and asks each for its log-determinant afterwards. Inside one run of these functions
  neither variables nor gradient tapes change, so that what a bijector computed stays
  right for as long as that very run lasts, and no longer: `Handover`.
"""

from __future__ import annotations

import inspect
import sys
import threading
import types
from typing import Any

import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.internal import vectorization_util

__all__ = [
    "CHAINS",
    "INDEPENDENTS",
    "INVERTS",
    "ITERATION_OF_SAMPLES",
    "SAMPLES",
    "TRANSFORMED_DISTRIBUTION",
    "handover",
    "is_asked_by_cache",
]


def _required(condition: bool, what: str) -> None:
    if not condition:
        raise ImportError(
            f"tfp_flows relies on {what}, which TensorFlow Probability "
            f"{tfp.__version__} has changed. Install a version within the bounds that "
            "tfp_flows declares."
        )


def _class_behind(public: type, name: str) -> type[Any]:
    """What the `__new__` of a public class makes of members that are no tensors."""
    private = next((c for c in public.__mro__ if c.__name__ == name), public)
    _required(
        private is not public,
        f"a class {name} behind {public.__name__}",
    )
    return private


# The classes that instances of TFP's compositions have.
INVERTS = (tfb.Invert, _class_behind(tfb.Invert, "_Invert"))
CHAINS = (tfb.Chain, _class_behind(tfb.Chain, "_Chain"))
TRANSFORMED_DISTRIBUTION = _class_behind(
    tfd.TransformedDistribution, "_TransformedDistribution"
)

INDEPENDENTS = (tfd.Independent, _class_behind(tfd.Independent, "_Independent"))
SAMPLES = (tfd.Sample, _class_behind(tfd.Sample, "_Sample"))

# Auto-batched joint distributions draw many samples by one trace of a function under
# this name, with one integer seed for all of them.
ITERATION_OF_SAMPLES = "iid_sample_fn_stateful_body"
_required(
    ITERATION_OF_SAMPLES in inspect.getsource(vectorization_util.iid_sample),
    f"the name {ITERATION_OF_SAMPLES}",
)

_CACHES = frozenset(
    {
        "tensorflow_probability.python.internal.cache_util",
        "tensorflow_probability.python.bijectors.bijector",
    }
)
_required(sys.modules.keys() >= _CACHES, f"modules named {sorted(_CACHES)}")


def is_asked_by_cache() -> bool:
    """Whether the caller of the caller is TFP's cache."""
    return sys._getframe(2).f_globals.get("__name__") in _CACHES


def _code_of(owner: type, name: str) -> types.CodeType:
    function: Any = getattr(owner, name, None)
    _required(function is not None, f"{owner.__name__}.{name}")
    return inspect.unwrap(function).__code__


# What makes several calls of one bijector for one answer.
_ANSWERS = frozenset(
    {
        _code_of(tfd.TransformedDistribution, "experimental_local_measure"),
        _code_of(tfd.TransformedDistribution, "_sample_and_log_prob"),
        _code_of(tfb.Chain, "_forward_log_det_jacobian"),
        _code_of(tfb.Chain, "_inverse_log_det_jacobian"),
    }
)
_LIBRARIES = (
    "tensorflow_probability.",
    "tensorflow.",
    __name__.rpartition(".")[0] + ".",
    "contextlib",
    "functools",
)


class Handover(threading.local):
    """Results that wait to be asked for again within the same answer of TFP's."""

    def __init__(self):
        self._waiting = []

    @staticmethod
    def answer() -> types.FrameType | None:
        """The outermost answer of TFP's that the caller works for, or `None`.

        Only an unbroken run of library frames counts: once a user's function is in
        between, what it does with the result is unknown.
        """
        found: types.FrameType | None = None
        frame: types.FrameType | None = sys._getframe(2)
        while frame is not None:
            if not frame.f_globals.get("__name__", "").startswith(_LIBRARIES):
                break
            if frame.f_code in _ANSWERS:
                found = frame
            frame = frame.f_back
        return found

    def put(
        self,
        answer: types.FrameType,
        bijector: tfb.Bijector,
        forward: bool,
        value: Any,
        keywords: dict[str, Any],
        result: Any,
        log_det: Any,
    ) -> None:
        """Keeps a result for the rest of an answer."""
        x, y = (value, result) if forward else (result, value)
        fldj = log_det if forward else -log_det
        # An answer that broke off leaves its results behind: drop them.
        self._waiting = [w for w in self._waiting if w[0] is answer]
        self._waiting.append((answer, bijector, x, y, fldj, keywords))

    def find(
        self,
        answer: types.FrameType,
        bijector: tfb.Bijector,
        forward: bool,
        value: Any,
        keywords: dict[str, Any],
        drop: bool,
    ) -> tuple[Any, Any] | None:
        """The result of an earlier call in the same answer, or `None`.

        Args:
          answer: what `answer` returned.
          bijector: who is asked.
          forward: the direction.
          value: the very tensor that was given or returned before.
          keywords: the very keywords.
          drop: whether nobody will ask again.
        """
        for i, (where, who, x, y, fldj, given) in enumerate(self._waiting):
            if (
                where is answer
                and who is bijector
                and value is (x if forward else y)
                and given.keys() == keywords.keys()
                and all(given[k] is keywords[k] for k in given)
            ):
                if drop:
                    del self._waiting[i]
                return (y, fldj) if forward else (x, -fldj)
        return None


handover = Handover()
