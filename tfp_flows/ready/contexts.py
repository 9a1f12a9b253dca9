"""What contexts go through on their way to the networks of a ready flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.standardize import Standardize
from tfp_flows.core.arguments import check_integer, check_number, check_unused
from tfp_flows.core.conditioner import Conditioner, zeros_of
from tfp_flows.distributions.contexts import check_context_shape, dtype_of

__all__ = ["NormalizedContext", "OneHot", "resolve_context"]


class OneHot:
    """Integer labels `[...]` as one-hot vectors `[..., num_classes]`.

    A label outside `[0, num_classes)` is an error where its value is known, and gives
    NaN inside a compiled function.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import flows
      >>> flows.OneHot(3, "float32")(tf.constant([0, 2])).numpy()
      array([[1., 0., 0.],
             [0., 0., 1.]], dtype=float32)

    Args:
      num_classes: int, the number of labels.
      dtype: dtype of the vectors.
      drop: fraction of the vectors that are the mean of all in training, as in
        `FlowModel.fit`, or in a Keras layer that is called with `training=True`.

    Raises:
      ValueError: if `drop` is not in [0, 1); when called, if labels are not integers,
        or not in `[0, num_classes)`.
    """

    input_shape = ()

    def __init__(self, num_classes: int, dtype: Any, drop: float = 0.0):
        self.num_classes, self.dtype = num_classes, tf.as_dtype(dtype)
        drop = check_number("drop", drop, at_least=0.0, below=1.0)
        self._drop = _Drop(drop, dtype=self.dtype.name) if drop else None

    def check(self, labels: tf.Tensor) -> None:
        """Raises the errors that calling it would.

        Args:
          labels: tensor `[...]`.

        Raises:
          ValueError: if labels are not integers, or known not to be in
            `[0, num_classes)`.
        """
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

    def __call__(self, labels: tf.Tensor) -> tf.Tensor:
        self.check(labels)
        valid = (labels >= 0) & (labels < self.num_classes)
        on = tf.where(valid, tf.ones([], self.dtype), np.nan)
        one_hot = tf.one_hot(labels, self.num_classes, dtype=self.dtype) * on[..., None]
        return one_hot if self._drop is None else self._drop(one_hot)


@keras.saving.register_keras_serializable(package="tfp_flows")
class _Drop(keras.layers.Layer):
    """Puts the mean of all classes in place of some in training."""

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, one_hot, training=None):
        if not training:
            return one_hot
        is_kept = tf.random.uniform(tf.shape(one_hot)[:-1]) >= self.rate
        return tf.where(is_kept[..., None], one_hot, 1.0 / one_hot.shape[-1])


class NormalizedContext(tf.Module):
    """Brings contexts to mean 0 and deviation 1, in front of an encoder.

    Each feature of a context (channel of an image) is shifted and scaled by numbers
    that `initialize` takes from data; see `tfp_flows.bijectors.Standardize`. Until then
    contexts stay as they are. Of a context of several parts, labels (parts of shape
    `()`) stay as they are.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import flows
      >>> normalized = flows.NormalizedContext([1])
      >>> context = np.array([[1.0], [3.0]], np.float32)
      >>> normalized.initialize(context)
      >>> normalized(context).numpy()
      array([[-1.],
             [ 1.]], dtype=float32)

    Args:
      context_shape: sequence of ints, shape of one context; or a dict of them.
      encoder: a callable that gets what is normalised, or `None`.
      dtype: dtype of contexts; or a dict of them.
    """

    def __init__(
        self,
        context_shape: Sequence[int] | Mapping[str, Sequence[int]],
        encoder: Callable | None = None,
        dtype: Any = tf.float32,
    ):
        super().__init__(name="normalized_context")
        self.standardize: Standardize | dict[str, Standardize] = (
            {
                k: Standardize(shape, dtype=dtype[k], name="normalize")
                for k, shape in context_shape.items()
                if shape
            }
            if isinstance(context_shape, Mapping)
            else Standardize(context_shape, dtype=dtype, name="normalize")
        )
        self.encoder = encoder

    @property
    def needs_initialization(self) -> bool:
        """Whether data have yet to set shifts and scales."""
        return any(s.needs_initialization for s in tf.nest.flatten(self.standardize))

    def initialize(self, context: Any) -> None:
        """Sets shifts and scales by data, once.

        Args:
          context: `[*batch, *context_shape]`, or a dict of such arrays.

        Raises:
          ValueError: on an empty batch, a wrong shape, or data that are not finite.
        """
        if isinstance(self.standardize, Standardize):
            self.standardize.initialize(tf.cast(context, self.standardize.dtype))
            return
        for k, standardize in self.standardize.items():
            standardize.initialize(tf.cast(context[k], standardize.dtype))

    def __call__(self, context: Any) -> Any:
        if isinstance(self.standardize, Standardize):
            context = self.standardize.inverse(context)
        else:
            numbers = {k: s.inverse(context[k]) for k, s in self.standardize.items()}
            context = {**context, **numbers}
        return context if self.encoder is None else self.encoder(context)


def resolve_context(
    context_shape: Sequence[int] | Mapping[str, Sequence[int]] | None,
    num_classes: int | None,
    dtype: Any,
    context_encoder: keras.layers.Layer | None = None,
    normalize: bool | None = None,
    class_drop: float = 0.0,
) -> tuple[tuple[int, ...] | None, OneHot | Conditioner | None]:
    """The context shape that bijectors take, and the encoder in front of them.

    Args:
      context_shape: shape of one context as a user gives it. `()`, with a
        `context_encoder`, stands for integer labels; a dict of shapes for a dict of
        arrays, which the encoder gets.
      num_classes: int, instead of `context_shape`: contexts are labels, to be one-hot.
      dtype: dtype of the flow.
      context_encoder: a layer `[batch, *context_shape] -> [batch, ...]` whose output is
        the context of the bijectors.
      normalize: bool, whether contexts are normalised; by default if they are numbers
        that no encoder of the user's sees.
      class_drop: see `OneHot`.

    Returns:
      `(shape, encoder)`, the one for bijectors, the other for the flow.

    Raises:
      ValueError: on arguments that do not go together, or `num_classes` below 2.
    """
    shape = check_context_shape(context_shape)
    if num_classes is not None:
        if shape is not None:
            raise ValueError("give context_shape or num_classes, not both.")
        if context_encoder is not None:
            raise ValueError(
                "give context_encoder or num_classes, not both. To embed labels, give "
                "context_shape=() and context_encoder=keras.layers.Embedding(...)."
            )
        check_integer("num_classes", num_classes, 2)
    if context_encoder is not None and shape is None:
        raise ValueError(
            "context_encoder needs context_shape, the shape of what it is given."
        )
    if isinstance(shape, dict) and context_encoder is None:
        raise ValueError(
            f"context_shape has the parts {sorted(shape)}: give a context_encoder, a "
            "Keras model that takes a dict of arrays with these keys."
        )
    has_numbers = any(shape.values()) if isinstance(shape, dict) else bool(shape)
    if normalize is not None and not has_numbers:
        raise ValueError(
            "normalize_context is for contexts of numbers, with a context_shape other "
            f"than (); got normalize_context={normalize}."
        )
    if num_classes is not None:
        return (num_classes,), OneHot(num_classes, dtype, class_drop)
    check_unused("for labels, with num_classes", class_drop=class_drop or None)
    if shape is None:
        return None, None
    given = dtype_of(shape, tf.as_dtype(dtype))
    encoder: Conditioner | None = None
    encoded = () if isinstance(shape, dict) else shape
    if context_encoder is not None:
        with tf.init_scope():
            encoded = tuple(context_encoder(zeros_of(shape, given)).shape[1:])
        encoder = Conditioner(context_encoder, shape, encoded, dtype=given)
    if normalize is None:
        normalize = encoder is None and has_numbers
    if normalize:
        normalized = NormalizedContext(shape, encoder, given)
        encoder = Conditioner(normalized, shape, encoded, dtype=given)
    return encoded, encoder
