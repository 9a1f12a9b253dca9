"""A normalizing flow as a TFP distribution."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.chain import Chain
from tfp_flows.core.arguments import check_integer
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.ranges import Support
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import sum_trailing
from tfp_flows.core.tf_internals import could_possibly_record
from tfp_flows.core.tfp_internals import TRANSFORMED_DISTRIBUTION, set_arguments
from tfp_flows.core.tracking import check_tracked
from tfp_flows.distributions.contexts import (
    ContextShape,
    as_context,
    both,
    check_context_shape,
    dtype_of,
    nan_unless,
    parts_of,
    without_nan,
)
from tfp_flows.distributions.describe import describe_flow
from tfp_flows.distributions.given_context import GivenContext
from tfp_flows.distributions.in_chunks import common_batch, in_chunks
from tfp_flows.distributions.inputs import (
    as_data,
    check_sample_shape,
    check_temperature,
)
from tfp_flows.distributions.keywords import keywords_of
from tfp_flows.distributions.tracked import Tracked
from tfp_flows.networks.token_network import TokenNetwork

__all__ = ["Flow", "with_config", "without_warning"]


# Bytes of the widest layer of a bijector: the most in one pass, and about as many as
# stay in a processor's cache, for the chunks of a larger batch.
_LARGEST_PASS, _CHUNK = 2**26, 2**22


@contextlib.contextmanager
def without_warning(distribution: tfd.Distribution) -> Iterator[None]:
    """A context in which flows do not warn that they are not initialised."""
    modules = (distribution, *distribution.submodules)
    flows = [m for m in modules if isinstance(m, Flow)]
    before = [flow._looked_for_initialization for flow in flows]
    for flow in flows:
        flow._looked_for_initialization = True
    try:
        yield
    finally:
        for flow, looked in zip(flows, before, strict=True):
            flow._looked_for_initialization = looked


class _Given(NamedTuple):
    """The keywords of a call: those for the bijector, and those for the base."""

    bijector: dict[str, Any]
    base: dict[str, Any]
    # Which contexts are valid (finite), in the batch shape; `None` if all are.
    valid: tf.Tensor | None


class Flow(Tracked, TRANSFORMED_DISTRIBUTION):
    r"""The distribution of $x = f(z)$ with $z$ from a base distribution.

    $$ \log p(x) = \log p_Z(f^{-1}(x)) + \log|\det \partial f^{-1}(x)/\partial x| $$

    It is a `tfd.TransformedDistribution` that evaluates value and log-determinant
    together, takes a `context`, samples at a `temperature`, and computes bits per
    dimension. All log-densities are in nats, of the data as they are given to it.

    `isinstance(flow, tfd.TransformedDistribution)` is false, as it is for what
    `tfd.TransformedDistribution(base, bijector)` itself returns if the bijector is not
    a composite tensor (TFP's masked autoregressive flow, say): both are of the private
    class behind it, from which a flow inherits. A true subclass would be a composite
    tensor: a `tf.Module` that holds one finds none of its variables. With a `TypeSpec`
    that shows them, `tf.function` refuses flows as arguments, and automatic structured
    variational inference (ASVI) still fails, since its rule is for that very class. So
    `tfp.experimental.vi.build_asvi_surrogate_posterior` needs a rule for flows in its
    `surrogate_rules`: `(Flow, rule)`, with::

        def rule(dist, build_nested_surrogate, sample_shape=None):
            base = yield from build_nested_surrogate(dist.distribution)
            return dist.copy(distribution=base)

    **Contexts.** The context is passed to the bijector, to the base distribution, or to
    both: to each that has a `context_shape`. Such a base takes `context` in `log_prob`,
    `sample` and `mean`, as `tfp_flows.distributions.Conditional` does. A base whose
    attribute `keywords` holds `"training"` takes that in `log_prob`. `given(context)`
    is the distribution under fixed contexts, for code that knows no contexts.

    **Invalid values.** If a context holds NaN or infinity, or an encoder returns one of
    them for it, all results for it are NaN, whatever the networks return. For data
    outside the range of the bijector or of the base, `log_prob` is minus infinity.
    Gradients at other points of the batch are not affected. This holds for all
    bijectors and bases of this package, and for those of TFP's whose range is an
    interval.

    **Samples and their densities.** `log_prob(sample(n))` computes the inverse of what
    `sample` has just computed, because bijectors of this package keep no cache. This is
    expensive if the inverse iterates (`iaf`, `residual_flow`, `planar`).
    `sample_and_log_prob` needs no inverse.

    **Large batches.** If the batch is static and larger than `chunk_size`, `log_prob`,
    `sample`, `sample_and_log_prob`, `encode` and `decode` compute it in chunks that fit
    a processor's cache, with the same results. Sampling draws all noise and encodes all
    contexts first. Outside of a `tf.function`, more than eight chunks are compiled by
    XLA after some time if that is faster, see `training.XLAWhereFaster`; numbers differ
    by rounding. Chunks are not used while a gradient tape records, as it would keep
    all of them in memory; with the keywords `training` and `seed`, whose effect may
    depend on the batch; and for a base distribution with a batch.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.Flow(
      ...     tfp_flows.distributions.standard_normal((2,)),
      ...     tfp_flows.bijectors.Scaling([2], log_scale=[0.0, 1.0]),
      ... )
      >>> flow.sample(3, seed=0).shape
      TensorShape([3, 2])
      >>> flow.log_prob([[0.0, 0.0]]).shape
      TensorShape([1])

    Args:
      distribution: distribution of the noise $z$.
      bijector: any `tfb.Bijector`, from noise to data.
      context_encoder: maps the context that a user gives to the one that bijector and
        base take; the identity by default. A Keras layer, a `tf.Module` or another
        callable with variables becomes a part of the flow and is trained with it; it
        gets one batch dimension. A plain function (labels into one-hot vectors) gets
        any batch shape, and returns NaN for an invalid context.
      context_shape: shape of one context as a user gives it; that of the bijector or
        base by default. With a `context_encoder`, `()` stands for integer labels, and a
        dict of shapes for a context of several parts: users give a dict of arrays whose
        batches broadcast, and the encoder gets such a dict.
      chunk_size: the largest number of events in one pass, see above. By default, the
        widest layer of the bijector takes at most 64 MiB (4 MiB once there are
        chunks); its width is estimated from the last dimensions of the bijector's
        variables.
      name: name of the flow.

    Raises:
      ValueError: if the event of the base distribution does not fit the bijector, or
        the context shapes of bijector, base, encoder and user do not fit.
      TypeError: if `context_shape` is not a shape or `chunk_size` not an integer.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        bijector: tfb.Bijector,
        context_encoder: Callable | None = None,
        context_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        chunk_size: int | None = None,
        name: str = "flow",
    ):
        parameters = dict(locals())
        if not isinstance(bijector, JointBijector):
            bijector = Chain([bijector])
        ndims = distribution.event_shape.rank
        if ndims is None or ndims < bijector.forward_min_event_ndims:
            raise ValueError(
                "distribution must have events of at least "
                f"{bijector.forward_min_event_ndims} dimension(s) for this bijector, "
                f"got event shape {distribution.event_shape}."
            )
        bijector.forward_event_shape(distribution.event_shape)
        self._inner_context_shape = _common_context_shape(distribution, bijector)
        context_shape = check_context_shape(context_shape)
        if context_shape is None:
            context_shape = self._inner_context_shape
        object.__setattr__(self, "_context_shape", context_shape)
        self._context_encoder = self._wrap_encoder(
            context_encoder, tf.as_dtype(distribution.dtype)
        )
        parameters["context_encoder"] = self._context_encoder
        if chunk_size is not None:
            chunk_size = check_integer("chunk_size", chunk_size)
        self._chunk_size, self._bytes_of_layer = chunk_size, None
        self._config = None
        self._support = Support.of(distribution)
        self._looked_for_initialization = False
        super().__init__(
            distribution,
            bijector,
            kwargs_split_fn=self._split_for_tfp,
            name=name,
        )
        set_arguments(self, parameters)

    def _wrap_encoder(self, encoder, dtype):
        """Wraps the encoder so that its variables are found; checks its shapes."""
        outer, inner = self._context_shape, self._inner_context_shape
        if inner is None:
            if outer is None and encoder is None:
                return None
            what = (
                "context_encoder is given"
                if outer is None
                else f"context_shape is {outer}"
            )
            raise ValueError(
                f"{what}, but no bijector takes a context, nor does the distribution."
            )
        if encoder is None:
            if outer != inner:
                raise ValueError(
                    f"context_shape is {outer}, but bijector or distribution take "
                    f"contexts of shape {inner}: a context_encoder is needed."
                )
            return None
        if isinstance(encoder, Conditioner):
            found = encoder.input_shape, encoder.output_shape
            if found != (outer, inner):
                raise ValueError(
                    f"context_encoder must turn contexts of shape {outer} into "
                    f"{inner}; it turns {found[0]} into {found[1]}."
                )
            return encoder
        if not hasattr(encoder, "variables"):
            return encoder
        try:
            return Conditioner(encoder, outer, inner, dtype=dtype_of(outer, dtype))
        except ValueError as error:
            raise ValueError(f"context_encoder does not fit: {error}") from error

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)

    def copy(self, **overrides: Any) -> Flow:
        """A flow with some constructor arguments replaced, and the same variables.

        Use `copy.deepcopy` for variables of its own.

        Args:
          **overrides: constructor arguments.

        Returns:
          The copy.
        """
        new = super().copy(**overrides)
        if not set(overrides) - {"name", "chunk_size"}:
            object.__setattr__(new, "_config", self._config)
        return new

    @property
    def context_shape(self) -> ContextShape | None:
        """Shape of one context as a user gives it; `None` if the flow takes none.

        It is a dict of shapes for a context of several parts.
        """
        return self._context_shape

    @property
    def context_dtype(self) -> tf.DType | dict[str, tf.DType] | None:
        """Dtype of contexts: `int32` for labels, else that of the flow.

        It is a dict for a context of several parts, and `None` if the flow takes none.
        """
        if self._context_shape is None:
            return None
        if self._context_encoder is None:
            inner = getattr(self.distribution, "context_dtype", None)
            return tf.as_dtype(inner or self.dtype)
        return dtype_of(self._context_shape, tf.as_dtype(self.dtype))

    @property
    def chunk_size(self) -> int:
        """The largest number of events in one pass."""
        if self._chunk_size is None:
            self._chunk_size = max(_LARGEST_PASS // self._widest_layer(), 1)
        return self._chunk_size

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that `log_prob` takes beside the value."""
        context = set() if self._context_shape is None else {"context"}
        of_base = keywords_of(self.distribution)
        return frozenset(context | self.bijector.keywords | of_base)

    @property
    def domain(self) -> tuple[float, float] | None:
        """The interval that data must lie in, or `None` for the real line."""
        return self.bijector.domain

    @property
    def config(self) -> dict[str, Any] | None:
        """Arguments of a ready flow, for `tfp_flows.flows.from_config`, or `None`."""
        return self._config

    @property
    def exactness(self) -> str:
        """What `log_prob` gives: an `"exact"` log-density, `"estimate"` or `"bound"`.

        An estimate is without bias, as where a log-determinant is estimated; the mean
        of a bound is below the log-density, as of a `LowerBound` as the base.
        """
        of_base = getattr(self.distribution, "exactness", "exact")
        if of_base == "exact" and "seed" in self.bijector.keywords:
            return "estimate"
        return of_base

    @property
    def needs_initialization(self) -> bool:
        """Whether parts of this flow are still to be set by `initialize`."""
        parts = [m for m in self.submodules if isinstance(m, (JointBijector, Flow))]
        parts += [self._context_encoder, self.distribution]
        return any(getattr(part, "needs_initialization", False) for part in parts)

    def initialize(self, x: Any, context: Any = None) -> tf.Tensor:
        """Sets parts that start from data, on the way from data to noise.

        A context encoder with `needs_initialization` comes first: its `initialize` gets
        the context. Then each `ActNorm` takes the mean and standard deviation of its
        input (Kingma & Dhariwal 2018, section 3.1), and each `Scaling` with
        `data_dependent=True` the deviations. A base that starts from data, or is itself
        a flow, comes last.
        Parts that were initialised before, or restored from a file, stay as they are.

        Args:
          x: data `[*batch, *event_shape]`.
          context: `[*batch, *context_shape]`, for a flow with a context.

        Returns:
          The noise of the batch, `[*batch, *distribution.event_shape]`.

        Raises:
          ValueError: on an empty batch, a wrong shape, or a context that is missing or
            not expected.
        """
        x = tf.cast(as_data(x, self.dtype, f"{self.name}: x"), self.dtype)
        keywords = {} if context is None else {"context": context}
        if getattr(self._context_encoder, "needs_initialization", False):
            self._context_encoder.initialize(self._check(keywords)["context"])
        given = self._given(keywords)
        z = self.bijector.initialize(x, **given.bijector)
        base = self.distribution
        if isinstance(base, Tracked) and hasattr(base, "initialize"):
            base.initialize(z, given.base.get("context"))
        self._looked_for_initialization = True
        return z

    def given(self, context: Any) -> tfd.Distribution:
        r"""The distribution $p(x | c)$ under fixed contexts.

        It takes no `context`, so it can be used wherever TFP's distributions can: in
        joint distributions, in a `tfd.TransformedDistribution`, in `tfp.vi`. Its
        variables are those of this flow.

        Args:
          context: `[*batch, *context_shape]`.

        Returns:
          A distribution of batch shape `batch`.

        Raises:
          ValueError: if this flow takes no context, or one of another shape.
        """
        return GivenContext(self, context)

    def log_prob(
        self, value: Any, name: str = "log_prob", **keywords: Any
    ) -> tf.Tensor:
        """Log-density of data, in nats; minus infinity outside the range of the flow.

        A flow that still needs `initialize` warns once.

        Args:
          value: tensor `[*batch, *event_shape]`.
          name: name of the operations.
          **keywords: `context`, `[*batch, *context_shape]` or broadcasting with it,
            for a flow with a context; `training` for one with a training mode.

        Returns:
          Tensor of shape `batch`.

        Raises:
          ValueError: on a wrong shape; a context that is missing or not expected.
          TypeError: on an unknown keyword, or if `value` does not hold real numbers.
        """
        if not self._looked_for_initialization:
            self._warn_of_missing_initialization()
        value = as_data(value, self.dtype, f"{self.name}: value")
        log_prob = super().log_prob
        found = self._in_chunks(
            lambda y, **given: [log_prob(y, name=name, **given)],
            *(value, self.event_shape.rank, keywords, self._context_shape, [0]),
        )
        return log_prob(value, name=name, **keywords) if found is None else found[0]

    def prob(self, value: Any, name: str = "prob", **keywords: Any) -> tf.Tensor:
        """The density of data, see `log_prob`."""
        return tf.exp(self.log_prob(value, name=name, **keywords))

    def sample(
        self,
        sample_shape: Any = (),
        seed: Any = None,
        name: str = "sample",
        **keywords: Any,
    ) -> tf.Tensor:
        """Draws data.

        Args:
          sample_shape: shape of the sample, in front of the batch of the context: an
            integer or a sequence of them.
          seed: an integer of any size, a stateless seed `[2]`, or one of TFP's
            `SeedStream`s. The same seed gives the same sample.
          name: name of the operations.
          **keywords: `context`, `[*batch, *context_shape]`; `temperature`, 0 or above,
            by which noise is scaled about the mean of the base distribution. At 0, the
            sample is the data of that mean.

        Returns:
          Tensor `[*sample_shape, *batch, *event_shape]`.

        Raises:
          ValueError: if a context is missing, not expected or of a wrong shape, or if a
            size or temperature is negative.
          TypeError: on an unknown keyword, or if a size, seed or temperature is not a
            number.
        """
        return super().sample(sample_shape, seed, name=name, **keywords)

    def sample_and_log_prob(
        self, sample_shape: Any = (), seed: Any = None, **keywords: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws data and gives their log-density, in one pass.

        At a temperature, the density is still the model's, not that of the tempered
        sample.

        Args:
          sample_shape: as for `sample`.
          seed: as for `sample`.
          **keywords: as for `sample`.

        Returns:
          `(x, log_prob)`, of shapes `[*sample_shape, *batch, *event_shape]` and
          `[*sample_shape, *batch]`; nats.
        """
        shape = check_sample_shape(sample_shape)
        return self.experimental_sample_and_log_prob(shape, seed, **keywords)

    def encode(self, x: Any, **keywords: Any) -> tf.Tensor:
        """The noise of data.

        Args:
          x: tensor `[*batch, *event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor `[*batch, *distribution.event_shape]`.
        """
        if not self._looked_for_initialization:
            self._warn_of_missing_initialization()
        return self._convert(as_data(x, self.dtype, f"{self.name}: x"), False, keywords)

    def decode(self, z: Any, **keywords: Any) -> tf.Tensor:
        """The data of noise; the inverse of `encode`.

        Args:
          z: tensor `[*batch, *distribution.event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor `[*batch, *event_shape]`.
        """
        return self._convert(as_data(z, self.dtype, f"{self.name}: z"), True, keywords)

    def _convert(self, value, forward, keywords):
        ranks = [self.distribution.event_shape.rank, self.event_shape.rank]
        ndims, result_ndims = ranks if forward else ranks[::-1]
        found = self._in_chunks(
            lambda value, **given: [self._convert(value, forward, given)],
            *(value, ndims, keywords, self._context_shape, [result_ndims]),
        )
        if found is not None:
            return found[0]
        given = self._given(keywords)
        bijector = self.bijector
        method = (
            bijector.forward_and_log_det if forward else bijector.inverse_and_log_det
        )
        result, _ = method(value, **given.bijector)
        return nan_unless(given.valid, result, result_ndims)

    def noise_moments(self, **keywords: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of the noise, given a context if it needs one.

        Args:
          **keywords: as for `log_prob`.

        Returns:
          `(mean, stddev)`, each `[*batch, *distribution.event_shape]`, where `batch` is
          that of the context if the base takes one and `()` otherwise.
        """
        given = self._given(keywords)
        of_base = {k: v for k, v in given.base.items() if k != "training"}
        moments = self.distribution.mean(**of_base), self.distribution.stddev(**of_base)
        if "context" not in of_base:
            return moments
        ndims = self.distribution.event_shape.rank
        return tuple(nan_unless(given.valid, moment, ndims) for moment in moments)

    def bits_per_dim(self, x: Any, **keywords: Any) -> tf.Tensor:
        r"""$-\log_2 p(x) / D$, with $D$ the number of entries of an event.

        For images dequantised by uniform noise, in the units in which their pixels
        are stored, the mean of this is an upper bound on the bits per dimension of a
        lossless code (Theis et al. 2016, section 3.1).

        Args:
          x: tensor `[*batch, *event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor of shape `batch`, in bits per dimension.
        """
        size = self.event_shape.num_elements()
        return self.log_prob(x, **keywords) / -(size * math.log(2.0))

    def experimental_local_measure(
        self, y: Any, backward_compat: bool = False, **keywords: Any
    ) -> tuple[tf.Tensor, Any]:
        """Like `tfd.TransformedDistribution`'s method, with a context."""
        log_prob, tangent_space = super().experimental_local_measure(
            y, backward_compat=backward_compat, **keywords
        )
        return nan_unless(self._given(keywords).valid, log_prob, 0), tangent_space

    def __repr__(self) -> str:
        """The flow on several lines: its shapes, its base and its bijectors."""
        return describe_flow(self)

    def _warn_of_missing_initialization(self):
        self._looked_for_initialization = True
        with tf.init_scope():
            waits = tf.executing_eagerly() and self.needs_initialization
        if waits:
            warnings.warn(
                f"{self.name}: parts of this flow (ActNorm, say) take their first "
                "values from data and have seen none yet, so densities and codes are "
                "far from what training starts with. tfp_flows.training.initialize("
                "flow, x) sets them, as FlowModel.fit does by itself.",
                stacklevel=3,
            )

    # What TFP's public methods call.

    # `_log_prob` makes the check of `Tracked` itself, with fewer calls on the way.
    _call_log_prob = TRANSFORMED_DISTRIBUTION._call_log_prob

    @tf.autograph.experimental.do_not_convert
    def _log_prob(self, y, **keywords):
        check_tracked(self)
        given = self._given(keywords)
        z, ildj = self.bijector.inverse_and_log_det(y, **given.bijector)
        log_prob = self._log_prob_of_noise(z, given) + self._over_event(ildj)
        # Data so far out that numbers overflow have a density of 0, where a difference
        # of infinities would be NaN. Where it is 0, gradients are stopped: those of a
        # mixture, say, may be NaN there.
        none = tf.constant(-math.inf, log_prob.dtype)
        far = sum_trailing(tf.abs(y), self.event_shape.rank) > y.dtype.max**0.25
        is_zero = tf.equal(log_prob, none) | (tf.math.is_nan(log_prob) & far)
        log_prob = tf.where(is_zero, none, log_prob)
        return nan_unless(given.valid, log_prob, 0)

    def _call_sample_n(self, sample_shape, seed, **keywords):
        z, given = self._sample_noise(sample_shape, seed, **keywords)

        def pass_(z, **of_bijector):
            return [self.bijector.forward_and_log_det(z, **of_bijector)[0]]

        (x,) = self._from_noise(pass_, z, given, [self.event_shape.rank])
        return nan_unless(given.valid, x, self.event_shape.rank)

    def _sample_and_log_prob(self, sample_shape, seed, **keywords):
        z, given = self._sample_noise(sample_shape, seed, **keywords)

        def pass_(z, **of_bijector):
            y, fldj = self.bijector.forward_and_log_det(z, **of_bijector)
            return y, self._over_event(fldj)

        y, fldj = self._from_noise(pass_, z, given, [self.event_shape.rank, 0])
        log_prob = self._log_prob_of_noise(z, given) - fldj
        y = nan_unless(given.valid, y, self.event_shape.rank)
        return y, nan_unless(given.valid, log_prob, 0)

    def _from_noise(self, pass_, z, given, result_ranks):
        ndims = self.distribution.event_shape.rank
        shape = self._inner_context_shape if "context" in given.bijector else None
        found = self._in_chunks(pass_, z, ndims, given.bijector, shape, result_ranks)
        return pass_(z, **given.bijector) if found is None else found

    def _log_prob_of_noise(self, z, given):
        base = self.distribution
        if self._support is not None:
            return self._support.log_prob(base, z, **given.base)
        return base.log_prob(z, **given.base)

    def _over_event(self, log_det):
        extra = self.event_shape.rank - self.bijector.inverse_min_event_ndims
        return sum_trailing(log_det, extra)

    def _sample_noise(self, sample_shape, seed, temperature=None, **keywords):
        given = self._given(keywords, ("temperature",))
        sample_shape = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        base, of_base = self.distribution, {}
        if "context" in given.base:
            of_base["context"] = given.base["context"]
        else:
            base = _with_batch_of(self)
            context = given.bijector.get("context")
            if context is not None:
                rank = context.shape.rank - len(self._inner_context_shape)
                batch = tf.shape(context)[: max(rank - self.batch_shape.rank, 0)]
                sample_shape = tf.concat([sample_shape, batch], 0)
        z = base.sample(_static(sample_shape), seed=stateless_seed(seed), **of_base)
        if temperature is not None:
            temperature = tf.cast(check_temperature(temperature), z.dtype)
            mean = self.distribution.mean(**of_base)
            z = mean + temperature * (z - mean)
            if tf.get_static_value(temperature) is None:
                valid = both(given.valid, tf.reduce_all(temperature >= 0.0))
                given = given._replace(valid=valid)
        return z, given

    def _widest_layer(self):
        """Bytes for one event; looked for once, which takes a tenth of a second."""
        if self._bytes_of_layer is None:
            self._bytes_of_layer = _bytes_of_widest_layer(self)
        return self._bytes_of_layer

    def _in_chunks(self, function, value, ndims, keywords, context_shape, result_ranks):
        """`function(value, **keywords)` in chunks; `None` if one pass is to be used."""
        if value.shape.num_elements() is None or (
            keywords and set(keywords) != {"context"}
        ):
            return None
        parts, ranks = [value], [ndims]
        context = keywords.get("context")
        if context is not None:
            if context_shape is None:
                return None
            try:
                context = as_context(context, context_shape, self.name)
                if context_shape == self._context_shape:
                    # Labels out of range are an error here, in a graph they are NaN.
                    getattr(self._context_encoder, "check", lambda _: None)(context)
            except (TypeError, ValueError):
                # The single pass raises an error with more detail.
                return None
            of_context = parts_of(context, context_shape)
            parts += [part for part, _ in of_context]
            ranks += [len(shape) for _, shape in of_context]
        batch = common_batch(parts, ranks)
        if (batch.num_elements() or 0) <= self.chunk_size:
            return None
        if self.distribution.batch_shape.rank != 0 or could_possibly_record():
            return None

        def call(value, *parts):
            if context is None:
                return function(value)
            if isinstance(context_shape, dict):
                named = dict(zip(context_shape, parts, strict=True))
                return function(value, context=named)
            return function(value, context=parts[0])

        size = min(self.chunk_size, max(_CHUNK // self._widest_layer(), 64))
        return in_chunks(call, size, parts, ranks, result_ranks, self.dtype)

    # Keywords.

    def _split(self, keywords, others=()):
        """Keywords of the bijector, and keywords of the base."""
        return self._given(keywords, others)[:2]

    def _split_for_tfp(self, keywords):
        """The same in the order that TFP expects: those of the base first."""
        return self._split(keywords)[::-1]

    def _keywords(self, keywords):
        """Keywords of the bijector."""
        return self._given(keywords).bijector

    def _given(self, keywords: dict[str, Any], others: Iterable[str] = ()) -> _Given:
        keywords, valid = self._check(keywords, others), None
        if self._context_shape is not None:
            context, valid = without_nan(keywords["context"], self._context_shape)
            if self._context_encoder is not None:
                context = self._context_encoder(context)
                inner = self._inner_context_shape
                context, is_one = without_nan(context, inner)
                valid = both(valid, is_one)
            keywords = {**keywords, "context": context}
        of_bijector, of_base = (
            {k: v for k, v in keywords.items() if k in names}
            for names in (self.bijector.keywords, keywords_of(self.distribution))
        )
        return _Given(of_bijector, of_base, valid)

    def _check(self, keywords, others=()):
        """Keywords with a checked context; a clear error for any unknown one."""
        known = sorted({*self.keywords, *others})
        if self._context_shape is None and keywords.get("context") is not None:
            raise ValueError(
                f"{self.name}: context was given, but this flow takes none."
            )
        keywords = {
            k: v for k, v in keywords.items() if k != "context" or v is not None
        }
        unknown = sorted(set(keywords) - set(known))
        if unknown:
            of_tfp = {"bijector_kwargs", "distribution_kwargs"} & set(unknown)
            raise TypeError(
                f"{self.name}: unknown keyword(s) {unknown}; known: {known or 'none'}."
                + (
                    " A Flow takes them as they are, log_prob(x, context=c), and hands "
                    "them on to the bijector and the base that know them."
                    if of_tfp
                    else ""
                )
            )
        if self._context_shape is None:
            return keywords
        if keywords.get("context") is None:
            raise ValueError(
                f"{self.name}: context is required, {_wanted(self._context_shape)}."
            )
        context = as_context(keywords["context"], self._context_shape, self.name)
        if isinstance(self._context_encoder, Conditioner):
            # Networks also take images that are stored as integers.
            context = _as_floats(context, self.context_dtype)
        return {**keywords, "context": context}


def with_config(flow: tfd.Distribution, config: Mapping[str, Any]) -> tfd.Distribution:
    """Sets the `config` of a flow, from which `tfp_flows.flows.from_config` builds it.

    Args:
      flow: a `Flow` or `LowerBound`, which is changed.
      config: the arguments.

    Returns:
      `flow`.
    """
    object.__setattr__(flow, "_config", dict(config))
    return flow


def _bytes_of_widest_layer(flow: Flow) -> int:
    """An estimate for one event, from the last dimensions of variables."""
    shape = flow.event_shape
    for member in getattr(flow.bijector, "bijectors", ()):
        # Networks may see images as vectors.
        found = member.inverse_event_shape(shape)
        if member.trainable_variables or not found.is_fully_defined():
            break
        shape = found
    shape = shape.as_list() or [1]
    widths = [v.shape[-1] for v in flow.bijector.variables if v.shape.rank]
    parts = flow.bijector.submodules
    layers = [part.keras_layer for part in parts if isinstance(part, Conditioner)]
    # They see vectors as tokens.
    tokens = [x.tokens for x in layers if isinstance(x, TokenNetwork)]
    entries = max([math.prod(shape[:-1]), *tokens]) * max([shape[-1], *widths])
    return entries * tf.as_dtype(flow.dtype).size


def _wanted(shape: ContextShape) -> str:
    if isinstance(shape, dict):
        return f"a dict of arrays [*batch, *shape] with the shapes {shape}"
    return f"of shape [*batch{''.join(f', {n}' for n in shape)}]"


def _as_floats(context, dtype):
    """Casts a context to the dtypes of the flow; labels stay integers."""
    if isinstance(context, dict):
        return {k: _as_floats(part, dtype[k]) for k, part in context.items()}
    return tf.cast(context, dtype) if dtype.is_floating else context


def _common_context_shape(distribution, bijector):
    """The context shape of bijector and base, which must agree if both have one."""
    own = bijector.context_shape
    of_base = getattr(distribution, "context_shape", None)
    if of_base is None:
        return own
    of_base = tuple(of_base)
    if own is not None and own != of_base:
        raise ValueError(
            f"context shapes must agree: the bijector takes {own}, the distribution "
            f"{of_base}."
        )
    return of_base


def _with_batch_of(flow):
    """The base of a flow, with the batch shape that the bijector's parameters add."""
    base, batch = flow.distribution, flow.batch_shape
    if not batch.is_fully_defined():
        return tfd.BatchBroadcast(base, with_shape=flow.batch_shape_tensor())
    if base.batch_shape == batch:
        return base
    return tfd.BatchBroadcast(base, with_shape=batch)


def _static(shape):
    static = tf.get_static_value(shape)
    return shape if static is None else static.tolist()
