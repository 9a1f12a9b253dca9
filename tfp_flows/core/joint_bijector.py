"""The base class of every bijector here: value and log-determinant in one pass."""

from __future__ import annotations

import inspect
import itertools
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

__all__ = ["JointBijector"]


class JointBijector(tfb.Bijector):
    r"""A `tfb.Bijector` that computes its value and log-determinant together.

    A subclass implements two methods and nothing else:

    * `_forward_and_log_det(x, **keywords) -> (y, fldj)`
    * `_inverse_and_log_det(y, **keywords) -> (x, ildj)`

    with $\mathrm{fldj} = \log|\det \partial y/\partial x|$ and
    $\mathrm{ildj} = \log|\det \partial x/\partial y|$ in nats, one number for each
    event of `forward_min_event_ndims` (`inverse_min_event_ndims`) dimensions. All of
    TFP's methods (`forward`, `inverse`, `forward_log_det_jacobian`,
    `inverse_log_det_jacobian`) derive from these two, and so do the public
    `forward_and_log_det` and `inverse_and_log_det`.

    `forward` goes from noise to data, `inverse` from data to noise.

    **Keywords.** `context` is known when `context_shape` is not `None`, and is then
    required; it has the batch shape of the value in front, or one that broadcasts
    with it. `training` is known to bijectors with a training mode. Any other keyword
    raises a `TypeError` that lists the known ones.

    **Iterations.** A subclass one of whose directions iterates, or that forgets part of
    its input (batch statistics), says `has_direct_inverse = False`: then a `Chain` with
    `recompute_gradients=True` keeps its input instead of rebuilding it.

    **No cache.** TFP keeps results between calls; with variables that change, or a
    gradient tape opened later, it returns stale values and wrong gradients. Nothing
    is kept here. Where TFP itself makes several calls for one answer (`log_prob` of a
    `tfd.TransformedDistribution`, log-determinants of a `tfb.Chain`), a result is
    handed from one call to the next inside that one answer, so that a conditioner
    still runs once.

    Args:
      forward_min_event_ndims: rank of the event that `forward` takes.
      inverse_min_event_ndims: rank of the event that `inverse` takes; the same by
        default.
      parameters: the constructor's arguments (`dict(locals())`), used by `copy`.
      name: name of the bijector and of its operations.
      dtype: dtype of values; `None` takes any floating dtype.
      input_event_shape: event shape that `forward` takes, if it is fixed. Its rank is
        `forward_min_event_ndims`; an entry may be `None`.
      output_event_shape: event shape that `inverse` takes; the same by default.
      context_shape: shape of one context, or `None` for a bijector without one.
      is_constant_jacobian: whether the log-determinant is independent of the value.
      validate_args: kept for TFP; the checks here do not depend on it.
    """

    _has_training_mode = False
    _TF_MODULE_IGNORED_PROPERTIES = tfb.Bijector._TF_MODULE_IGNORED_PROPERTIES | {
        "_own",
        "_shared",
    }

    def __init__(
        self,
        *,
        forward_min_event_ndims: int,
        inverse_min_event_ndims: int | None = None,
        parameters: Mapping[str, Any],
        name: str,
        dtype: tf.DType | str | None = None,
        input_event_shape: Sequence[int | None] | None = None,
        output_event_shape: Sequence[int | None] | None = None,
        context_shape: Sequence[int] | None = None,
        is_constant_jacobian: bool = False,
        validate_args: bool = False,
    ):
        if inverse_min_event_ndims is None:
            inverse_min_event_ndims = forward_min_event_ndims
        if output_event_shape is None:
            output_event_shape = input_event_shape
        self._input_event_shape = _as_tuple(input_event_shape)
        self._output_event_shape = _as_tuple(output_event_shape)
        self._context_shape = _as_tuple(context_shape)
        super().__init__(
            forward_min_event_ndims=forward_min_event_ndims,
            inverse_min_event_ndims=inverse_min_event_ndims,
            is_constant_jacobian=is_constant_jacobian,
            dtype=None if dtype is None else tf.as_dtype(dtype),
            validate_args=validate_args,
            parameters={k: v for k, v in parameters.items() if k != "__class__"},
            name=name,
        )

    # What a subclass implements.

    def _forward_and_log_det(self, x, **keywords):
        raise NotImplementedError(f"{type(self).__name__}._forward_and_log_det")

    def _inverse_and_log_det(self, y, **keywords):
        raise NotImplementedError(f"{type(self).__name__}._inverse_and_log_det")

    def _initialize(self, y, **keywords):
        """Adapts data-dependent parameters to the batch `y`; returns its inverse."""
        return self._inverse_and_log_det(y, **keywords)[0]

    # Whether both directions are one pass each, inverses of each other up to rounding.
    # If not, a chain that recomputes gradients keeps the input.
    has_direct_inverse = True

    def _replay(self, result, forward, tape, **keywords):
        """Rebuilds the value that `result` came from, and evaluates it on `tape`.

        Returns:
          `(parts, merge, result, log_det)`, where `parts` are tensors that the tape
          watches and `merge(parts)` is the value; of the gradients of the parts,
          `merge` makes that of the value.
        """
        there, back = self._forward_and_log_det, self._inverse_and_log_det
        if not forward:
            there, back = back, there
        with tape.stop_recording():
            value, _ = back(result, **keywords)
        tape.watch(value)
        return [value], lambda parts: parts[0], *there(value, **keywords)

    @property
    def _structure(self) -> str:
        """What the meaning of the variables depends on, beside numeric arguments."""
        return ""

    # What a user calls.

    @property
    def context_shape(self) -> tuple[int, ...] | None:
        """Shape of one context, or `None` where no context is taken."""
        return self._context_shape

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that every method takes beside the value."""
        return frozenset(
            (["context"] if self._context_shape is not None else [])
            + (["training"] if self._has_training_mode else [])
        )

    def forward_and_log_det(self, x, **keywords):
        r"""Maps noise to data.

        Args:
          x: tensor `[*batch, *input_event]`.
          **keywords: see `keywords`.

        Returns:
          `(y, fldj)`: `y` of shape `[*batch, *output_event]` and
          $\log|\det \partial y/\partial x|$ in nats, of shape `batch`.

        Raises:
          ValueError: on a wrong shape or context.
          TypeError: on an unknown keyword or another dtype than the bijector's.
        """
        with self._name_and_control_scope("forward_and_log_det"):
            return self._evaluate(x, True, keywords)

    def inverse_and_log_det(self, y, **keywords):
        r"""Maps data to noise.

        Args:
          y: tensor `[*batch, *output_event]`.
          **keywords: see `keywords`.

        Returns:
          `(x, ildj)`: `x` of shape `[*batch, *input_event]` and
          $\log|\det \partial x/\partial y|$ in nats, of shape `batch`.

        Raises:
          ValueError: on a wrong shape or context.
          TypeError: on an unknown keyword or another dtype than the bijector's.
        """
        with self._name_and_control_scope("inverse_and_log_det"):
            return self._evaluate(y, False, keywords)

    @property
    def domain(self) -> tuple[float, float] | None:
        """The interval that data must lie in, or `None` for the real line."""
        return None

    @property
    def needs_initialization(self) -> bool:
        """Whether this bijector still waits for a batch of data, see `initialize`."""
        return False

    def initialize(self, y, **keywords):
        """Sets parameters that depend on data (ActNorm's) from a batch.

        Parts that are initialised already, or restored from a file, stay as they are.

        Args:
          y: a batch of data `[*batch, *output_event]`.
          **keywords: as for `inverse`.

        Returns:
          The noise `[*batch, *input_event]` of that batch after initialisation.
        """
        with self._name_and_control_scope("initialize"):
            y, keywords = self._check(y, False, keywords)
            return self._initialize(y, **keywords)

    def copy(self, **overrides):
        """A new instance with some constructor arguments replaced.

        The copy shares this bijector's variables, as TFP's bijectors do; use
        `copy.deepcopy` for variables of its own.
        """
        new = type(self).__new__(type(self))
        object.__setattr__(new, "_shared", dict(self.__dict__.get("_own", {})))
        new.__init__(**{**self.parameters, **overrides})
        return new

    # The bridge to TFP's methods.

    def _call_forward(self, x, name, **keywords):
        with self._name_and_control_scope(name):
            return self._evaluate(x, True, keywords)[0]

    def _call_inverse(self, y, name, **keywords):
        with self._name_and_control_scope(name):
            return self._evaluate(y, False, keywords)[0]

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **keywords):
        with self._name_and_control_scope(name):
            _, fldj = self._evaluate(x, True, keywords, last=True)
            return self._sum_events(fldj, event_ndims, self.forward_min_event_ndims)

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **keywords):
        with self._name_and_control_scope(name):
            _, ildj = self._evaluate(y, False, keywords, last=True)
            return self._sum_events(ildj, event_ndims, self.inverse_min_event_ndims)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward_event_shape(self, input_shape):
        return self._event_shape(
            input_shape, self._input_event_shape, self._output_event_shape
        )

    def _inverse_event_shape(self, output_shape):
        return self._event_shape(
            output_shape, self._output_event_shape, self._input_event_shape
        )

    def _forward_event_shape_tensor(self, input_shape):
        return _shape_tensor(self._forward_event_shape, input_shape)

    def _inverse_event_shape_tensor(self, output_shape):
        return _shape_tensor(self._inverse_event_shape, output_shape)

    def _event_shape(self, given, source, target):
        if source is None or given.rank is None:
            return given
        ndims = len(source)
        if given.rank < ndims or not given[given.rank - ndims :].is_compatible_with(
            source
        ):
            raise ValueError(
                f"{self.name}: the event shape must end in {source}, got {given}."
            )
        if len(target) == ndims:
            # What the target leaves open is as it was given.
            target = [
                n if n is not None else m
                for n, m in zip(target, given[given.rank - ndims :], strict=True)
            ]
        return tf.TensorShape([*given[: given.rank - ndims], *target])

    # Equality is identity: two bijectors built from equal arguments own different
    # variables.

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        # TFP's compositions cache values under a hash that they derive from their
        # members, and cannot know that a member's variables have changed since. To
        # them every look is a new bijector; to everybody else the hash is stable.
        if sys._getframe(1).f_globals.get("__name__") in _TFP_CACHE_MODULES:
            return next(_never_again)
        return object.__hash__(self)

    # Helpers for subclasses.

    def _add_variable(self, name: str, value, trainable: bool = True, **options):
        """A variable owned by this bijector (or shared, in a `copy`)."""
        shared = self.__dict__.get("_shared", {})
        variable = shared.get(name)
        if variable is None:
            with tf.init_scope():
                variable = tf.Variable(
                    value() if callable(value) else value,
                    trainable=trainable,
                    name=name,
                    **options,
                )
        if "_own" not in self.__dict__:
            object.__setattr__(self, "_own", {})
        self._own[name] = variable
        return variable

    def _sum_events(self, log_det, event_ndims, min_event_ndims):
        if event_ndims is None:
            return log_det
        static = tf.get_static_value(event_ndims)
        if static is None:
            raise ValueError(f"{self.name}: event_ndims must be static.")
        extra = int(static) - min_event_ndims
        if extra < 0:
            raise ValueError(
                f"{self.name}: event_ndims must be at least {min_event_ndims}, "
                f"got {int(static)}."
            )
        return sum_trailing(log_det, extra)

    # AutoGraph has nothing to convert here, and slows tracing down.
    @tf.autograph.experimental.do_not_convert
    def _evaluate(self, given, forward, given_keywords, last=False):
        scope = _sharing_scope()
        if scope is not None:
            found = _handover.find(scope, self, forward, given, given_keywords, last)
            if found is not None:
                return found
        value, keywords = self._check(given, forward, given_keywords)
        method = self._forward_and_log_det if forward else self._inverse_and_log_det
        result, log_det = method(value, **keywords)
        ndims = (
            self.forward_min_event_ndims if forward else self.inverse_min_event_ndims
        )
        log_det = _broadcast_to_batch(log_det, value, ndims)
        if scope is not None and not last:
            _handover.put(scope, self, forward, given, given_keywords, result, log_det)
        return result, log_det

    def _check(self, value, forward, keywords):
        """Converts and validates a value and its keywords."""
        unknown = set(keywords) - self.keywords
        if unknown:
            raise TypeError(
                f"{self.name}: unknown keyword(s) {sorted(unknown)}; "
                + (
                    f"known: {sorted(self.keywords)}."
                    if self.keywords
                    else "this bijector takes none (it was built without a context)."
                )
            )
        value = self._check_value(value, forward)
        if self._context_shape is not None:
            ndims = (
                self.forward_min_event_ndims
                if forward
                else self.inverse_min_event_ndims
            )
            value, context = broadcast_context(
                value, ndims, keywords.get("context"), self._context_shape, self.name
            )
            keywords = {**keywords, "context": context}
        return value, keywords

    def _check_value(self, value, forward):
        argument, shape, ndims = (
            ("x", self._input_event_shape, self.forward_min_event_ndims)
            if forward
            else ("y", self._output_event_shape, self.inverse_min_event_ndims)
        )
        if value is None:
            raise ValueError(f"{self.name}: {argument} must be a tensor, got None.")
        if not tf.is_tensor(value):
            value = tf.convert_to_tensor(
                value, dtype_hint=self.dtype or tf.float32, name=argument
            )
        elif isinstance(value, tf.Variable):
            value = tf.convert_to_tensor(value)
        if not value.dtype.is_floating or (
            self.dtype is not None and value.dtype != self.dtype
        ):
            raise TypeError(
                f"{self.name}: {argument} must have dtype "
                f"{self.dtype.name if self.dtype else 'float32 or float64'}, "
                f"got {value.dtype.name}."
            )
        return check_event_shape(value, shape, ndims, f"{self.name}: {argument}")


def check_event_shape(value, shape, ndims, what):
    """`value`, known to end in `shape` (of rank `ndims`); otherwise a ValueError."""
    rank = value.shape.rank
    if rank is None:
        raise ValueError(f"{what} must have a known rank.")
    if rank < ndims:
        raise ValueError(
            f"{what} must have at least {ndims} dimension(s)"
            + (f", ending in {shape}" if shape is not None else "")
            + f"; got shape {value.shape}."
        )
    if shape is None or not shape:
        return value
    event = value.shape[rank - ndims :]
    if not event.is_compatible_with(shape):
        raise ValueError(f"{what} must end in {shape}, got shape {value.shape}.")
    if event.is_fully_defined():
        return value
    return tf.ensure_shape(value, [None] * (rank - ndims) + list(shape))


def broadcast_context(value, ndims, context, context_shape, name):
    """Value and context with one common batch shape; a ValueError names what is off."""
    if context is None:
        raise ValueError(
            f"{name}: context is required: a tensor [*batch, "
            f"{', '.join(map(str, context_shape))}]."
        )
    context = tf.convert_to_tensor(context)
    if context.dtype.is_floating and context.dtype != value.dtype:
        context = tf.cast(context, value.dtype)
    context = check_event_shape(
        context, context_shape, len(context_shape), f"{name}: context"
    )
    batch = value.shape[: value.shape.rank - ndims]
    context_batch = context.shape[: context.shape.rank - len(context_shape)]
    if batch.is_fully_defined() and batch == context_batch:
        return value, context
    try:
        static = tf.broadcast_static_shape(batch, context_batch)
    except ValueError:
        raise ValueError(
            f"{name}: the batch shape {context_batch} of context does not broadcast "
            f"with the batch shape {batch} of the value."
        ) from None
    common = tf.broadcast_dynamic_shape(
        tf.shape(value)[: batch.rank], tf.shape(context)[: context_batch.rank]
    )
    return (
        _broadcast(value, common, static, ndims),
        _broadcast(context, common, static, len(context_shape)),
    )


def sum_trailing(x, ndims: int):
    """Sums over the last `ndims` dimensions."""
    return tf.reduce_sum(x, axis=list(range(-ndims, 0))) if ndims else x


def _broadcast(x, common, static, ndims):
    event = x.shape[x.shape.rank - ndims :]
    shape = tf.concat([common, tf.shape(x)[x.shape.rank - ndims :]], 0)
    x = tf.broadcast_to(x, shape)
    x.set_shape([*static, *event])
    return x


def _broadcast_to_batch(log_det, value, ndims):
    batch = value.shape[: value.shape.rank - ndims]
    if batch.is_fully_defined():
        shape = tf.broadcast_static_shape(batch, log_det.shape)
        if shape == log_det.shape:
            return log_det
        return tf.broadcast_to(log_det, shape)
    if log_det.shape.rank == batch.rank:
        return log_det
    shape = tf.shape(value)[: batch.rank]
    return tf.broadcast_to(
        log_det, tf.broadcast_dynamic_shape(shape, tf.shape(log_det))
    )


def _as_tuple(shape):
    if shape is None:
        return None
    return tuple(None if n is None else int(n) for n in shape)


def _shape_tensor(function, shape):
    static = tf.get_static_value(shape)
    result = function(
        tf.TensorShape(static if static is not None else [None] * shape.shape[0])
    )
    if not result.is_fully_defined():
        raise ValueError(f"The event shape {result} must be static.")
    return tf.constant(result.as_list(), tf.int32)


# Handing results over inside one answer of TFP's.
#
# `TransformedDistribution.log_prob(y)` asks first for `inverse(y) = x` and then for
# `forward_log_det_jacobian(x)`; a `tfb.Chain` walks its members once for the values
# and asks each for its log-determinant afterwards. Inside one run of these functions
# neither variables nor gradient tapes change, so that what a bijector computed stays
# right for as long as that very run lasts, and no longer.

_TFP_CACHE_MODULES = frozenset(
    {
        "tensorflow_probability.python.internal.cache_util",
        "tensorflow_probability.python.bijectors.bijector",
    }
)
_never_again = itertools.count(1)


def _code_of(owner, *names: str) -> Iterable:
    for name in names:
        function = getattr(owner, name, None)
        if function is not None:
            yield inspect.unwrap(function).__code__


_SHARING_CODE = frozenset(
    [
        *_code_of(
            tfd.TransformedDistribution,
            "experimental_local_measure",
            "_sample_and_log_prob",
        ),
        *_code_of(tfb.Chain, "_forward_log_det_jacobian", "_inverse_log_det_jacobian"),
    ]
)
_LIBRARY = (
    "tensorflow_probability.",
    "tensorflow.",
    __name__.rpartition(".")[0] + ".",
    "contextlib",
    "functools",
)


def _sharing_scope():
    """The frame of the outermost TFP answer that this call belongs to, or None.

    Only an unbroken run of library frames counts: once a user's function is in
    between, what it does with the result is unknown.
    """
    scope = None
    frame = sys._getframe(2)
    while frame is not None:
        if not frame.f_globals.get("__name__", "").startswith(_LIBRARY):
            break
        if frame.f_code in _SHARING_CODE:
            scope = frame
        frame = frame.f_back
    return scope


class _Handover(threading.local):
    """Results waiting to be asked for again within the same answer."""

    def __init__(self):
        self.waiting = []

    def put(self, scope, bijector, forward, value, keywords, result, log_det):
        x, y = (value, result) if forward else (result, value)
        fldj = log_det if forward else -log_det
        # An answer that broke off leaves its results behind: drop them.
        self.waiting = [w for w in self.waiting if w[0] is scope]
        self.waiting.append((scope, bijector, x, y, fldj, keywords))

    def find(self, scope, bijector, forward, value, keywords, drop):
        for i, (where, who, x, y, fldj, given) in enumerate(self.waiting):
            if (
                where is scope
                and who is bijector
                and value is (x if forward else y)
                and given.keys() == keywords.keys()
                and all(given[k] is keywords[k] for k in given)
            ):
                if drop:
                    del self.waiting[i]
                return (y, fldj) if forward else (x, -fldj)
        return None


_handover = _Handover()
