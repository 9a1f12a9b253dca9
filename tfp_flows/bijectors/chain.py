"""The composition of bijectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.joint_bijector import JointBijector, sum_trailing

tfb = tfp.bijectors

__all__ = ["Chain", "forward_and_log_det", "inverse_and_log_det"]


class Chain(JointBijector):
    r"""Applies bijectors one after the other.

    `Chain([f, g]).forward(x) = f(g(x))`, as in TFP: the last one is applied first on
    the way from noise to data. Read from the front, the list is in the order in which
    data meet the bijectors. Log-determinants add up.

    Members may be bijectors from here or from TFP (`tfb.Invert` and `tfb.Chain` too).
    Each keyword goes to every member that knows it; a member inside TFP's own
    compositions gets it by TFP's rules.

    Args:
      bijectors: the members. An empty list is the identity.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      TypeError: if a member is not a bijector.
      ValueError: if event shapes or context shapes of the members do not fit.
    """

    def __init__(
        self,
        bijectors: Sequence[tfb.Bijector],
        validate_args: bool = False,
        name: str = "chain",
    ):
        parameters = dict(locals())
        bijectors = list(bijectors)
        for i, b in enumerate(bijectors):
            if not isinstance(b, tfb.Bijector):
                raise TypeError(
                    f"bijectors[{i}] must be a tfb.Bijector, got {type(b).__name__}."
                )
        self._bijectors = bijectors
        need, gained = 0, 0
        for b in reversed(bijectors):
            need = max(need, b.forward_min_event_ndims - gained)
            gained += b.inverse_min_event_ndims - b.forward_min_event_ndims
        input_shape, output_shape = _event_shapes(bijectors, need)
        super().__init__(
            forward_min_event_ndims=need,
            inverse_min_event_ndims=need + gained,
            input_event_shape=input_shape,
            output_event_shape=output_shape,
            context_shape=common_context_shape(bijectors),
            dtype=_common_dtype(bijectors),
            is_constant_jacobian=all(b.is_constant_jacobian for b in bijectors),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def bijectors(self) -> list[tfb.Bijector]:
        """The members, in the order in which data meet them."""
        return list(self._bijectors)

    @property
    def keywords(self):
        return frozenset().union(*(keywords_of(b) for b in self._bijectors))

    @property
    def domain(self):
        return getattr(self._bijectors[0], "domain", None) if self._bijectors else None

    def _forward_event_shape(self, input_shape):
        if self._input_event_shape is not None:
            return super()._forward_event_shape(input_shape)
        for b in reversed(self._bijectors):
            input_shape = b.forward_event_shape(input_shape)
        return input_shape

    def _inverse_event_shape(self, output_shape):
        if self._input_event_shape is not None:
            return super()._inverse_event_shape(output_shape)
        for b in self._bijectors:
            output_shape = b.inverse_event_shape(output_shape)
        return output_shape

    @property
    def _is_permutation(self):
        return all(b._is_permutation for b in self._bijectors)

    def _batch_shape(self, x_event_ndims):
        shape = tf.TensorShape([])
        for b in reversed(self._bijectors):
            own = b.experimental_batch_shape(x_event_ndims=x_event_ndims)
            shape = tf.broadcast_static_shape(shape, own)
            x_event_ndims = b.forward_event_ndims(x_event_ndims)
        return shape

    def _batch_shape_tensor(self, x_event_ndims):
        return tf.constant(self._batch_shape(x_event_ndims).as_list(), tf.int32)

    def _forward_and_log_det(self, x, **keywords):
        total = tf.zeros([], x.dtype)
        ndims = self.forward_min_event_ndims
        for b in reversed(self._bijectors):
            x, log_det = forward_and_log_det(b, x, ndims, keywords)
            ndims += b.inverse_min_event_ndims - b.forward_min_event_ndims
            total += log_det
        return x, total

    def _inverse_and_log_det(self, y, **keywords):
        total = tf.zeros([], y.dtype)
        ndims = self.inverse_min_event_ndims
        for b in self._bijectors:
            y, log_det = inverse_and_log_det(b, y, ndims, keywords)
            ndims += b.forward_min_event_ndims - b.inverse_min_event_ndims
            total += log_det
        return y, total

    def _initialize(self, y, **keywords):
        for b in self._bijectors:
            y = initialize(b, y, keywords)
        return y


def forward_and_log_det(bijector, x, event_ndims: int, keywords=None):
    """Value and log-determinant of any bijector, TFP's included.

    Args:
      bijector: a `tfb.Bijector`.
      x: tensor whose last `event_ndims` dimensions are the event.
      event_ndims: rank of the event.
      keywords: each is handed to `bijector` if it knows it.

    Returns:
      `(y, fldj)`, the log-determinant one number for each event, or for all.
    """
    keywords = keywords or {}
    extra = event_ndims - bijector.forward_min_event_ndims
    if isinstance(bijector, JointBijector):
        known = _known(bijector, keywords)
        y, log_det = bijector._forward_and_log_det(x, **known)
        return y, _over_events(log_det, x, event_ndims, extra)
    if isinstance(bijector, _INVERT):
        return inverse_and_log_det(bijector.bijector, x, event_ndims, keywords)
    known = _known(bijector, keywords)
    # A new tensor object is in no cache of TFP's.
    x = tf.identity(x)
    y = bijector.forward(x, **known)
    return y, bijector.forward_log_det_jacobian(x, event_ndims, **known)


def inverse_and_log_det(bijector, y, event_ndims: int, keywords=None):
    """As `forward_and_log_det`, in the other direction."""
    keywords = keywords or {}
    extra = event_ndims - bijector.inverse_min_event_ndims
    if isinstance(bijector, JointBijector):
        known = _known(bijector, keywords)
        x, log_det = bijector._inverse_and_log_det(y, **known)
        return x, _over_events(log_det, y, event_ndims, extra)
    if isinstance(bijector, _INVERT):
        return forward_and_log_det(bijector.bijector, y, event_ndims, keywords)
    known = _known(bijector, keywords)
    y = tf.identity(y)
    x = bijector.inverse(y, **known)
    return x, bijector.inverse_log_det_jacobian(y, event_ndims, **known)


def initialize(bijector, y, keywords):
    """Data-dependent initialisation of any bijector; returns its inverse of `y`."""
    if isinstance(bijector, JointBijector):
        return bijector._initialize(y, **_known(bijector, keywords))
    if isinstance(bijector, _TFP_CHAIN):
        for b in bijector.bijectors:
            y = initialize(b, y, keywords)
        return y
    return bijector.inverse(tf.identity(y), **_known(bijector, keywords))


_INVERT = tfb.Invert.__mro__[1]  # also the class of tfb.Invert(non-composite)
_TFP_CHAIN = tfb.Chain.__mro__[1]


def keywords_of(bijector) -> frozenset[str]:
    """Names of the keywords that a bijector knows, through TFP's compositions."""
    if isinstance(bijector, JointBijector):
        return bijector.keywords
    if isinstance(bijector, _INVERT):
        return keywords_of(bijector.bijector)
    if isinstance(bijector, _TFP_CHAIN):
        return frozenset().union(*(keywords_of(b) for b in bijector.bijectors))
    return frozenset()


def common_context_shape(bijectors) -> tuple[int, ...] | None:
    """The one context shape of those bijectors that take a context."""
    common = None
    for b in bijectors:
        if isinstance(b, JointBijector):
            shape = b.context_shape
        elif isinstance(b, _INVERT):
            shape = common_context_shape([b.bijector])
        elif isinstance(b, _TFP_CHAIN):
            shape = common_context_shape(b.bijectors)
        else:
            shape = None
        if shape is None:
            continue
        if common is not None and shape != common:
            raise ValueError(
                f"context shapes must agree: {b.name} takes {shape}, another member "
                f"{common}."
            )
        common = shape
    return common


def _known(bijector, keywords) -> dict[str, Any]:
    """The keywords that a bijector knows, in the form in which it takes them."""
    if isinstance(bijector, _TFP_CHAIN):
        return {
            b.name: known for b in bijector.bijectors if (known := _known(b, keywords))
        }
    names = keywords_of(bijector)
    return {k: v for k, v in keywords.items() if k in names}


def _over_events(log_det, value, event_ndims, extra):
    """Sums a log-determinant over `extra` event dimensions outside the minimum."""
    if not extra:
        return log_det
    rank = value.shape.rank
    event = value.shape[rank - event_ndims : rank - event_ndims + extra]
    # A member may hand back a log-determinant that broadcasts (a constant one).
    if (
        log_det.shape.rank < extra
        or not log_det.shape[log_det.shape.rank - extra :].is_compatible_with(event)
        or not log_det.shape.is_fully_defined()
    ):
        shape = tf.shape(value)[: rank - event_ndims + extra]
        log_det = tf.broadcast_to(
            log_det, tf.broadcast_dynamic_shape(shape, tf.shape(log_det))
        )
    return sum_trailing(log_det, extra)


def _event_shapes(bijectors, ndims):
    """Event shapes on both sides as far as members declare them; they must fit."""
    shape, start = None, None
    for b in reversed(bijectors):
        declared = getattr(b, "_input_event_shape", None)
        if shape is None and declared is not None and len(declared) == ndims:
            shape = tf.TensorShape(declared)
        if shape is not None:
            try:
                shape = b.forward_event_shape(shape)
            except ValueError as error:
                raise ValueError(
                    f"{b.name} does not take the event shape {shape} that it is given "
                    f"in this chain: {error}"
                ) from None
        ndims += b.inverse_min_event_ndims - b.forward_min_event_ndims
    if shape is None:
        return None, None
    start = shape
    for b in bijectors:
        start = b.inverse_event_shape(start)
    return start.as_list(), shape.as_list()


def _common_dtype(bijectors):
    dtypes = {b.dtype for b in bijectors if b.dtype is not None}
    if len(dtypes) > 1:
        raise ValueError(
            f"bijectors must share one dtype, got {sorted(d.name for d in dtypes)}."
        )
    return dtypes.pop() if dtypes else None
