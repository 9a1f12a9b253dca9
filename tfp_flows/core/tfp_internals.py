"""All that relies on private parts of TensorFlow Probability, checked at import.

* `INVERTS`, `CHAINS`, `INDEPENDENTS`, `SAMPLES`, `TRANSFORMED_DISTRIBUTION`: TFP's
  compositions have a second, private class for parts that are not composite tensors.
* `ITERATION_OF_SAMPLES`: the name scope in which auto-batched joint distributions draw
  many samples at once.
* `scope_of`: the name scope of a bijector's method, with the assertions of its
  parameters. Without it, operations lose their names.
* `is_increasing`: whether a bijector rises, which `cdf` and `quantile` need.
* `set_arguments`: the arguments that `copy` gives to the constructor.
* `is_asked_by_cache`: TFP's compositions cache results under a hash of their members.
  The variables of a member may change, so the cache must be given a new hash each time.
* `Handover`: TFP makes several calls of a bijector for one answer.
  `TransformedDistribution.log_prob(y)` calls first `inverse(y) = x`, then
  `forward_log_det_jacobian(x)`. A `tfb.Chain` computes the values of all members first,
  then asks each for its log-determinant. While one such function of TFP's runs, neither
  variables nor gradient tapes change, so a result may be used again until it returns.
"""

from __future__ import annotations

import inspect
import sys
import threading
import types
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf
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
    "class_behind",
    "handover",
    "is_asked_by_cache",
    "is_increasing",
    "scope_of",
    "set_arguments",
]


def _required(condition: bool, what: str) -> None:
    if not condition:
        raise ImportError(
            f"tfp_flows relies on {what}, which TensorFlow Probability "
            f"{tfp.__version__} has changed. Install a version within the bounds that "
            "tfp_flows declares."
        )


def class_behind(public: type) -> type[Any]:
    """The private class that `__new__` chooses for parts that are not composite.

    It is the base class that stands in the same module.
    """
    private = [c for c in public.__mro__[1:] if c.__module__ == public.__module__]
    _required(len(private) == 1, f"a private class behind {public.__name__}")
    return private[0]


# Both classes that an instance of a composition of TFP's may have.
INVERTS = (tfb.Invert, class_behind(tfb.Invert))
CHAINS = (tfb.Chain, class_behind(tfb.Chain))
TRANSFORMED_DISTRIBUTION = class_behind(tfd.TransformedDistribution)

INDEPENDENTS = (tfd.Independent, class_behind(tfd.Independent))
SAMPLES = (tfd.Sample, class_behind(tfd.Sample))

# Auto-batched joint distributions trace one function, in a name scope of this name, to
# draw many samples with one integer seed.
ITERATION_OF_SAMPLES = "iid_sample_fn_stateful_body"
_required(
    ITERATION_OF_SAMPLES in inspect.getsource(vectorization_util.iid_sample),
    f"the name {ITERATION_OF_SAMPLES}",
)


def scope_of(bijector: tfb.Bijector, name: str) -> AbstractContextManager:
    """A name scope for a method, within that of the bijector."""
    return bijector._name_and_control_scope(name)


def is_increasing(bijector: tfb.Bijector, **keywords: Any) -> Any:
    """Whether `forward` rises in each entry, for any bijector of TFP's or ours."""
    return bijector._internal_is_increasing(**keywords)


def set_arguments(owner: tf.Module, arguments: Mapping[str, Any]) -> None:
    """Sets what `owner.parameters` returns, and `copy` gives to the constructor.

    Args:
      owner: a bijector or distribution.
      arguments: the arguments; `self` and `__class__`, which `locals()` holds, are left
        out. TensorFlow does not track them as attributes.
    """
    left_out = ("self", "__class__")
    own = {k: v for k, v in arguments.items() if k not in left_out}
    object.__setattr__(owner, "_parameters", own)


for _owner, _name in (
    (tfb.Bijector, "_name_and_control_scope"),
    (tfb.Bijector, "_internal_is_increasing"),
    # Overridden by JointBijector.
    (tfb.Bijector, "_call_forward"),
    (tfb.Bijector, "_call_inverse"),
    (tfb.Bijector, "_call_forward_log_det_jacobian"),
    (tfb.Bijector, "_call_inverse_log_det_jacobian"),
    # Overridden by the distributions.
    (tfd.Distribution, "_call_log_prob"),
    (tfd.Distribution, "_call_prob"),
    (tfd.Distribution, "_call_sample_n"),
    (tfd.Distribution, "_call_sample_and_log_prob"),
):
    _required(hasattr(_owner, _name), f"{_owner.__name__}.{_name}")
_required(
    "_parameters" in tfb.Bijector.parameters.fget.__code__.co_names
    and "_parameters" in tfd.Distribution.parameters.fget.__code__.co_names,
    "the attribute _parameters",
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


# Functions of TFP's that call one bijector several times. A running call of one of them
# is an "answer" below.
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
    """Passes results from one call of a bijector to a later call in the same answer.

    An answer is a running call of one of the functions in `_ANSWERS`, given as its
    stack frame.
    """

    def __init__(self):
        self._waiting = []

    @staticmethod
    def answer() -> types.FrameType | None:
        """The outermost answer that the caller is part of, or `None`.

        All frames between the answer and the caller must be of the libraries: a user's
        function in between could change variables or open a gradient tape.
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
        """Keeps a result until the answer ends."""
        x, y = (value, result) if forward else (result, value)
        fldj = log_det if forward else -log_det
        # Drops what an earlier answer left behind.
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
        """Finds the result of an earlier call in the same answer.

        Args:
          answer: what `answer` returned.
          bijector: the bijector that is called.
          forward: the direction.
          value: its input: a tensor object that the earlier call took or returned.
          keywords: its keywords: the same objects as in the earlier call.
          drop: whether the result is not needed again.

        Returns:
          The value and log-determinant, or `None` if there was no such call.
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
