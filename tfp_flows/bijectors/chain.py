"""The composition of bijectors."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.any_bijector import (
    INVERT,
    common_context_shape,
    initialize,
    keywords_of,
    min_event_ndims,
)
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.recompute import Step, evaluate, take_all

tfb = tfp.bijectors

__all__ = ["Chain"]


class Chain(JointBijector):
    r"""Applies bijectors one after the other.

    `Chain([f, g]).forward(x) = f(g(x))`, as in TFP: the last one is applied first on
    the way from noise to data. Read from the front, the list is in the order in which
    data meet the bijectors. Log-determinants add up.

    Members may be bijectors from here or from TFP (`tfb.Invert` and `tfb.Chain` too).
    Each keyword goes to every member that knows it; a member inside TFP's own
    compositions gets it by TFP's rules.

    **Memory.** A gradient needs what the networks of all members computed on the way,
    so that memory grows with depth. With `recompute_gradients=True` none of it is kept:
    the gradient rebuilds the input of each member from its output by the inverse,
    member by member, in both directions, so that memory is that of the deepest member
    alone, and a coupling's conditioner runs twice instead of once (a training step
    takes about a third longer). Values do not change, gradients up to rounding. The
    inputs of members whose inverse is no single pass (residual flows, autoregressions)
    or that normalise by the batch are kept; what happens inside them is computed again.
    Conditioners must give the same for the same input: no dropout. In eager mode they
    must take no gradients themselves. Gradients of gradients are refused.
    `tfp_flows.training.reconstruction_error` tells how well inputs are rebuilt;
    `checkpoint_every` bounds how far errors accumulate.

    **Repetition.** In a `tf.function`, members that repeat are traced once for all, so
    that building its graph hardly takes longer for deeper chains: the steps of a Glow,
    or pairs of couplings whose masks alternate. Members count as alike when all their
    attributes agree but names, seeds and the values of variables; what holds something
    of unknown meaning, draws random numbers without a `seed` or adds losses is traced
    on its own. Python code in a conditioner therefore runs once for all couplings that
    are alike.

    Args:
      bijectors: the members. An empty list is the identity.
      recompute_gradients: whether gradients rebuild what they need instead of keeping
        it.
      checkpoint_every: number of members after which an input is kept as well, with
        `recompute_gradients`; `None` keeps none. The members of a chain in this chain
        count one by one.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      TypeError: if a member is not a bijector.
      ValueError: if event shapes or context shapes of the members do not fit, or on a
        `checkpoint_every` below 1 or without `recompute_gradients`.
    """

    def __init__(
        self,
        bijectors: Sequence[tfb.Bijector],
        validate_args: bool = False,
        name: str = "chain",
        *,
        recompute_gradients: bool = False,
        checkpoint_every: int | None = None,
    ):
        parameters = dict(locals())
        if checkpoint_every is not None:
            if not recompute_gradients:
                raise ValueError(
                    "checkpoint_every needs recompute_gradients=True; without it every "
                    "activation is kept."
                )
            if checkpoint_every < 1:
                raise ValueError(
                    f"checkpoint_every must be at least 1, got {checkpoint_every}."
                )
        self._recompute = bool(recompute_gradients)
        self._checkpoint_every = checkpoint_every
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
        return self._walk(x, True, keywords)

    def _inverse_and_log_det(self, y, **keywords):
        return self._walk(y, False, keywords)

    def _walk(self, value, forward, keywords):
        steps = self._steps(forward, min_event_ndims(self, forward))
        if not self._recompute:
            return take_all(steps, value, keywords)
        steps = [inner for step in steps for inner in _unfold(step)]
        return evaluate(steps, value, keywords, self._checkpoint_every)

    def _steps(self, forward, event_ndims):
        """The members' turns on the way."""
        steps = []
        for b in reversed(self._bijectors) if forward else self._bijectors:
            steps.append(Step(b, forward, event_ndims))
            event_ndims = steps[-1].result_event_ndims
        return steps

    def _initialize(self, y, **keywords):
        for b in self._bijectors:
            y = initialize(b, y, keywords)
        return y


def _unfold(step):
    """A step, or those of the chain that it is."""
    b, forward, event_ndims = step
    if isinstance(b, INVERT):
        return _unfold(Step(b.bijector, not forward, event_ndims))
    if isinstance(b, Chain):
        steps = b._steps(forward, event_ndims)
        return [inner for step in steps for inner in _unfold(step)]
    return [step]


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
