"""`@ready`: makes a flow of a generator of bijectors."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows import bijectors, distributions
from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_shape,
    check_unused,
)
from tfp_flows.core.seeds import generator, new_seed
from tfp_flows.distributions.flow import with_config
from tfp_flows.distributions.tracked import without_given_name
from tfp_flows.flows.bases import make_base
from tfp_flows.flows.contexts import resolve_context
from tfp_flows.flows.dequantization import Dequantization
from tfp_flows.flows.preprocessing import preprocess

__all__ = ["READY", "Plan", "check_config", "from_config", "ready"]

_REGISTERED: dict[str, Callable[..., Any]] = {}
# All ready flows by the name that a `config` holds: those of `tfp_flows.flows`, and
# users' own under "module:function".
READY: Mapping[str, Callable[..., Any]] = types.MappingProxyType(_REGISTERED)

_OPTIONAL = ("context_mode", "conditioner_dtype")


class Plan:
    """What a ready flow is told: shapes, dtypes, seeds, and the shared options.

    Attributes:
      event_shape: shape of an event where the flow's own bijectors meet it, a tuple;
        `(D,)` for images that are flattened.
      data_shape: shape of an event of data, a tuple.
      size: number of entries of an event.
      is_image: whether `event_shape` is an image's.
      context_shape: shape of a context as bijectors get it, or `None`.
      dtype: name of the flow's dtype.
      name: name of the flow.
      layer: arguments that a bijector with a network takes: `context_shape`, `dtype`.

    Args:
      event_shape: sequence of ints, the shape of the data: `(D,)` for vectors or
        `(H, W, C)` for images.
      base: string or mapping, distribution of the noise: `"normal"`, `"logistic"`,
        `"diagonal"` (learned mean and deviation), `"student_t"` (heavy tails),
        `"mixture"` (of Gaussians), `"resampled"` (a network rejects samples) or
        `"class_conditional"` (a Gaussian for each of `num_classes`); or a mapping with
        that `"name"` and arguments of the base, such as
        `{"name": "mixture", "components": 20}`, see `tfp_flows.distributions`.
      bounds: pair `(low, high)` of the data, which are scaled to an interval of length
        one; `(0, 256)` for 8-bit pixels with noise. Each is a number, or an array that
        broadcasts to `event_shape`: `([0, 1], [10, 20])` are the bounds of two
        features, from 0 to 10 and from 1 to 20.
      logit_margin: float in (0, 0.5). If given, the logit of the scaled data with this
        margin is modelled, so that samples stay within `bounds` but for the margin.
      normalize: bool, whether each feature (channel of images) is brought to mean 0 and
        deviation 1 by the data, in front of all else and untrained; `"robust"` takes
        median and quartiles. By default, yes, unless `bounds` are given.
      dequantize: string or mapping, for integers from 0 to K - 1 with `bounds=(0, K)`:
        `"uniform"` adds uniform noise, `"variational"` noise of a learned flow. The
        result is a `VariationalDequantization`, a distribution of integers. A mapping
        holds that `"name"` and arguments, such as `{"name": "variational", "samples":
        4}`, see
        `tfp_flows.flows.Dequantization`. By default data are real numbers.
      context_shape: sequence of ints, shape of one context, or `None`.
      num_classes: int, instead of `context_shape`: the context is an integer label
        from 0 to `num_classes - 1`.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow: a convolutional network for images, an
        `Embedding` for integer labels (`context_shape=()`).
      normalize_context: bool, whether contexts are brought to mean 0 and deviation 1 by
        the data. By default, yes, if they are numbers and there is no
        `context_encoder`.
      context_mode: string, how networks take the context: `"concat"` joins it to the
        input, `"film"` scales and shifts hidden layers. By default `"concat"`.
      conditioner_dtype: string, `"bfloat16"` or `"float16"` for networks that compute
        in half precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: bool, whether gradients rebuild activations instead of
        keeping them: memory does not grow with depth, a step takes about a third
        longer. See `tfp_flows.bijectors.Chain`.
      seed: int of any size for the initial weights and all that is drawn at random. By
        default a new one, which `keras.utils.set_random_seed` makes reproducible.
      dtype: string, `"float32"` or `"float64"`.
      name: string, name of the flow; that of its chain is `"{name}_chain"`. By default
        the name of the function.
    """

    def __init__(
        self,
        kind: _Kind,
        event_shape: Sequence[int],
        *,
        base: str | Mapping[str, Any] = "normal",
        bounds: Sequence[Any] | None = None,
        logit_margin: float | None = None,
        normalize: bool | str | None = None,
        dequantize: str | Mapping[str, Any] | None = None,
        context_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        context_encoder: keras.layers.Layer | None = None,
        normalize_context: bool | None = None,
        context_mode: str | None = None,
        conditioner_dtype: str | None = None,
        recompute_gradients: bool = False,
        seed: int | None = None,
        dtype: Any = "float32",
        name: str | None = None,
    ):
        self.data_shape = event_shape = tuple(event_shape)
        flat = (math.prod(event_shape),)
        self.event_shape = flat if kind.flatten else event_shape
        self.size, self.is_image = flat[0], len(self.event_shape) == 3
        self.dtype, self.name = dtype, kind.name if name is None else name
        self._is_named = self.name != kind.name
        self.conditioner_dtype = conditioner_dtype
        self.recompute_gradients = recompute_gradients
        self._draw = generator(seed)
        self.context_shape, self._encoder = resolve_context(
            context_shape, num_classes, dtype, context_encoder, normalize_context
        )
        if self.context_shape is None:
            check_unused("for a flow with a context", context_mode=context_mode)
        self._network = {"dtype": dtype}
        if "conditioner_dtype" in kind.takes:
            self._network["dtype"] = network_dtype(dtype, conditioner_dtype)
        if "context_mode" in kind.takes:
            self._network["context_mode"] = context_mode or "concat"
        self.layer = {"context_shape": self.context_shape, "dtype": dtype}
        self._base, self._dequantize = base, None
        if dequantize is not None:
            self._dequantize = Dequantization(dequantize, bounds)
        self._first = preprocess(
            event_shape, bounds, logit_margin, normalize, kind.center, dtype
        )
        if kind.flatten and len(event_shape) == 3:
            self._first.append(tfb.Reshape(event_shape, flat))

    def seed(self) -> int:
        """A new seed, at every call."""
        return int(self._draw.integers(2**31))

    def network(self) -> dict[str, Any]:
        """Arguments of a network: a new `seed`, a `dtype`, a `context_mode`."""
        return {"seed": self.seed(), **self._network}

    def of_noise(self) -> Plan:
        """The plan of a flow of noise whose context are the data."""
        noise = copy.copy(self)
        noise.event_shape = noise.context_shape = self.data_shape
        noise.is_image = len(self.data_shape) == 3
        noise.layer = {**self.layer, "context_shape": self.data_shape}
        noise._network = {"dtype": self._network["dtype"]}
        return noise

    def chain(self, members: Iterable[tfb.Bijector], name: str) -> bijectors.Chain:
        """A chain that recomputes gradients if the flow does."""
        return bijectors.Chain(
            list(members), name=name, recompute_gradients=self.recompute_gradients
        )

    def assemble(
        self, members: Iterable[tfb.Bijector], config: Mapping[str, Any]
    ) -> distributions.Flow | distributions.VariationalDequantization:
        """The flow of all members, in the order in which data meet them."""
        chain = self.chain([*self._first, *members], f"{self.name}_chain")
        noise_shape = chain.inverse_event_shape(self.data_shape).as_list()
        base = make_base(
            self._base, noise_shape, self._encoder, self.dtype, self.seed()
        )
        flow = distributions.Flow(
            base,
            chain,
            context_encoder=self._encoder,
            context_shape=getattr(self._encoder, "input_shape", None),
            name=self.name,
        )
        if self._dequantize is not None:
            flow = self._dequantize(flow, self)
        if not self._is_named:
            flow = without_given_name(flow)
        return with_config(flow, config)


class _Kind:
    """What `@ready` knows about one flow."""

    def __init__(self, build, flatten, shapes, center, takes, at_least, defaults):
        self.build, self.flatten, self.shapes = build, flatten, shapes
        self.center, self.takes, self.at_least = center, takes, at_least
        self.name = build.__name__
        plan, *own = inspect.signature(build, eval_str=True).parameters.values()
        shared = inspect.signature(Plan, eval_str=True).parameters
        _, event_shape, *shared = shared.values()
        shared = [
            p.replace(default=defaults.get(p.name, p.default))
            for p in shared
            if p.name not in _OPTIONAL or p.name in takes
        ]
        taken = {p.name for p in own} & {p.name for p in (event_shape, *shared)}
        if taken:
            raise TypeError(f"{self.name}: {sorted(taken)} are options of all flows.")
        if any(p.kind is not p.KEYWORD_ONLY for p in own):
            raise TypeError(f"{self.name}: options after `{plan.name}` need a `*`.")
        self.own = {p.name: p for p in own}
        self.shared = {p.name: p for p in shared}
        self.signature = inspect.Signature(
            [event_shape, *own, *shared],
            return_annotation=distributions.Flow
            | distributions.VariationalDequantization,
        )

    def arguments(
        self, args: Sequence[Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All arguments, checked, with defaults and seed."""
        unknown = sorted(options.keys() - self.signature.parameters.keys())
        if unknown:
            known = ", ".join(self.signature.parameters)
            raise TypeError(
                f"{self.name} has no option {unknown[0]!r}; known: {known}."
            )
        bound = self.signature.bind(*args, **options)
        bound.apply_defaults()
        found = {k: _plain(v) for k, v in bound.arguments.items()}
        found["event_shape"] = self._event_shape(found["event_shape"])
        for name, parameter in self.signature.parameters.items():
            found[name] = self._checked(name, parameter.annotation, found[name])
        found["seed"] = new_seed(found["seed"])
        found["dtype"] = _dtype_name(found["dtype"])
        found["name"] = self.name if found["name"] is None else found["name"]
        found["context_encoder"] = _layer(found["context_encoder"])
        return found

    def _event_shape(self, event_shape):
        shape = check_shape("event_shape", event_shape)
        if len(shape) not in (1, 3):
            raise ValueError(
                "event_shape must be (D,) for vectors or (H, W, C) for images, got "
                f"{shape}."
            )
        if len(shape) not in self.shapes:
            wanted = "images, (H, W, C)" if self.shapes == (3,) else "vectors, (D,)"
            instead = "; for vectors use real_nvp" if self.shapes == (3,) else ""
            raise ValueError(
                f"{self.name} needs the event_shape of {wanted}; got {shape}{instead}."
            )
        return shape

    def _checked(self, name, annotation, value):
        is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        allowed = typing.get_args(annotation) if is_union else (annotation,)
        if value is None and type(None) in allowed:
            return value
        own = [t for t in allowed if t is not type(None)]
        if own == [int]:
            lowest = -math.inf if name == "seed" else self.at_least.get(name, 1)
            return check_integer(name, value, lowest)
        if own == [float]:
            return check_number(name, value)
        if own == [bool]:
            return bool(check_choice(name, value, (False, True)))
        if own == [str] and not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {value!r}.")
        return value

    def document(self) -> str:
        """The flow's docstring with the shared options in it."""
        own, shared = _sections(self.build.__doc__), _sections(Plan.__doc__)
        texts = _entries(shared["Args"])
        lines = ["event_shape: " + self._describe_shapes(), own.get("Args", "")]
        lines += [texts[name] for name in self.shared]
        sections = {"": own[""], "Args": "\n".join(filter(None, lines))}
        sections["Returns"] = own.get("Returns") or (
            "A `Flow` over `event_shape`, with `dequantize` a\n"
            "`VariationalDequantization` of one; densities are those of the data as\n"
            "given, in nats."
        )
        sections["Raises"] = "\n".join(
            filter(
                None,
                [
                    "TypeError: on an option that is not known, or of a wrong type.",
                    "ValueError: on a value out of range, or an option that has no\n"
                    "  meaning beside the others.",
                    own.get("Raises"),
                ],
            )
        )
        if "Example" in own:
            sections["Example"] = own["Example"]
        return "\n\n".join(
            f"{title}:\n{textwrap.indent(text, '  ')}" if title else text
            for title, text in sections.items()
        )

    def _describe_shapes(self):
        if self.shapes == (3,):
            return "sequence of ints, `(H, W, C)`."
        if self.shapes == (1,):
            return "sequence of ints, `(D,)`."
        flat = "; images are flattened" if self.flatten else ""
        return f"sequence of ints, `(D,)` or `(H, W, C)`{flat}."


def ready(
    *,
    flatten: bool = False,
    shapes: Sequence[int] = (1, 3),
    center: float = 0.5,
    takes: Sequence[str] = (),
    at_least: Mapping[str, int] | None = None,
    name: str | None = None,
    **defaults: Any,
) -> Callable[[Callable[..., Iterable[tfb.Bijector]]], Callable[..., Any]]:
    """Decorates a generator of bijectors: makes it a ready flow.

    The function takes a `Plan`, and options of its own by keyword. It yields bijectors
    in the order in which data meet them. What it becomes takes an `event_shape`, these
    options and the shared ones of `Plan`, in signature and documentation too; draws
    seeds, preprocesses, assembles a `Flow`, and records in its `config` how to build it
    again. So models of the flow save and load, where the module that defines it has
    been imported.

    Options annotated `int`, `float`, `bool` or `str` (or these with `None`) are
    checked: whole numbers are at least 1 unless `at_least` says otherwise.

    Example:
      >>> from tfp_flows import bijectors, flows
      >>> @flows.ready(flatten=True, name="my_package:rotations")
      ... def rotations(plan, *, layers: int = 2):
      ...     '''Learned matrices.
      ...
      ...     Args:
      ...       layers: number of matrices.
      ...     '''
      ...     for i in range(layers):
      ...         yield bijectors.PLU(plan.size, seed=plan.seed(), dtype=plan.dtype)
      >>> flow = rotations((3,), layers=1, normalize=False, seed=0)
      >>> flow.log_prob([0.0, 0.0, 0.0]).shape
      TensorShape([])

    Args:
      flatten: whether images are flattened in front of the flow's own bijectors.
      shapes: ranks of the events that the flow takes: 1 for vectors, 3 for images.
      center: data in `bounds` are scaled to `[-center, 1 - center]`.
      takes: which of the shared options that not every flow has this one takes:
        `"context_mode"`, `"conditioner_dtype"`.
      at_least: lowest value of options that are whole numbers, where it is not 1.
      name: what a `config` calls the flow; by default `"module:function"`. A function
        that is defined inside another one needs one to be saved.
      **defaults: other defaults of shared options.

    Raises:
      TypeError: if the function is no generator, has options without a `*` in front, or
        with names of shared ones.
      ValueError: if another flow has the `name` already.
    """

    def decorate(build):
        if not inspect.isgeneratorfunction(build):
            raise TypeError(f"{build.__name__} must yield bijectors.")
        kind = _Kind(
            build, flatten, tuple(shapes), center, takes, at_least or {}, defaults
        )
        key = name or _key_of(build)

        @functools.wraps(build)
        def flow(*args, **options):
            arguments = kind.arguments(args, options)
            shared = {k: v for k, v in arguments.items() if k not in kind.own}
            own = {k: v for k, v in arguments.items() if k in kind.own}
            plan = Plan(kind, **shared)
            return plan.assemble(build(plan, **own), _describe(key, arguments))

        flow.__signature__ = kind.signature
        flow.__doc__ = kind.document()
        flow.__annotations__ = {
            k: p.annotation for k, p in kind.signature.parameters.items()
        }
        if "<locals>" not in key:
            _register(key, flow)
        return flow

    return decorate


def check_config(config: Mapping[str, Any] | None) -> None:
    """Raises a ValueError if `from_config` could not build a flow of this `config`.

    Raises:
      ValueError: if there is none, or the flow's function cannot be found by its name.
    """
    name = None if config is None else config.get("flow")
    if name in READY:
        return
    if name is not None and "<locals>" in name:
        raise ValueError(
            f"the ready flow {name} is defined inside a function, where it cannot be "
            "found again: define it at the top of a module, or give it a name by "
            '@ready(name="package:flow").'
        )
    raise ValueError(
        f"config names the flow {name!r}; known: {sorted(READY)}. Import the module "
        "that defines it first."
    )


def from_config(config: Mapping[str, Any]) -> distributions.Flow:
    """Builds a ready flow again from its `config`.

    Args:
      config: mapping, the `config` of a ready flow, through JSON or not.

    Raises:
      ValueError: if the configuration names no ready flow, or has arguments that it
        does not take.
    """
    check_config(config)
    arguments = dict(config)
    name = arguments.pop("flow")
    try:
        return READY[name](**arguments)
    except TypeError as error:
        raise ValueError(f"config of {name} is not understood: {error}") from error


def _key_of(build: Callable) -> str:
    """What a `config` calls a flow; ours go by the name of the function."""
    ours = __name__.rpartition(".")[0] + "."
    if build.__module__.startswith(ours):
        return build.__name__
    return f"{build.__module__}:{build.__qualname__}"


def _register(key, flow):
    known = _REGISTERED.get(key)
    # The same function of the same module is the one to be, after a reload.
    same = known is None or (known.__module__, known.__qualname__) == (
        flow.__module__,
        flow.__qualname__,
    )
    if not same:
        raise ValueError(
            f"the name {key!r} is taken by {known.__module__}.{known.__qualname__}."
        )
    _REGISTERED[key] = flow


def _describe(key, arguments):
    config = {"flow": key, **arguments}
    config["event_shape"] = list(arguments["event_shape"])
    encoder = config.pop("context_encoder")
    if encoder is not None:
        # Keras describes a layer with the shape that it was built for.
        described = keras.saving.serialize_keras_object(encoder)
        config["context_encoder"] = _plain(described)
    return config


def _layer(encoder):
    """The Keras layer that was given, or that is described in a `config`."""
    if isinstance(encoder, Mapping):
        encoder = keras.saving.deserialize_keras_object(encoder)
    if encoder is not None and not isinstance(encoder, keras.layers.Layer):
        raise TypeError(
            "context_encoder must be a Keras 3 layer or model, got "
            f"{type(encoder).__name__}; tfp_flows.Flow takes any callable."
        )
    return encoder


def _plain(value):
    """What JSON can hold, for an argument that need not be so plain."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, tf.TensorShape):
        return value.as_list()
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _dtype_name(dtype):
    try:
        name = tf.as_dtype(dtype).name
    except TypeError:
        name = dtype
    return check_choice("dtype", name, ("float32", "float64"))


def network_dtype(dtype: Any, conditioner_dtype: str | None) -> Any:
    """What networks get as their `dtype`: the flow's, or a mixed policy of Keras."""
    if conditioner_dtype is None:
        policy = keras.config.dtype_policy()
        is_mixed = policy.compute_dtype != policy.variable_dtype
        return policy if is_mixed and policy.variable_dtype == dtype else dtype
    if conditioner_dtype == dtype:
        return dtype
    if conditioner_dtype not in ("bfloat16", "float16") or dtype != "float32":
        raise ValueError(
            f"conditioner_dtype must be None or {dtype!r}"
            + (', "bfloat16" or "float16"' if dtype == "float32" else "")
            + f" for a {dtype} flow, got {conditioner_dtype!r}."
        )
    return keras.DTypePolicy(f"mixed_{conditioner_dtype}")


def _sections(doc: str | None) -> dict[str, str]:
    """A docstring's text by the titles of its sections; what is before them by ""."""
    parts = re.split(r"^(\w+):\n", inspect.cleandoc(doc or ""), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    texts = {title: textwrap.dedent(text).strip() for title, text in sections}
    return {"": parts[0].strip(), **texts}


def _entries(text: str) -> dict[str, str]:
    """The entries of an `Args:` section by name."""
    found = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return {entry.partition(":")[0]: entry.rstrip() for entry in found if entry}
