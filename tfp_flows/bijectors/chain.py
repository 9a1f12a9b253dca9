"""The composition of bijectors."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.describe import describe
from tfp_flows.core.from_tfp import adapt_all, common_context_shape
from tfp_flows.core.joint_bijector import JointBijector, min_event_ndims
from tfp_flows.core.recompute import evaluate, sees_to_itself
from tfp_flows.core.tfp_internals import is_increasing
from tfp_flows.core.walk import Run, Step, joined, runs_of, walk

__all__ = ["Chain", "members"]


class Chain(JointBijector):
    r"""Applies bijectors one after the other.

    `Chain([f, g]).forward(x) = f(g(x))`, as in TFP: the last bijector is applied first
    on the way from noise to data. So the list is in the order in which data pass the
    bijectors on the way to noise. Log-determinants add up.

    Members may be bijectors of this package or of TFP (`tfb.Invert` and `tfb.Chain`
    too). Each keyword goes to every member that knows it; a member inside another
    composition of TFP's gets it by TFP's rules.

    **Memory.** An ordinary gradient needs the activations of all networks, so memory
    grows with depth. With `recompute_gradients=True` no activations are kept: the
    gradient goes back member by member and rebuilds the input of each from its output
    by the inverse. Memory is then that of the largest member, a coupling's conditioner
    runs twice instead of once, and a training step takes about a third longer. Values
    stay the same, and gradients up to rounding. The inputs of some members are kept,
    and only their activations are computed again: members whose inverse iterates
    (residual flows, autoregressions), and members that normalise by the batch.
    Conditioners must return the same output for the same input, so they cannot use
    dropout. Gradients of gradients raise an error. In eager mode, outside of
    `tf.function` and `fit`, a conditioner or transformer that you have written keeps
    its activations, since it may take gradients itself.
    `tfp_flows.training.reconstruction_error` measures how well inputs are rebuilt;
    `checkpoint_every` limits how far errors accumulate.

    Layers that repeat are traced once if they are in a `Repeat`.

    Example:
      >>> from tfp_flows import bijectors
      >>> shift = bijectors.Standardize([2])
      >>> scale = bijectors.Scaling(log_scale=[0.0, 1.0])
      >>> chain = bijectors.Chain([shift, scale])
      >>> y, fldj = chain.forward_and_log_det([[1.0, 1.0], [2.0, 2.0]])
      >>> fldj.numpy().tolist()
      [1.0, 1.0]

    Args:
      bijectors: the members. An empty list is the identity.
      recompute_gradients: whether gradients rebuild inputs instead of keeping
        activations, see above.
      checkpoint_every: with `recompute_gradients`, number of members after which an
        input is kept; `None` keeps none. Members of a chain inside this chain count one
        by one.
      name: name of the bijector.

    Raises:
      TypeError: if a member is not a bijector.
      ValueError: if event shapes or context shapes of the members do not fit, or on a
        `checkpoint_every` below 1 or without `recompute_gradients`.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        return ("gomez2017reversible",) if self._recompute else ()

    def __init__(
        self,
        bijectors: Sequence[tfb.Bijector],
        name: str = "chain",
        *,
        recompute_gradients: bool = False,
        checkpoint_every: int | None = None,
    ):
        bijectors = list(bijectors)
        parameters = dict(locals())
        if checkpoint_every is not None:
            if not recompute_gradients:
                raise ValueError(
                    "checkpoint_every needs recompute_gradients=True; without it every "
                    "activation is kept."
                )
            check_integer("checkpoint_every", checkpoint_every)
        self._recompute = bool(recompute_gradients)
        self._checkpoint_every = checkpoint_every
        self._members = adapt_all("bijectors", bijectors)
        need, gained = 0, 0
        for b in reversed(self._members):
            need = max(need, b.forward_min_event_ndims - gained)
            gained += b.inverse_min_event_ndims - b.forward_min_event_ndims
        input_shape, output_shape = _event_shapes(self._members, need)
        super().__init__(
            forward_min_event_ndims=need,
            inverse_min_event_ndims=need + gained,
            input_event_shape=input_shape,
            output_event_shape=output_shape,
            context_shape=common_context_shape(self._members),
            dtype=_common_dtype(self._members),
            is_constant_jacobian=all(b.is_constant_jacobian for b in self._members),
            parameters=parameters,
            name=name,
        )

    @functools.cached_property
    def _ways(self):
        return _Ways(self)

    @property
    def bijectors(self) -> list[tfb.Bijector]:
        """The members, in the order in which data pass them."""
        return [getattr(b, "original", b) for b in self._members]

    def __repr__(self):
        return describe(self, bijectors=self._members)

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that any member takes."""
        return frozenset().union(*(b.keywords for b in self._members))

    @property
    def domain(self) -> tuple[float, float] | None:
        """The interval that data must lie in: that of the first member."""
        return self._members[0].domain if self._members else None

    def _forward_event_shape(self, input_shape):
        if self._input_event_shape is not None:
            return super()._forward_event_shape(input_shape)
        for b in reversed(self._members):
            input_shape = b.forward_event_shape(input_shape)
        return input_shape

    def _inverse_event_shape(self, output_shape):
        if self._input_event_shape is not None:
            return super()._inverse_event_shape(output_shape)
        for b in self._members:
            output_shape = b.inverse_event_shape(output_shape)
        return output_shape

    @property
    def _is_permutation(self):
        return all(b._is_permutation for b in self._members)

    def _is_increasing(self, **keywords):
        rises = True
        for b in self._members:
            known = {k: v for k, v in keywords.items() if k in b.keywords}
            rises = tf.equal(rises, is_increasing(b, **known))
        return rises

    def _batch_shape(self, x_event_ndims):
        shape = tf.TensorShape([])
        for b in reversed(self._members):
            own = b.experimental_batch_shape(x_event_ndims=x_event_ndims)
            shape = tf.broadcast_static_shape(shape, own)
            x_event_ndims = b.forward_event_ndims(x_event_ndims)
        return shape

    def _batch_shape_tensor(self, x_event_ndims):
        return tf.constant(self._batch_shape(x_event_ndims).as_list(), tf.int32)

    _fast_paths = frozenset({"runs", "untaped"})

    def _forward_and_log_det(self, x, **keywords):
        if self._recompute:
            runs, every = self._ways.forward, self._checkpoint_every
            return evaluate(runs, x, keywords, every)
        return walk(self._ways.forward, x, keywords)

    def _inverse_and_log_det(self, y, **keywords):
        if self._recompute:
            runs, every = self._ways.inverse, self._checkpoint_every
            return evaluate(runs, y, keywords, every)
        return walk(self._ways.inverse, y, keywords)

    def _runs(self, forward, event_ndims, deep):
        if self._recompute and not deep:
            return [Run([[Step(self, forward, event_ndims)]])]
        return self._runs_of_members(forward, event_ndims, deep)

    def _runs_of_members(self, forward, event_ndims, deep):
        runs = []
        for b in reversed(self._members) if forward else self._members:
            step = Step(b, forward, event_ndims)
            runs += runs_of(b, forward, event_ndims, deep)
            event_ndims = step.result_event_ndims
        return runs

    def _initialize(self, y, **keywords):
        for b in self._members:
            known = {k: v for k, v in keywords.items() if k in b.keywords}
            y = b._initialize(y, **known)
        return y


def members(bijector: tfb.Bijector) -> Iterator[tfb.Bijector]:
    """The bijectors of a chain and of chains in it, as data meet them."""
    for member in bijector.bijectors if isinstance(bijector, Chain) else [bijector]:
        if isinstance(member, Chain):
            yield from members(member)
        else:
            yield member


class _Ways:
    """The runs of a chain in both directions. TensorFlow does not track this class."""

    def __init__(self, chain):
        ways = []
        for forward in (True, False):
            ndims, deep = min_event_ndims(chain, forward), chain._recompute
            runs = chain._runs_of_members(forward, ndims, deep)
            ways.append(joined(runs, sees_to_itself if deep else None))
        self.forward, self.inverse = ways


def _event_shapes(bijectors, ndims):
    """Input and output event shape, `None` if unknown; a check that members fit."""
    shape, start = None, None
    for b in reversed(bijectors):
        declared = b._input_event_shape
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
