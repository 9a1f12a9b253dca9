"""What the ready flows share: their description, data bounds, bases and labels."""

from __future__ import annotations

import functools
import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors, distributions
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.networks import MLP

tfb = tfp.bijectors

__all__ = [
    "OneHot",
    "assemble",
    "check_counts",
    "layer_seeds",
    "network_dtype",
    "preprocess",
    "ready",
    "resolve_context",
]


def ready(build: Callable) -> Callable:
    """Makes a function that builds a flow record how to build it again.

    The returned flow's `config` holds the function's name and all its arguments, with
    the seed that was drawn if none was given. A `context_encoder`, which is not in it
    unless given, is described as Keras describes a layer.
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
        encoder = _layer(arguments.pop("context_encoder", None))
        config = {"flow": build.__name__, **arguments}
        config["event_shape"] = list(arguments["event_shape"])
        if encoder is None:
            return build(**arguments).copy(config=config)
        flow = build(**arguments, context_encoder=encoder)
        # Only now does the description of a layer hold the shape that it was built for.
        described = keras.saving.serialize_keras_object(encoder)
        return flow.copy(config={**config, "context_encoder": _plain(described)})

    return wrapper


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


def check_event_shape(event_shape) -> tuple[int, ...]:
    """A vector's or an image's shape as integers."""
    shape = tuple(int(n) for n in event_shape)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(
            "event_shape must be (D,) for vectors or (H, W, C) for images, got "
            f"{shape}."
        )
    return shape


def check_counts(**counts: int) -> None:
    """A ValueError that names the first argument below 1."""
    for argument, value in counts.items():
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}.")


def network_dtype(dtype: Any, conditioner_dtype: str | None) -> Any:
    """What conditioners get as their `dtype`: the flow's, or a mixed policy of Keras.

    Args:
      dtype: dtype of the flow.
      conditioner_dtype: dtype that networks compute in; `None` for that of Keras's
        global policy if it is a mixed one, and else the flow's.

    Raises:
      ValueError: if `conditioner_dtype` is no floating dtype of at most the flow's
        precision, or the flow is not float32.
    """
    dtype = tf.as_dtype(dtype).name
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


def preprocess(
    event_shape: tuple[int, ...],
    bounds: Sequence[float] | None,
    alpha: float | None,
    normalize: bool,
    center: float,
    dtype: Any,
    flatten: bool = False,
) -> list[tfb.Bijector]:
    """The bijectors that data meet first.

    With `alpha`, the logit of data in `bounds`; with `bounds` alone, data are scaled to
    `[-center, 1 - center]`. With `normalize`, each feature (or channel) is standardised
    by the first batch. With `flatten`, images become vectors at the end.
    """
    return _rescale(event_shape, bounds, alpha, normalize, center, dtype) + (
        [tfb.Reshape(event_shape, [math.prod(event_shape)])]
        if flatten and len(event_shape) == 3
        else []
    )


def _rescale(event_shape, bounds, alpha, normalize, center, dtype):
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

    input_shape = ()

    def __init__(self, num_classes: int, dtype: Any):
        self.num_classes, self.dtype = num_classes, dtype

    def check(self, labels) -> None:
        """Raises the errors that calling it would."""
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

    def __call__(self, labels):
        self.check(labels)
        valid = (labels >= 0) & (labels < self.num_classes)
        on = tf.where(valid, tf.ones([], self.dtype), np.nan)
        return tf.one_hot(labels, self.num_classes, dtype=self.dtype) * on[..., None]


def resolve_context(
    context_shape: Sequence[int] | None,
    num_classes: int | None,
    dtype: Any,
    context_encoder: keras.layers.Layer | None = None,
) -> tuple[tuple[int, ...] | None, OneHot | Conditioner | None]:
    """The context shape that bijectors take, and the encoder in front of them.

    Args:
      context_shape: shape of one context as a user gives it. `()`, with a
        `context_encoder`, stands for integer labels.
      num_classes: instead of `context_shape`: contexts are labels, to be one-hot.
      dtype: dtype of the flow.
      context_encoder: a layer `[batch, *context_shape] -> [batch, ...]` whose output is
        the context of the bijectors.

    Returns:
      `(shape, encoder)`, the one for bijectors, the other for `assemble`.

    Raises:
      ValueError: if `num_classes` is given beside another, or is below 2; on a
        `context_encoder` without a `context_shape`.
    """
    if num_classes is not None:
        if context_shape is not None:
            raise ValueError("give context_shape or num_classes, not both.")
        if context_encoder is not None:
            raise ValueError(
                "give context_encoder or num_classes, not both. To embed labels, give "
                "context_shape=() and context_encoder=keras.layers.Embedding(...)."
            )
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
        return (num_classes,), OneHot(num_classes, tf.as_dtype(dtype))
    shape = None if context_shape is None else tuple(map(int, context_shape))
    if context_encoder is None:
        return shape, None
    if shape is None:
        raise ValueError(
            "context_encoder needs context_shape, the shape of what it is given."
        )
    given = tf.as_dtype(dtype) if shape else tf.int32
    with tf.init_scope():
        encoded = tuple(context_encoder(tf.zeros((1, *shape), given)).shape[1:])
    return encoded, Conditioner(context_encoder, shape, encoded, dtype=given)


def layer_seeds(seed: int) -> Callable[[], int]:
    """A function that gives a new integer seed at every call."""
    draw = np.random.default_rng(seed)
    return lambda: int(draw.integers(2**31))


def _resampled(shape, dtype, seed, width=128, depth=2, **options):
    network = MLP(1, [width] * depth, seed=seed, dtype=dtype)
    return distributions.ResampledBase(network, shape, dtype, **options)


_BASES = {
    "normal": distributions.standard_normal,
    "logistic": distributions.standard_logistic,
    "diagonal": distributions.diagonal_normal,
    "student_t": distributions.student_t,
    "mixture": distributions.gaussian_mixture,
    "class_conditional": distributions.ClassConditionalNormal,
    "resampled": _resampled,
}
_SEEDED = ("mixture", "class_conditional", "resampled")


def assemble(
    members: Sequence[tfb.Bijector],
    event_shape: tuple[int, ...],
    base: str | Mapping[str, Any],
    encoder: OneHot | Conditioner | None,
    dtype: Any,
    name: str,
    seed: int = 0,
    recompute_gradients: bool = False,
) -> distributions.Flow:
    """A flow of bijectors given in the order in which data meet them.

    Args:
      members: the bijectors.
      event_shape: shape of the data.
      base: name of the base distribution, or a mapping with its `"name"` and arguments
        of the function of `tfp_flows.distributions` that makes it:

        * `"normal"`, `"logistic"`: standard ones;
        * `"diagonal"`: Gaussian, with a learned mean and deviation;
        * `"student_t"`: heavy tails, with learned degrees of freedom;
        * `"mixture"`: Gaussians with learned weights, means and deviations;
        * `"class_conditional"`: a Gaussian for each of `num_classes` labels;
        * `"resampled"`: Gaussian proposals that an `MLP`, of `width` and `depth`,
          accepts or rejects.
      encoder: what `resolve_context` returned.
      dtype: dtype of the flow.
      name: name of the flow.
      seed: integer seed of a base that starts at random.
      recompute_gradients: see `tfp_flows.bijectors.Chain`.

    Raises:
      ValueError: on an unknown base or argument of it, or `"class_conditional"`
        without labels.
    """
    chain = bijectors.Chain(
        members, name=f"{name}_chain", recompute_gradients=recompute_gradients
    )
    noise_shape = chain.inverse_event_shape(event_shape).as_list()
    return distributions.Flow(
        _make_base(base, noise_shape, encoder, dtype, seed),
        chain,
        context_encoder=encoder,
        context_shape=getattr(encoder, "input_shape", None),
        name=name,
    )


def _make_base(base, shape, encoder, dtype, seed):
    options = {"name": base} if isinstance(base, str) else dict(base)
    name = options.pop("name", None)
    if name not in _BASES:
        raise ValueError(f"base must be one of {sorted(_BASES)}, got {name!r}.")
    options = {"dtype": dtype, **options}
    if name in _SEEDED:
        options.setdefault("seed", seed)
    if name == "class_conditional":
        if not isinstance(encoder, OneHot):
            raise ValueError('base="class_conditional" needs num_classes.')
        options.setdefault("num_classes", encoder.num_classes)
    try:
        return _BASES[name](shape, **options)
    except TypeError as error:
        raise ValueError(f"base {name!r} is not understood: {error}") from error
