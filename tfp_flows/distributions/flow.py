"""A normalizing flow as a TFP distribution."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.chain import Chain
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import check_event_shape, sum_trailing

tfb = tfp.bijectors
tfd = tfp.distributions

__all__ = ["Flow"]


# What `tfd.TransformedDistribution(...)` makes of a bijector that is no composite
# tensor. The public class is one, and a `tf.Module` overlooks the variables of those.
_TransformedDistribution = tfd.TransformedDistribution.__base__


class Flow(_TransformedDistribution):
    r"""The distribution of $x = f(z)$ with $z$ from a base distribution.

    $$ \log p(x) = \log p_Z(f^{-1}(x)) + \log|\det \partial f^{-1}(x)/\partial x| $$

    It is a `tfd.TransformedDistribution` that evaluates value and log-determinant
    together, takes a `context`, samples at a `temperature`, and speaks of bits per
    dimension. All its results are in nats of the data as they are given to it, unless
    said otherwise.

    A context reaches the bijector if that has a `context_shape`, and the base
    distribution if that has one: a base with an attribute `context_shape` takes
    `context` in its `log_prob`, `sample` and `mean`, as
    `tfp_flows.distributions.Conditional` does. A base whose attribute `keywords` holds
    `"training"` takes that in `log_prob`.

    Args:
      distribution: distribution of the noise $z$.
      bijector: any `tfb.Bijector`, from noise to data.
      context_encoder: what turns the context a user gives into the one that bijector
        and base take; the identity by default. A Keras layer, a `tf.Module` or another
        callable with variables is a part of the flow, trained with it; it sees one
        batch dimension. A plain function (labels into one-hot vectors) sees any.
      context_shape: shape of one context as a user gives it; that of the bijector or
        base by default. `()` stands for integer labels when there is a
        `context_encoder`.
      config: description from which `tfp_flows.flows` can build this flow again; set
        by the ready flows.
      validate_args: see `tfd.Distribution`.
      name: name of the flow.

    Raises:
      ValueError: if the event of the base distribution does not fit the bijector, or
        the shapes of the contexts that these two, the encoder and the user have do not
        fit.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        bijector: tfb.Bijector,
        context_encoder: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        config: Mapping[str, Any] | None = None,
        validate_args: bool = False,
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
        if context_shape is None:
            context_shape = self._inner_context_shape
        self._context_shape = (
            None if context_shape is None else tuple(map(int, context_shape))
        )
        self._context_encoder = self._wrap_encoder(
            context_encoder, tf.as_dtype(distribution.dtype)
        )
        parameters["context_encoder"] = self._context_encoder
        self._config = self._no_dependency(None if config is None else dict(config))
        super().__init__(distribution, bijector, validate_args=validate_args, name=name)
        self._parameters = self._no_dependency(
            {k: v for k, v in parameters.items() if k not in ("self", "__class__")}
        )

    def _wrap_encoder(self, encoder, dtype):
        """The encoder with its variables in sight; checks that shapes fit."""
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
        labels = outer == ()
        try:
            return Conditioner(
                encoder, outer, inner, dtype=tf.int32 if labels else dtype
            )
        except ValueError as error:
            raise ValueError(f"context_encoder does not fit: {error}") from error

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)

    def __deepcopy__(self, memo):
        parameters = {k: _deepcopy(v, memo) for k, v in self.parameters.items()}
        return memo.setdefault(id(self), type(self)(**parameters))

    @property
    def context_shape(self) -> tuple[int, ...] | None:
        """Shape of one context as a user gives it, or `None` for a flow without."""
        return self._context_shape

    @property
    def context_dtype(self) -> tf.DType | None:
        """`int32` where contexts are labels, else the flow's; `None` without."""
        if self._context_shape is None:
            return None
        if self._context_encoder is None:
            inner = getattr(self.distribution, "context_dtype", None)
            return tf.as_dtype(inner or self.dtype)
        return tf.int32 if self._context_shape == () else tf.as_dtype(self.dtype)

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that `log_prob` takes beside the value."""
        context = set() if self._context_shape is None else {"context"}
        of_base = _base_keywords(self.distribution)
        return frozenset(context | self.bijector.keywords | of_base)

    @property
    def domain(self) -> tuple[float, float] | None:
        """The interval that data must lie in, or `None` for the real line."""
        return self.bijector.domain

    @property
    def config(self) -> dict[str, Any] | None:
        """What `tfp_flows.flows.from_config` builds this flow from, if it can."""
        return self._config

    def log_prob(self, value, name="log_prob", **keywords):
        """Log-density of data, in nats.

        Args:
          value: tensor `[*batch, *event_shape]`.
          name: name of the operations.
          **keywords: `context`, `[*batch, *context_shape]` or broadcasting with it,
            for a flow with a context; `training` for one with a training mode.

        Returns:
          Tensor of shape `batch`.

        Raises:
          ValueError: on a wrong shape; a context that is missing or not expected.
          TypeError: on an unknown keyword.
        """
        return super().log_prob(value, name=name, **keywords)

    def sample(self, sample_shape=(), seed=None, name="sample", **keywords):
        """Draws data.

        Args:
          sample_shape: shape of the sample, in front of the batch of the context.
          seed: an integer or a stateless seed `[2]`. The same seed gives the same
            sample.
          name: name of the operations.
          **keywords: `context`, `[*batch, *context_shape]`; `temperature`, a positive
            number by which noise is scaled about the mean of the base distribution.

        Returns:
          Tensor `[*sample_shape, *batch, *event_shape]`.

        Raises:
          ValueError: on a context that is missing, not expected or of a wrong shape.
          TypeError: on an unknown keyword.
        """
        return super().sample(sample_shape, _stateless(seed), name=name, **keywords)

    def sample_and_log_prob(self, sample_shape=(), seed=None, **keywords):
        """Draws data and gives their log-density, in one pass.

        Takes what `sample` takes. At a temperature, the density is still the model's,
        not that of the tempered sample.

        Returns:
          `(x, log_prob)`, of shapes `[*sample_shape, *batch, *event_shape]` and
          `[*sample_shape, *batch]`; nats.
        """
        return self.experimental_sample_and_log_prob(
            sample_shape, _stateless(seed), **keywords
        )

    def encode(self, x, **keywords):
        """The noise of data.

        Args:
          x: tensor `[*batch, *event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor `[*batch, *distribution.event_shape]`.
        """
        return self.bijector.inverse_and_log_det(x, **self._keywords(keywords))[0]

    def decode(self, z, **keywords):
        """The data of noise; the inverse of `encode`.

        Args:
          z: tensor `[*batch, *distribution.event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor `[*batch, *event_shape]`.
        """
        return self.bijector.forward_and_log_det(z, **self._keywords(keywords))[0]

    def noise_moments(self, **keywords):
        """Mean and standard deviation of the noise, given a context if it needs one.

        Args:
          **keywords: as for `log_prob`.

        Returns:
          `(mean, stddev)`, each `[*batch, *distribution.event_shape]`, where `batch` is
          that of the context if the base takes one and `()` otherwise.
        """
        given = self._split(keywords)[1]
        given.pop("training", None)
        return self.distribution.mean(**given), self.distribution.stddev(**given)

    def bits_per_dim(self, x, **keywords):
        r"""$-\log_2 p(x) / D$, with $D$ the number of entries of an event.

        For images dequantised by uniform noise, in the units in which their pixels
        are stored, the mean of this is an upper bound on the bits per dimension of a
        lossless code (Theis et al. 2016, section 3.1).

        Returns:
          Tensor of shape `batch`, in bits per dimension.
        """
        size = self.event_shape.num_elements()
        return self.log_prob(x, **keywords) / -(size * math.log(2.0))

    # What TFP's public methods call.

    @tf.autograph.experimental.do_not_convert
    def _log_prob(self, y, **keywords):
        keywords, of_base = self._split(keywords)
        x, ildj = self.bijector.inverse_and_log_det(y, **keywords)
        extra = self.event_shape.rank - self.bijector.inverse_min_event_ndims
        return self.distribution.log_prob(x, **of_base) + sum_trailing(ildj, extra)

    def _call_sample_n(self, sample_shape, seed, **keywords):
        z, keywords, _ = self._sample_noise(sample_shape, seed, **keywords)
        return self.bijector.forward_and_log_det(z, **keywords)[0]

    def _sample_and_log_prob(self, sample_shape, seed, **keywords):
        z, keywords, of_base = self._sample_noise(sample_shape, seed, **keywords)
        y, fldj = self.bijector.forward_and_log_det(z, **keywords)
        extra = self.event_shape.rank - self.bijector.inverse_min_event_ndims
        log_prob = self.distribution.log_prob(z, **of_base)
        return y, log_prob - sum_trailing(fldj, extra)

    def _sample_noise(self, sample_shape, seed, temperature=None, **keywords):
        keywords, of_base = self._split(keywords, ("temperature",))
        sample_shape = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        base = self.distribution
        if "context" not in of_base:
            base = self._maybe_broadcast_distribution_batch_shape()
            context = keywords.get("context")
            if context is not None:
                rank = context.shape.rank - len(self._inner_context_shape)
                batch = tf.shape(context)[: max(rank - self.batch_shape.rank, 0)]
                sample_shape = tf.concat([sample_shape, batch], 0)
        given = {k: v for k, v in of_base.items() if k == "context"}
        z = base.sample(_static(sample_shape), seed=seed, **given)
        if temperature is not None:
            temperature = tf.cast(temperature, z.dtype)
            mean = self.distribution.mean(**given)
            z = mean + temperature * (z - mean)
        return z, keywords, of_base

    def _split(self, keywords, others=()):
        """Keywords as the bijector and as the base take them."""
        keywords = self._encoded(keywords, others)
        return tuple(
            {k: v for k, v in keywords.items() if k in names}
            for names in (self.bijector.keywords, _base_keywords(self.distribution))
        )

    def _keywords(self, keywords):
        """Keywords as the bijector takes them."""
        return self._split(keywords)[0]

    def _encoded(self, keywords, others=()):
        """Keywords with the context encoded; a clear error for any unknown one."""
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
            raise TypeError(
                f"{self.name}: unknown keyword(s) {unknown}; known: {known or 'none'}."
            )
        if self._context_shape is None:
            return keywords
        context = keywords.get("context")
        if context is None:
            raise ValueError(
                f"{self.name}: context is required, of shape [*batch"
                f"{''.join(f', {n}' for n in self._context_shape)}]."
            )
        context = tf.convert_to_tensor(context)
        if self._context_encoder is not None:
            if isinstance(self._context_encoder, Conditioner):
                if self.context_dtype.is_floating:
                    # Networks take pixels that are stored as integers, too.
                    context = tf.cast(context, self.context_dtype)
                context = check_event_shape(
                    context,
                    self._context_shape,
                    len(self._context_shape),
                    f"{self.name}: context",
                )
            context = self._context_encoder(context)
        return {**keywords, "context": context}


def _base_keywords(distribution) -> set[str]:
    """Keywords that a base distribution takes; TFP's take none."""
    takes_context = getattr(distribution, "context_shape", None) is not None
    context = {"context"} if takes_context else set()
    return context | ({"training"} & set(getattr(distribution, "keywords", ())))


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


def _deepcopy(value, memo):
    """`copy.deepcopy`, also of those TFP distributions whose `__new__` forbids it."""
    if not isinstance(value, tfd.Distribution) or isinstance(value, Flow):
        return copy.deepcopy(value, memo)
    if id(value) not in memo:
        parameters = {k: _deepcopy(v, memo) for k, v in value.parameters.items()}
        memo[id(value)] = type(value)(**parameters)
    return memo[id(value)]


def _stateless(seed):
    """An integer seed as a stateless one, so that it always gives the same numbers."""
    return stateless_seed(seed) if isinstance(seed, (int, np.integer)) else seed


def _static(shape):
    static = tf.get_static_value(shape)
    return shape if static is None else static.tolist()
