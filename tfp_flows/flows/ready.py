"""What the ready flows share: their description, data bounds, bases and labels."""

from __future__ import annotations

import functools
import inspect
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors, distributions

tfb = tfp.bijectors

__all__ = [
    "OneHot",
    "assemble",
    "layer_seeds",
    "preprocess",
    "ready",
    "resolve_context",
]


def ready(build: Callable) -> Callable:
    """Makes a function that builds a flow record how to build it again.

    The returned flow's `config` holds the function's name and all its arguments, with
    the seed that was drawn if none was given.
    """
    signature = inspect.signature(build)

    @functools.wraps(build)
    def wrapper(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {k: _plain(v) for k, v in bound.arguments.items()}
        arguments["event_shape"] = check_event_shape(arguments["event_shape"])
        if arguments["seed"] is None:
            arguments["seed"] = random.randrange(2**31)
        arguments["dtype"] = tf.as_dtype(arguments["dtype"]).name
        config = {"flow": build.__name__, **arguments}
        config["event_shape"] = list(arguments["event_shape"])
        return build(**arguments).copy(config=config)

    return wrapper


def _plain(value):
    """What JSON can hold, for an argument that need not be so plain."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, tf.TensorShape):
        return value.as_list()
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value


def check_event_shape(event_shape) -> tuple[int, ...]:
    """A vector's or an image's shape as integers."""
    shape = tuple(int(n) for n in event_shape)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(
            "event_shape must be (D,) for vectors or (H, W, C) for images, got "
            f"{shape}."
        )
    if math.prod(shape) < 2:
        raise ValueError(
            f"event_shape is {shape}: a coupling keeps one part of an event to "
            "transform the other, so an event needs two features or more."
        )
    return shape


def preprocess(
    event_shape: tuple[int, ...],
    bounds: Sequence[float] | None,
    alpha: float | None,
    normalize: bool,
    center: float,
    dtype: Any,
) -> list[tfb.Bijector]:
    """The bijectors that data meet first.

    With `alpha`, the logit of data in `bounds`; with `bounds` alone, data are scaled to
    `[-center, 1 - center]`. With `normalize`, each feature (or channel) is standardised
    by the first batch.
    """
    if normalize and (bounds is not None or alpha is not None):
        raise ValueError("normalize=True is for data without bounds and alpha.")
    if normalize:
        # The floor on the variance is to catch constants, not small units.
        return [
            bijectors.ActNorm(event_shape, epsilon=1e-12, dtype=dtype, name="normalize")
        ]
    if bounds is None:
        if alpha is not None:
            raise ValueError("alpha needs bounds: (low, high) of the data.")
        return []
    low, high = map(float, bounds)
    if not low < high:
        raise ValueError(f"bounds must be (low, high), got {tuple(bounds)}.")
    if alpha is not None:
        return [bijectors.Logit(alpha, low, high)]
    # x = low + (high - low) (u + center): the last one comes first.
    number = tf.as_dtype(dtype).as_numpy_dtype
    size = high - low
    return [tfb.Shift(number(low + center * size)), tfb.Scale(number(size))]


class OneHot:
    """Integer labels `[...]` as one-hot vectors `[..., num_classes]`.

    A label outside `[0, num_classes)` is an error where its value is known, and gives
    NaN inside a compiled function, which no loss overlooks.

    Raises:
      ValueError: if labels are not integers, or not in `[0, num_classes)`.
    """

    def __init__(self, num_classes: int, dtype: Any):
        self.num_classes, self.dtype = num_classes, dtype

    def __call__(self, labels):
        if not labels.dtype.is_integer:
            raise ValueError(
                f"context must hold integer labels in [0, {self.num_classes}), got "
                f"dtype {labels.dtype.name}."
            )
        known = tf.get_static_value(labels)
        if known is not None and known.size:
            worst = known[(known < 0) | (known >= self.num_classes)]
            if worst.size:
                raise ValueError(
                    f"context must hold labels in [0, {self.num_classes}), got "
                    f"{worst.flat[0]}."
                )
        valid = (labels >= 0) & (labels < self.num_classes)
        on = tf.where(valid, tf.ones([], self.dtype), np.nan)
        return tf.one_hot(labels, self.num_classes, dtype=self.dtype) * on[..., None]


def resolve_context(
    context_shape: Sequence[int] | None, num_classes: int | None, dtype: Any
) -> tuple[tuple[int, ...] | None, OneHot | None]:
    """The context shape that bijectors take, and the encoder in front of them."""
    if num_classes is None:
        return (None if context_shape is None else tuple(context_shape)), None
    if context_shape is not None:
        raise ValueError("give context_shape or num_classes, not both.")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    return (num_classes,), OneHot(num_classes, tf.as_dtype(dtype))


def layer_seeds(seed: int) -> Callable[[], int]:
    """A function that gives a new integer seed at every call."""
    draw = np.random.default_rng(seed)
    return lambda: int(draw.integers(2**31))


_BASES = {
    "normal": distributions.standard_normal,
    "logistic": distributions.standard_logistic,
    "diagonal": distributions.diagonal_normal,
}


def assemble(
    members: Sequence[tfb.Bijector],
    event_shape: tuple[int, ...],
    base: str,
    encoder: OneHot | None,
    dtype: Any,
    name: str,
) -> distributions.Flow:
    """A flow of bijectors given in the order in which data meet them."""
    if base not in _BASES:
        raise ValueError(f"base must be one of {sorted(_BASES)}, got {base!r}.")
    chain = bijectors.Chain(members, name=f"{name}_chain")
    noise_shape = chain.inverse_event_shape(event_shape).as_list()
    return distributions.Flow(
        _BASES[base](noise_shape, dtype),
        chain,
        context_encoder=encoder,
        context_shape=() if encoder is not None else None,
        name=name,
    )
