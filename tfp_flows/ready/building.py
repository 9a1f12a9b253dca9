"""`@ready`: makes a flow of a generator of bijectors."""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows import distributions
from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_shape,
    check_unused,
)
from tfp_flows.core.seeds import new_seed
from tfp_flows.ready.docstrings import describe_shapes, document
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.registry import key_of, make_config, plain, register

__all__ = ["ready"]

_OPTIONAL = (
    "levels",
    "wavelets",
    "scale",
    "max_log_scale",
    "dropout",
    "context_mode",
    "class_drop",
    "conditioner_dtype",
)


class _Kind:
    """What `@ready` knows about one flow."""

    def __init__(
        self, build, flatten, shapes, center, takes, without, at_least, sizes, defaults
    ):
        self.name, self.flatten, self.shapes = build.__name__, flatten, shapes
        self.center, self.takes, self.at_least = center, takes, at_least
        self.vectors, self.images = sizes
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
        self.fixed = {p.name: p.default for p in shared if p.name in without}
        shared = [p for p in shared if p.name not in without]
        self.shared = {p.name: p for p in shared}
        self.signature = inspect.Signature(
            [event_shape, *own, *shared],
            return_annotation=distributions.Flow | distributions.LowerBound,
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
        found = {k: plain(v) for k, v in bound.arguments.items()}
        found["event_shape"] = self._event_shape(found["event_shape"])
        for name, parameter in self.signature.parameters.items():
            found[name] = self._checked(name, parameter.annotation, found[name])
        found["seed"] = new_seed(found["seed"])
        found["dtype"] = _dtype_name(found["dtype"])
        found["name"] = self.name if found["name"] is None else found["name"]
        found["context_encoder"] = _layer(found["context_encoder"])
        return found

    def suited(self, own: Mapping[str, Any], is_image: bool) -> dict[str, Any]:
        """Own options, where they are `None` the defaults for vectors or images."""
        here, there = self.vectors, self.images
        if is_image:
            here, there = there, here
        elsewhere = {k: own[k] for k in there.keys() - here.keys()}
        check_unused(f"for {'vectors' if is_image else 'images'}", **elsewhere)
        return {k: here.get(k) if v is None else v for k, v in own.items()}

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


def ready(
    *,
    flatten: bool = False,
    shapes: Sequence[int] = (1, 3),
    center: float = 0.5,
    takes: Sequence[str] = (),
    without: Sequence[str] = (),
    at_least: Mapping[str, int] | None = None,
    vectors: Mapping[str, Any] | None = None,
    images: Mapping[str, Any] | None = None,
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
        `"levels"`, `"wavelets"`, `"scale"`, `"max_log_scale"`, `"dropout"`,
        `"context_mode"`, `"class_drop"`, `"conditioner_dtype"`.
      without: which of the shared options this flow does not take, although others do;
        they have their defaults.
      at_least: lowest value of options that are whole numbers, where it is not 1.
      vectors: defaults on vectors of options that are `None` in the signature. What is
        not in it but in `images` is refused there.
      images: the same on images.
      name: what a `config` calls the flow; by default `"module:function"`. A function
        that is defined inside another one needs one to be saved.
      **defaults: other defaults of shared options.

    Returns:
      A decorator. It makes a function that returns a `Flow`, or with `dequantize` a
      `VariationalDequantization` or `MixedDequantization`.

    Raises:
      TypeError: if the function is no generator, has options without a `*` in front, or
        with names of shared ones.
      ValueError: if another flow has the `name` already.
    """

    def decorate(build):
        if not inspect.isgeneratorfunction(build):
            raise TypeError(f"{build.__name__} must yield bijectors.")
        kind = _Kind(
            build,
            flatten,
            tuple(shapes),
            center,
            takes,
            without,
            at_least or {},
            (vectors or {}, images or {}),
            defaults,
        )
        key = name or key_of(build)

        @functools.wraps(build)
        def flow(*args, **options):
            arguments = kind.arguments(args, options)
            shared = {k: v for k, v in arguments.items() if k not in kind.own}
            own = {k: v for k, v in arguments.items() if k in kind.own}
            plan = Plan(kind, **shared, **kind.fixed)
            own = kind.suited(own, plan.is_image)
            return plan.assemble(build(plan, **own), make_config(key, arguments))

        flow.__signature__ = kind.signature
        flow.__doc__ = document(
            build.__doc__, Plan.__doc__, kind.shared, describe_shapes(shapes, flatten)
        )
        flow.__annotations__ = {
            k: p.annotation for k, p in kind.signature.parameters.items()
        }
        if "<locals>" not in key:
            register(key, flow)
        return flow

    return decorate


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


def _dtype_name(dtype):
    try:
        name = tf.as_dtype(dtype).name
    except TypeError:
        name = dtype
    return check_choice("dtype", name, ("float32", "float64"))
