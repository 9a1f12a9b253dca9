"""Adapts TFP's bijectors, so that they can be members of this package's chains."""

from __future__ import annotations

import numbers
from collections.abc import Iterable

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.ranges import has_bounded_range, inverse_within_range
from tfp_flows.core.tfp_internals import CHAINS, INVERTS, is_increasing
from tfp_flows.core.walk import runs_of

__all__ = ["FromTFP", "Inverted", "adapt", "adapt_all", "common_context_shape"]


def adapt(bijector: tfb.Bijector) -> JointBijector:
    """Makes a `JointBijector` of any bijector; a `JointBijector` is returned as it is.

    A `tfb.Invert` becomes an `Inverted` and a `tfb.Chain` a `Chain` of adapted members,
    so that bijectors of this package inside them keep their context, initialisation and
    single evaluation. Any other bijector, subclasses of these two included, becomes a
    `FromTFP`.

    Args:
      bijector: a `tfb.Bijector`.

    Returns:
      A `JointBijector`.

    Raises:
      TypeError: if `bijector` is not a bijector, or takes or returns several tensors.
    """
    if isinstance(bijector, JointBijector):
        bijector._joint_see_layers(in_use=True)
        return bijector
    if not isinstance(bijector, tfb.Bijector):
        raise TypeError(f"it must be a tfb.Bijector, got {type(bijector).__name__}.")
    if type(bijector) in INVERTS:
        return Inverted(adapt(bijector.bijector), bijector)
    if type(bijector) in CHAINS:
        # Chain adapts its members with this function.
        from tfp_flows.bijectors.chain import Chain

        return Chain(bijector.bijectors, name=bijector.name)
    return FromTFP(bijector)


def adapt_all(argument: str, bijectors: Iterable[tfb.Bijector]) -> list[JointBijector]:
    """Adapts a list of bijectors; errors name the argument and the index."""
    adapted = []
    for i, bijector in enumerate(bijectors):
        try:
            adapted.append(adapt(bijector))
        except TypeError as error:
            raise TypeError(f"{argument}[{i}]: {error}") from None
    return adapted


class FromTFP(JointBijector):
    """Adapts a bijector that is no `JointBijector`: TFP's or a user's, without context.

    Args:
      bijector: a `tfb.Bijector` from one tensor to one tensor.

    Raises:
      TypeError: if it takes or returns several tensors.
    """

    def __init__(self, bijector: tfb.Bijector):
        parameters = dict(locals())
        ranks = bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims
        if not all(isinstance(rank, numbers.Integral) for rank in ranks):
            raise TypeError(
                f"{bijector.name} takes or gives several parts; members of a chain "
                "take and give one tensor."
            )
        self.bijector = bijector
        self._has_bounded_range = has_bounded_range(bijector)
        super().__init__(
            forward_min_event_ndims=int(ranks[0]),
            inverse_min_event_ndims=int(ranks[1]),
            dtype=bijector.dtype,
            is_constant_jacobian=bijector.is_constant_jacobian,
            parameters=parameters,
            name=bijector.name,
        )

    @property
    def original(self) -> tfb.Bijector:
        """The bijector that was adapted."""
        return self.bijector

    @property
    def has_direct_inverse(self) -> bool:
        # With a network inside, the inverse may need a pass for each entry.
        return not self.bijector.variables

    def _forward_and_log_det(self, x):
        # TFP's cache does not know the new tensor object.
        x = tf.identity(x)
        ndims = self.forward_min_event_ndims
        y = self.bijector.forward(x)
        return y, self.bijector.forward_log_det_jacobian(x, ndims)

    def _inverse_and_log_det(self, y):
        y = tf.identity(y)
        if self._has_bounded_range:
            return inverse_within_range(self.bijector, y)
        x = self.bijector.inverse(y)
        ndims = self.inverse_min_event_ndims
        return x, self.bijector.inverse_log_det_jacobian(y, ndims)

    def _forward_event_shape(self, input_shape):
        return self.bijector.forward_event_shape(input_shape)

    def _inverse_event_shape(self, output_shape):
        return self.bijector.inverse_event_shape(output_shape)

    def _batch_shape(self, x_event_ndims):
        return self.bijector.experimental_batch_shape(x_event_ndims=x_event_ndims)

    @property
    def _is_permutation(self):
        return self.bijector._is_permutation

    def _is_increasing(self, **keywords):
        try:
            return is_increasing(self.bijector, **keywords)
        except NotImplementedError:
            return super()._is_increasing(**keywords)

    def __repr__(self):
        return repr(self.bijector)


class Inverted(JointBijector):
    """Adapts `tfb.Invert(bijector)`: the directions of a `JointBijector` exchanged.

    Args:
      bijector: the bijector.
      original: the `tfb.Invert` that is adapted.
    """

    _fast_paths = frozenset({"runs", "untaped"})

    def __init__(self, bijector: JointBijector, original: tfb.Bijector):
        parameters = dict(locals())
        self.bijector = bijector
        self._original = original
        super().__init__(
            forward_min_event_ndims=bijector.inverse_min_event_ndims,
            inverse_min_event_ndims=bijector.forward_min_event_ndims,
            input_event_shape=bijector._output_event_shape,
            output_event_shape=bijector._input_event_shape,
            context_shape=bijector.context_shape,
            dtype=bijector.dtype,
            is_constant_jacobian=bijector.is_constant_jacobian,
            parameters=parameters,
            name=original.name,
        )

    @property
    def original(self) -> tfb.Bijector:
        """The `tfb.Invert` that was adapted."""
        return self._original

    @property
    def keywords(self) -> frozenset[str]:
        return self.bijector.keywords

    @property
    def has_direct_inverse(self) -> bool:
        return self.bijector.has_direct_inverse

    @property
    def _is_permutation(self):
        return self.bijector._is_permutation

    def _is_increasing(self, **keywords):
        return is_increasing(self.bijector, **keywords)

    def _forward_and_log_det(self, x, **keywords):
        return self.bijector._inverse_and_log_det(x, **keywords)

    def _inverse_and_log_det(self, y, **keywords):
        return self.bijector._forward_and_log_det(y, **keywords)

    def _runs(self, forward, event_ndims, deep):
        return runs_of(self.bijector, not forward, event_ndims, deep)

    def _forward_event_shape(self, input_shape):
        return self.bijector.inverse_event_shape(input_shape)

    def _inverse_event_shape(self, output_shape):
        return self.bijector.forward_event_shape(output_shape)

    def _batch_shape(self, x_event_ndims):
        return self.bijector.experimental_batch_shape(y_event_ndims=x_event_ndims)

    def __repr__(self):
        return f"Invert({self.bijector!r})"


def common_context_shape(
    bijectors: Iterable[JointBijector],
) -> tuple[int, ...] | None:
    """The context shape that the bijectors share, or `None` if none takes a context.

    Raises:
      ValueError: if two of them take contexts of different shapes.
    """
    common = None
    for b in bijectors:
        shape = b.context_shape
        if shape is None:
            continue
        if common is not None and shape != common:
            raise ValueError(
                f"context shapes must agree: {b.name} takes {shape}, another member "
                f"{common}."
            )
        common = shape
    return common
