"""A conditional distribution under fixed contexts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.contexts import as_context, parts_of
from tfp_flows.distributions.in_chunks import common_batch
from tfp_flows.distributions.static_shape import StaticShape

__all__ = ["GivenContext"]


class GivenContext(StaticShape):
    r"""The distribution $p(x | c)$ of a conditional one, under fixed contexts $c$.

    It takes no `context`, so it can be used wherever TFP's distributions can. Its
    variables are those of the conditional distribution, and the context if that is a
    variable. `flow.given(context)` makes one.

    Example:
      >>> import tensorflow as tf
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.real_nvp((2,), context_shape=(3,), seed=0)
      >>> given = flow.given(tf.ones([5, 3]))
      >>> given.batch_shape, given.sample(4).shape
      (TensorShape([5]), TensorShape([4, 5, 2]))

    Args:
      distribution: a distribution with a `context_shape` whose methods take `context`.
      context: `[*batch, *context_shape]`; a dict of arrays for one of several parts.
      name: name of the distribution; that of `distribution` by default.

    Raises:
      ValueError: if `distribution` takes no context, or one of another shape.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        context: Any,
        name: str | None = None,
    ):
        parameters = dict(locals())
        shape = getattr(distribution, "context_shape", None)
        if shape is None:
            raise ValueError(f"{distribution.name}: it takes no context.")
        if context is None:
            raise ValueError(f"{distribution.name}: context must be given, got None.")
        checked = as_context(context, shape, distribution.name)
        self._distribution = distribution
        # A variable stays one.
        self._context = context if isinstance(context, tf.Variable) else checked
        parts = parts_of(checked, shape)
        self._batch_of = [(part, len(event)) for part, event in parts]
        batch = common_batch(*zip(*self._batch_of, strict=True))
        super().__init__(
            event_shape=distribution.event_shape,
            batch_shape=tf.broadcast_static_shape(batch, distribution.batch_shape),
            dtype=distribution.dtype,
            reparameterization_type=distribution.reparameterization_type,
            parameters=parameters,
            name=name or distribution.name,
        )

    @property
    def conditional(self) -> tfd.Distribution:
        """The distribution that takes a context."""
        return self._distribution

    @property
    def exactness(self) -> str:
        """What `log_prob` gives, see `Flow.exactness`."""
        return getattr(self._distribution, "exactness", "exact")

    @property
    def context(self) -> Any:
        """The contexts."""
        return self._context

    def experimental_local_measure(
        self, value: Any, backward_compat: bool = False, **keywords: Any
    ) -> tuple[tf.Tensor, Any]:
        """Like the method of the conditional distribution, under the contexts."""
        return self._distribution.experimental_local_measure(
            value, backward_compat=backward_compat, **self._and_context(keywords)
        )

    def _and_context(self, keywords):
        if "context" in keywords:
            raise TypeError(
                f"{self.name}: unknown keyword(s) ['context']; the context is fixed."
            )
        return {**keywords, "context": self._context}

    def _log_prob(self, value, **keywords):
        return self._distribution.log_prob(value, **self._and_context(keywords))

    def _call_sample_n(self, sample_shape, seed, **keywords):
        keywords = self._and_context(keywords)
        return self._distribution.sample(sample_shape, seed, **keywords)

    def _sample_and_log_prob(self, sample_shape, seed, **keywords):
        return self._distribution.experimental_sample_and_log_prob(
            sample_shape, seed, **self._and_context(keywords)
        )

    def _mean(self, **keywords):
        return self._distribution.mean(**self._and_context(keywords))

    def _mode(self, **keywords):
        return self._distribution.mode(**self._and_context(keywords))

    def _stddev(self, **keywords):
        return self._distribution.stddev(**self._and_context(keywords))

    def _variance(self, **keywords):
        return self._distribution.variance(**self._and_context(keywords))

    def _entropy(self, **keywords):
        return self._distribution.entropy(**self._and_context(keywords))

    def _cdf(self, value, **keywords):
        return self._distribution.cdf(value, **self._and_context(keywords))

    def _quantile(self, value, **keywords):
        return self._distribution.quantile(value, **self._and_context(keywords))

    def _default_event_space_bijector(self):
        domain = getattr(self._distribution, "domain", None)
        return tfb.Identity() if domain is None else tfb.Sigmoid(*domain)

    def _batch_shape_tensor(self):
        if self._static_batch_shape.is_fully_defined():
            return super()._batch_shape_tensor()
        batch = self._distribution.batch_shape_tensor()
        for part, ndims in self._batch_of:
            own = tf.shape(part)[: part.shape.rank - ndims]
            batch = tf.broadcast_dynamic_shape(batch, own)
        return batch
