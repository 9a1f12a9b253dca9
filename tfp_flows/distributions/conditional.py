"""Base distributions that depend on a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import broadcast_context
from tfp_flows.core.tracking import check_tracked
from tfp_flows.distributions.contexts import nan_unless, without_nan
from tfp_flows.distributions.describe import describe_distribution
from tfp_flows.distributions.static_shape import StaticShape

__all__ = ["Conditional"]


class Conditional(StaticShape):
    """A distribution whose parameters are computed from a context.

    `log_prob`, `sample`, `mean`, `stddev` and the like take `context`, `[*batch,
    *context_shape]`. The result of `log_prob` has the batch shape that value and
    context broadcast to; a sample is `[*sample_shape, *batch, *event_shape]`.

    As the base of a `Flow`, it gets the context of the flow; the bijector may take the
    same context, or none. If a context holds NaN or infinity, its results are NaN,
    whatever `function` returns for it.

    Example:
      >>> import tensorflow as tf
      >>> import tensorflow_probability as tfp
      >>> tfd = tfp.distributions
      >>> base = Conditional(
      ...     lambda c: tfd.Independent(tfd.Laplace(c, 2.0), 1), (2,), (2,)
      ... )
      >>> base.sample(3, seed=0, context=tf.zeros([5, 2])).shape
      TensorShape([3, 5, 2])

    Args:
      function: maps contexts `[*batch, *context_shape]` to a distribution of batch
        shape `batch` and event shape `event_shape`. Its variables are found if it is a
        `tf.Module`. A Keras layer inside such a module must be wrapped in a
        `tfp_flows.core.conditioner.Conditioner`, or its variables are not found.
      event_shape: shape of the event.
      context_shape: shape of one context.
      dtype: dtype of values.
      name: name of the distribution.

    Raises:
      TypeError: if `function` does not return a TFP distribution, or a shape is not a
        sequence of integers.
      ValueError: if the distribution has another event shape than `event_shape`, or
        another batch shape than the contexts.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tfd.Distribution],
        event_shape: Sequence[int],
        context_shape: Sequence[int],
        dtype: Any = tf.float32,
        name: str = "conditional",
    ):
        parameters = dict(locals())
        self._function = function
        event_shape = check_shape("event_shape", event_shape)
        self._context_shape = check_shape("context_shape", context_shape)
        dtype = tf.as_dtype(dtype)
        with tf.init_scope():
            one = function(tf.zeros((1, *self._context_shape), dtype))
        if not isinstance(one, tfd.Distribution):
            raise TypeError(
                f"function must return a TFP distribution, got {type(one).__name__}."
            )
        found = tuple(one.batch_shape), tuple(one.event_shape)
        if found != ((1,), event_shape):
            raise ValueError(
                "function must return a distribution with the batch shape of the "
                f"context and event shape {event_shape}; of batch shape (1,) it made "
                f"{found[0]}, and event shape {found[1]}."
            )
        super().__init__(
            event_shape=event_shape,
            dtype=dtype,
            reparameterization_type=one.reparameterization_type,
            parameters=parameters,
            name=name,
        )

    @property
    def context_shape(self) -> tuple[int, ...]:
        """Shape of one context."""
        return self._context_shape

    def given(self, context: Any) -> tfd.Distribution:
        """The distribution that the function returns for contexts.

        Args:
          context: `[*batch, *context_shape]`, finite.

        Returns:
          A distribution of batch shape `batch`.

        Raises:
          ValueError: if the context is missing or of a wrong shape.
        """
        return self._of(context)[0]

    def _broadcast(self, value, ndims, context):
        return broadcast_context(value, ndims, context, self._context_shape, self.name)

    def _of(self, context):
        """The distribution under contexts, and which contexts are finite."""
        check_tracked(self)
        # With a scalar as the value, this checks and converts the context only.
        _, context = self._broadcast(tf.zeros([], self.dtype), 0, context)
        context, valid = without_nan(context, self._context_shape)
        return self._function(context), valid

    def _log_prob(self, value, context=None):
        ndims = len(self._static_event_shape)
        value, context = self._broadcast(value, ndims, context)
        distribution, valid = self._of(context)
        return nan_unless(valid, distribution.log_prob(value), 0)

    def _call_sample_n(self, sample_shape, seed, context=None, **_):
        distribution, valid = self._of(context)
        sample = distribution.sample(sample_shape, stateless_seed(seed))
        return nan_unless(valid, sample, len(self._static_event_shape))

    def _moment(self, name, context):
        distribution, valid = self._of(context)
        ndims = len(self._static_event_shape)
        return nan_unless(valid, getattr(distribution, name)(), ndims)

    def _mean(self, context=None):
        return self._moment("mean", context)

    def _mode(self, context=None):
        return self._moment("mode", context)

    def _stddev(self, context=None):
        return self._moment("stddev", context)

    def _variance(self, context=None):
        return self._moment("variance", context)

    def _entropy(self, context=None):
        distribution, valid = self._of(context)
        return nan_unless(valid, distribution.entropy(), 0)

    def __repr__(self) -> str:
        return describe_distribution(self, function=self._function)
