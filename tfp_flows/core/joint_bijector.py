"""The base class of every bijector here: value and log-determinant in one pass."""

from __future__ import annotations

import inspect
import itertools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

import tfp_flows.core.pickling  # noqa: F401
from tfp_flows.core.arguments import check_real, check_shape
from tfp_flows.core.conditioner import hold, release
from tfp_flows.core.describe import describe, is_equal
from tfp_flows.core.keras_internals import storage
from tfp_flows.core.shapes import (
    broadcast_context,
    broadcast_log_det,
    check_event_shape,
    sum_trailing,
)
from tfp_flows.core.tfp_internals import (
    handover,
    is_asked_by_cache,
    scope_of,
    set_arguments,
)
from tfp_flows.core.tracking import check_tracked

__all__ = ["JointBijector", "min_event_ndims"]

# Gives TFP's cache a new hash each time it asks for one.
_new_hash = itertools.count(1)
# Methods that a fast path skips; see `JointBijector._fast_paths`.
_BYPASSED = frozenset(
    {
        "_forward_and_log_det",
        "_inverse_and_log_det",
        "_initialize",
        "_replay",
        "_change",
        "_runs",
    }
)


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

    **Iterations.** A subclass sets `has_direct_inverse = False` if one of its
    directions iterates, or if its output does not determine its input (batch
    statistics). A `Chain` with `recompute_gradients=True` then keeps the input instead
    of rebuilding it.

    **Variables** are made in the constructor by `_add_variable`, so that `copy` can
    share them. A Keras layer that is an attribute must be built in the constructor; its
    variables then count as those of the bijector. (A plain `tf.Module` does not see the
    variables of Keras layers.)

    **No cache.** TFP's bijectors keep results between calls. After a variable changed,
    or under a gradient tape opened later, they return old values and wrong gradients.
    This class keeps no results. Where TFP makes several calls for one answer
    (`log_prob` of a `tfd.TransformedDistribution`, log-determinants of a `tfb.Chain`),
    a result is passed from one call to the next within that answer, so that a
    conditioner still runs once.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows.bijectors import JointBijector
      >>> class Gain(JointBijector):
      ...     def __init__(self, log_gain=0.0, name="gain"):
      ...         parameters = dict(locals())
      ...         self._log_gain = self._add_variable("log_gain", log_gain)
      ...         super().__init__(
      ...             forward_min_event_ndims=0, parameters=parameters, name=name
      ...         )
      ...
      ...     def _forward_and_log_det(self, x):
      ...         return x * tf.exp(self._log_gain), self._log_gain
      ...
      ...     def _inverse_and_log_det(self, y):
      ...         return y * tf.exp(-self._log_gain), -self._log_gain
      >>> y, fldj = Gain(1.0).forward_and_log_det(tf.constant([1.0, 2.0]))
      >>> fldj.numpy()
      array([1., 1.], dtype=float32)

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
    """

    # Keys of `references.bib`, or BibTeX entries, for `tfp_flows.citation`.
    papers: tuple[str, ...] = ()

    _has_training_mode = False

    # Arguments of the constructor that `copy` may replace, because no variable depends
    # on them.
    _free_arguments: frozenset[str] = frozenset()

    # Faster paths that a class declares. A declaration holds for the class that makes
    # it, and for subclasses that override none of the methods in `_BYPASSED`: the
    # faster path would skip such an override.
    #
    # * "replay": `_replay` rebuilds an input from an output and evaluates it again, for
    #   `core/recompute.py`, at less cost than the inverse followed by `forward`.
    # * "event_split": `_event_split` and `_change` together do what the two methods do,
    #   so that neighbours with the same split pass the parts on without joining them.
    # * "runs": `_runs` gives the steps of the members, for a bijector made of others.
    # * "untaped": the two methods take no gradients themselves, or take them under
    #   `tf_internals.recording`. They may run while all gradient tapes are stopped.
    _fast_paths: frozenset[str] = frozenset()

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
    ):
        if inverse_min_event_ndims is None:
            inverse_min_event_ndims = forward_min_event_ndims
        if output_event_shape is None:
            output_event_shape = input_event_shape
        self._input_event_shape = _as_tuple(input_event_shape)
        self._output_event_shape = _as_tuple(output_event_shape)
        self._context_shape = (
            None
            if context_shape is None
            else check_shape("context_shape", context_shape, at_least=0)
        )
        super().__init__(
            forward_min_event_ndims=forward_min_event_ndims,
            inverse_min_event_ndims=inverse_min_event_ndims,
            is_constant_jacobian=is_constant_jacobian,
            dtype=None if dtype is None else tf.as_dtype(dtype),
            parameters={k: v for k, v in parameters.items() if k != "__class__"},
            name=name,
        )

    def __setattr__(self, name, value):
        layers = _keras_layers_in(value)
        if layers:
            # In `__dict__`, as TensorFlow would track an attribute that is a list.
            self.__dict__.setdefault("_joint_layers", []).extend(layers)
        super().__setattr__(name, value)
        if layers:
            self._joint_see_layers()

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """All variables, with those of networks."""
        self._joint_see_layers()
        return super().variables

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The variables that training changes, with those of networks."""
        self._joint_see_layers()
        return super().trainable_variables

    # What a subclass implements.

    def _forward_and_log_det(self, x, **keywords):
        raise NotImplementedError(f"{type(self).__name__}._forward_and_log_det")

    def _inverse_and_log_det(self, y, **keywords):
        raise NotImplementedError(f"{type(self).__name__}._inverse_and_log_det")

    def _initialize(self, y, **keywords):
        """Adapts data-dependent parameters to the batch `y`; returns its inverse."""
        return self._inverse_and_log_det(y, **keywords)[0]

    def _is_increasing(self, **keywords):
        """Whether `forward` rises in each entry; an error where nobody knows."""
        raise NotImplementedError(
            f"{self.name}: nobody knows whether it rises or falls, which a cdf, a "
            "survival function or a quantile needs. A bijector of single numbers says "
            "so in a method _is_increasing(**keywords)."
        )

    # Whether each direction is one pass without iterations, and inverts the other up
    # to rounding. If not, a chain that recomputes gradients keeps the input.
    has_direct_inverse = True

    @classmethod
    def _has_fast_path(cls, path: str) -> bool:
        for ancestor in cls.__mro__:
            own = vars(ancestor)
            if "_fast_paths" in own:
                return path in own["_fast_paths"]
            if not _BYPASSED.isdisjoint(own):
                return False
        return False

    @property
    def _event_split(self):
        """An `AxisPartition`, for a class with the fast path "event_split"."""
        return None

    @property
    def _structure(self) -> str:
        """What decides the meaning of the variables, apart from numeric arguments."""
        return ""

    # The name that files of weights store; `None` stands for the name of the class. A
    # class that was renamed keeps its old name here, so that old files still load.
    _saved_as: str | None = None

    # Arguments that change how a density is computed or estimated, but not what the
    # variables mean: terms of a series, iterations, samples.
    _estimation_arguments: frozenset[str] = frozenset()

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

    def forward_and_log_det(
        self, x: Any, **keywords: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
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
        with scope_of(self, "forward_and_log_det"):
            return self._joint_evaluate(x, True, keywords)

    def inverse_and_log_det(
        self, y: Any, **keywords: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
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
        with scope_of(self, "inverse_and_log_det"):
            return self._joint_evaluate(y, False, keywords)

    @property
    def domain(self) -> tuple[float, float] | None:
        """The interval that data must lie in, or `None` for the real line."""
        return None

    @property
    def surface(self) -> str | None:
        """What data must be to lie on the surface that data meet here, in words.

        `None` where they fill space. Elsewhere than on its surface, densities are 0.
        """
        return None

    @property
    def needs_initialization(self) -> bool:
        """Whether parts of this bijector are still to be set by `initialize`."""
        return False

    def initialize(self, y: Any, **keywords: Any) -> tf.Tensor:
        """Sets parameters that depend on data (ActNorm's) from a batch.

        Parts that are initialised already, or restored from a file, stay as they are.

        Args:
          y: a batch of data `[*batch, *output_event]`.
          **keywords: as for `inverse`.

        Returns:
          The noise `[*batch, *input_event]` of that batch after initialisation.

        Raises:
          ValueError: on an empty batch, a wrong shape or context.
          TypeError: on an unknown keyword or another dtype than the bijector's.
        """
        with scope_of(self, "initialize"):
            y, keywords = self._joint_check(y, False, keywords)
            return self._initialize(y, **keywords)

    def copy(self, **overrides: Any) -> JointBijector:
        """A new instance with some constructor arguments replaced.

        The copy shares this bijector's variables, as TFP's bijectors do; use
        `copy.deepcopy` for variables of its own.

        Args:
          **overrides: constructor arguments. For a bijector with variables of its own,
            only arguments that no variable depends on may differ.

        Returns:
          The copy.

        Raises:
          ValueError: if a variable may depend on an override, or if the constructor
            makes variables other than by `_add_variable`, which cannot be shared.
        """
        cls = type(self)
        if "validate_args" not in inspect.signature(cls.__init__).parameters:
            # TFP's tools set it on every bijector; most classes here have no such
            # argument.
            overrides.pop("validate_args", None)
        own = self._joint_variables
        free = self._free_arguments | {"name"}
        fixed = sorted(
            name
            for name, value in overrides.items()
            if name not in free and not is_equal(value, self.parameters.get(name))
        )
        if own and fixed:
            raise ValueError(
                f"{self.name}: a copy shares the variables, so {', '.join(fixed)} "
                f"cannot be replaced (only {sorted(free)}). "
                f"Build a new {cls.__name__} instead."
            )
        new: Any = cls.__new__(cls)
        new.__dict__["_joint_shared"] = types.SimpleNamespace(**own)
        new.__init__(**{**self.parameters, **overrides})
        known = {id(v) for v in _variables_in((self, list(overrides.values())))}
        unknown = [v.name for v in new.variables if id(v) not in known]
        if unknown:
            raise ValueError(
                f"{self.name}: a copy must share all variables, but the constructor of "
                f"{cls.__name__} makes new ones ({', '.join(unknown)}). Make them with "
                "self._add_variable(name, value), or use copy.deepcopy."
            )
        return new

    def __repr__(self):
        return describe(self)

    # A Keras layer is both an argument and part of a conditioner. `hold` and `release`
    # make sure that it is still one layer in a deep copy or after unpickling.

    def __getstate__(self):
        arguments = {k: hold(v) for k, v in self.parameters.items()}
        state = {**self.__dict__, "_parameters": arguments}
        # The copy lists the variables of its own layers.
        state.pop("_joint_layer_variables", None)
        return state

    def __setstate__(self, state):
        arguments = {k: release(v) for k, v in state["_parameters"].items()}
        self.__dict__.update({**state, "_parameters": arguments})

    # The bridge to TFP's methods.

    def _call_forward(self, x, name, **keywords):
        with scope_of(self, name):
            return self._joint_evaluate(x, True, keywords)[0]

    def _call_inverse(self, y, name, **keywords):
        with scope_of(self, name):
            return self._joint_evaluate(y, False, keywords)[0]

    def _call_forward_log_det_jacobian(self, x, event_ndims, name, **keywords):
        with scope_of(self, name):
            _, fldj = self._joint_evaluate(x, True, keywords, last=True)
            return self._joint_sum_events(
                fldj, event_ndims, self.forward_min_event_ndims
            )

    def _call_inverse_log_det_jacobian(self, y, event_ndims, name, **keywords):
        with scope_of(self, name):
            _, ildj = self._joint_evaluate(y, False, keywords, last=True)
            return self._joint_sum_events(
                ildj, event_ndims, self.inverse_min_event_ndims
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward_event_shape(self, input_shape):
        return self._joint_event_shape(
            input_shape, self._input_event_shape, self._output_event_shape
        )

    def _inverse_event_shape(self, output_shape):
        return self._joint_event_shape(
            output_shape, self._output_event_shape, self._input_event_shape
        )

    def _forward_event_shape_tensor(self, input_shape):
        return _shape_tensor(self._forward_event_shape, input_shape)

    def _inverse_event_shape_tensor(self, output_shape):
        return _shape_tensor(self._inverse_event_shape, output_shape)

    def _joint_event_shape(self, given, source, target):
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
            # Sizes that the target leaves open (`None`) are those given.
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
        # TFP's compositions cache values under a hash of their members, and do not
        # notice that the variables of a member have changed. A new hash each time makes
        # sure that the cache finds nothing. All other callers get a stable hash.
        return next(_new_hash) if is_asked_by_cache() else object.__hash__(self)

    # Helpers for subclasses.

    def _set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Sets the arguments that `copy` calls the constructor with.

        A class calls this if the constructor that it inherits has other arguments.
        """
        set_arguments(self, parameters)

    def _add_variable(
        self, name: str, value: Any, trainable: bool = True, **options: Any
    ) -> tf.Variable:
        """Makes a variable of this bijector; in a `copy`, returns the original's.

        Args:
          name: its name, different from those of the other variables.
          value: the initial value, or a function that returns it.
          trainable: whether it is trained.
          **options: further arguments of `tf.Variable`.

        Returns:
          The variable.
        """
        shared = self.__dict__.get("_joint_shared")
        variable = None if shared is None else vars(shared).get(name)
        if variable is None:
            with tf.init_scope():
                variable = tf.Variable(
                    value() if callable(value) else value,
                    trainable=trainable,
                    name=name,
                    **options,
                )
        self._joint_variables[name] = variable
        return variable

    @property
    def _joint_variables(self) -> dict[str, tf.Variable]:
        """The variables by the names given to `_add_variable`."""
        # `tf.Module` lists variables in dictionaries, but does not look into other
        # objects: each variable is listed once, as the attribute that it is.
        names = self.__dict__.setdefault("_joint_names", types.SimpleNamespace())
        return vars(names)

    def _joint_sum_events(self, log_det, event_ndims, min_event_ndims):
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

    def _joint_see_layers(self, in_use: bool = False) -> None:
        """Lists the variables of Keras layers among those of this `tf.Module`."""
        layers = self.__dict__.get("_joint_layers", ())
        if in_use and not all(layer.built for layer in layers):
            names = ", ".join(layer.name for layer in layers if not layer.built)
            raise ValueError(
                f"{self.name}: the Keras layer(s) {names} have no variables yet, so "
                "nobody could have trained or saved them. Build them in the "
                "constructor: layer.build((None, size))."
            )
        found = [v.value for layer in layers for v in layer.variables]
        if len(found) != len(self.__dict__.get("_joint_layer_variables", ())):
            self._joint_layer_variables = found

    # AutoGraph has nothing to convert here, and would slow tracing down.
    @tf.autograph.experimental.do_not_convert
    def _joint_evaluate(self, given, forward, given_keywords, last=False):
        check_tracked(self)
        self._joint_see_layers(in_use=True)
        answer = handover.answer()
        if answer is not None:
            found = handover.find(answer, self, forward, given, given_keywords, last)
            if found is not None:
                return found
        value, keywords = self._joint_check(given, forward, given_keywords)
        method = self._forward_and_log_det if forward else self._inverse_and_log_det
        result, log_det = method(value, **keywords)
        # With a batch of parameters, the batch of the result may be larger than that
        # of the value.
        log_det = broadcast_log_det(
            log_det, result, min_event_ndims(self, not forward), self.name
        )
        log_det = _nan_where_nan(log_det, value, min_event_ndims(self, forward))
        if "context" in keywords:
            result, log_det = self._joint_mark(
                result, log_det, keywords["context"], forward
            )
        if answer is not None and not last:
            handover.put(answer, self, forward, given, given_keywords, result, log_det)
        return result, log_det

    def _joint_mark(self, result, log_det, context, forward):
        """Makes results NaN where the context is not finite.

        A network may return finite numbers for such a context.
        """
        if not context.dtype.is_floating:
            return result, log_det
        rank = context.shape.rank
        axes = list(range(rank - len(self._context_shape), rank))
        is_known = tf.reduce_all(tf.math.is_finite(context), axes)
        mark = tf.where(is_known, tf.zeros([], log_det.dtype), np.nan)
        shape = tf.concat([tf.shape(mark), [1] * min_event_ndims(self, not forward)], 0)
        return result + tf.reshape(mark, shape), log_det + mark

    def _joint_check(self, value, forward, keywords):
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
        value = self._joint_check_value(value, forward)
        if self._context_shape is not None:
            value, context = broadcast_context(
                value,
                min_event_ndims(self, forward),
                keywords.get("context"),
                self._context_shape,
                self.name,
            )
            keywords = {**keywords, "context": context}
        return value, keywords

    def _joint_check_value(self, value, forward):
        argument, shape = (
            ("x", self._input_event_shape)
            if forward
            else ("y", self._output_event_shape)
        )
        if not tf.is_tensor(value):
            check_real(f"{self.name}: {argument}", value)
            # Python's numbers and lists become float32; arrays keep their precision.
            is_array = hasattr(value, "dtype") and self.dtype is None
            value = tf.convert_to_tensor(
                value,
                dtype_hint=None if is_array else self.dtype or tf.float32,
                name=argument,
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
        return check_event_shape(
            value, shape, min_event_ndims(self, forward), f"{self.name}: {argument}"
        )


def min_event_ndims(bijector: tfb.Bijector, forward: bool) -> int:
    """Rank of the smallest event that a direction of a bijector takes."""
    return (
        bijector.forward_min_event_ndims
        if forward
        else bijector.inverse_min_event_ndims
    )


def _keras_layers_in(value):
    """A layer, or those in a list, tuple or dictionary."""
    if isinstance(value, Mapping):
        value = list(value.values())
    values = value if isinstance(value, (list, tuple)) else [value]
    return [x for x in values if isinstance(x, keras.layers.Layer)]


def _nan_where_nan(log_det, value, ndims):
    """Makes the log-determinant NaN for events that hold a NaN."""
    missing = tf.math.is_nan(tf.stop_gradient(value))
    if ndims:
        rank = value.shape.rank
        missing = tf.reduce_any(missing, list(range(rank - ndims, rank)))
    return tf.where(missing, tf.constant(float("nan"), log_det.dtype), log_det)


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


def _variables_in(nest):
    """All variables in a nest of modules, variables and other things."""
    for x in tf.nest.flatten(nest):
        if isinstance(x, keras.Variable):
            yield storage(x)
        elif isinstance(x, tf.Variable):
            yield x
        else:
            yield from _variables_in(list(getattr(x, "variables", ())))
