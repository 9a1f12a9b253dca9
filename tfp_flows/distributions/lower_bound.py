"""What a function that loses information makes of a flow: a bound, not a density."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import check_event_shape
from tfp_flows.distributions.contexts import ContextShape
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.given_context import GivenContext
from tfp_flows.distributions.inputs import as_data
from tfp_flows.distributions.static_shape import StaticShape

__all__ = ["LowerBound"]


class LowerBound(StaticShape):
    r"""The distribution of $x = h(v)$, with $v$ from a flow and $h$ not invertible.

    Rounding down makes integers of numbers, argmax makes categories, and leaving out
    some entries makes shorter vectors. Such an $h$ is a generative surjection (Nielsen
    et al. 2020, section 3.1): many $v$ belong to one $x$. The density of $x$ is the
    integral of the flow's density $p$ over them, and `log_prob` draws $v_1, \ldots,
    v_S$ among them from a distribution $q(v | x)$ and returns

    $$ \log \frac1S \sum_{s=1}^S \frac{p(v_s)}{q(v_s | x)}, \qquad
       \mathbb E[\,\cdot\,] \le \log p(x). $$

    This is a random number whose mean is a lower bound of the log-density, in nats. It
    rises towards it with $S$ (Burda et al. 2016, theorem 1), and as $q$ comes closer to
    the $p(v | x)$ of the flow. Training raises it by means of both.

    A subclass implements

    * `_lift(x, samples, seed) -> (v, log_q)`: draws `v [*samples, *batch, ...]`, and
      $\log q(v | x)$ in nats, `[*samples, *batch]`;
    * `_drop(v) -> x`: the function $h$;

    and `_valid(x) -> (x, valid)` where not every $x$ is one that $h$ gives.
    `VariationalDequantization`, `MixedDequantization` and `Augmented` do.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import distributions, flows
      >>> class Absolute(distributions.LowerBound):
      ...     def __init__(self, flow, samples=1, name="absolute"):
      ...         parameters = dict(locals())
      ...         super().__init__(flow, event_shape=flow.event_shape,
      ...             samples=samples, parameters=parameters, name=name)
      ...
      ...     def _lift(self, x, samples, seed):
      ...         shape = tf.concat([samples, tf.shape(x)], 0)
      ...         is_minus = tf.random.stateless_uniform(shape, seed) < 0.5
      ...         log_q = tf.fill(shape[:-1], -2 * tf.math.log(2.0))  # of two signs
      ...         return tf.where(is_minus, -x, x), log_q
      ...
      ...     def _drop(self, v):
      ...         return tf.abs(v)
      >>> absolute = Absolute(flows.maf((2,), width=8, normalize=False, seed=0))
      >>> absolute.log_prob([[1.0, 2.0]], samples=4, seed=0).shape
      TensorShape([1])

    Attributes:
      exactness: `"bound"`, which is what `log_prob` gives. That of a `Flow` is
        `"exact"`, or `"estimate"` if its log-determinant is estimated without bias.
      discrete: which entries of an event are discrete, a bool or one for each entry.

    Args:
      flow: the `Flow` that gives $v$.
      event_shape: shape of $x$.
      samples: $S$, how many times `log_prob` draws.
      parameters: the arguments of the subclass's constructor, see `StaticShape`.
      name: name of the distribution.

    Raises:
      TypeError: if `flow` is not a `Flow`.
      ValueError: if `samples` is below 1.
    """

    papers: tuple[str, ...] = ("nielsen2020survae", "burda2016importance")
    exactness = "bound"
    discrete: bool | Sequence[bool] = False

    _estimation_arguments = frozenset({"samples"})

    def __init__(
        self,
        flow: Flow,
        *,
        event_shape: Sequence[int],
        samples: int,
        parameters: Mapping[str, Any],
        name: str,
    ):
        check_flow(flow)
        self._flow = flow
        self._samples = check_integer("samples", samples)
        self._config = None
        super().__init__(
            event_shape=event_shape,
            batch_shape=flow.batch_shape,
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            parameters=parameters,
            name=name,
        )

    def copy(self, **overrides: Any) -> Any:
        """One with some constructor arguments replaced, and the same variables.

        Use `copy.deepcopy` for variables of its own.
        """
        new = super().copy(**overrides)
        if not set(overrides) - {"name"}:
            object.__setattr__(new, "_config", self._config)
        return new

    @property
    def needs_initialization(self) -> bool:
        """Whether parts of the flow are still to be set by `initialize`."""
        return self._flow.needs_initialization

    def initialize(self, x: Any, context: Any = None) -> tf.Tensor:
        """Draws a $v$ for each event and initialises the flow, see `Flow.initialize`.

        Args:
          x: data `[*batch, *event_shape]`.
          context: `[*batch, *context_shape]`, for a flow with a context.

        Returns:
          The flow's noise of the batch.
        """
        v, _ = self._lift(self._checked(x)[0], (), self._seed(None))
        return self._flow.initialize(v, context)

    def given(self, context: Any) -> tfd.Distribution:
        """The distribution under fixed contexts, see `Flow.given`.

        Args:
          context: `[*batch, *context_shape]`.

        Returns:
          A distribution of batch shape `batch`.
        """
        return GivenContext(self, context)

    @property
    def flow(self) -> Flow:
        """The flow that gives $v$."""
        return self._flow

    @property
    def samples(self) -> int:
        """How many times each `log_prob` draws."""
        return self._samples

    @property
    def bijector(self) -> tfp.bijectors.Bijector:
        """The bijector of the flow."""
        return self._flow.bijector

    @property
    def context_shape(self) -> ContextShape | None:
        """Shape of one context of the flow, or `None`."""
        return self._flow.context_shape

    @property
    def context_dtype(self) -> tf.DType | dict[str, tf.DType] | None:
        """Dtype of contexts of the flow, see `Flow.context_dtype`."""
        return self._flow.context_dtype

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that `log_prob` takes beside the value."""
        return self._flow.keywords | {"samples", "seed"}

    @property
    def config(self) -> dict[str, Any] | None:
        """Arguments of a ready flow, for `tfp_flows.flows.from_config`, or `None`."""
        return self._config

    def log_prob(
        self, value: Any, name: str = "log_prob", **keywords: Any
    ) -> tf.Tensor:
        """A random lower bound (in the mean) on the log-density, in nats.

        Args:
          value: data `[*batch, *event_shape]`.
          name: name of the operations.
          **keywords: `seed`, an integer or a stateless seed `[2]`; the same seed gives
            the same draws. `samples`, in place of the constructor's. `context` and
            `training`, as for the flow.

        Returns:
          Tensor of shape `batch`.

        Raises:
          ValueError: on a wrong shape; a context that is missing or not expected.
          TypeError: on an unknown keyword.
        """
        return super().log_prob(value, name=name, **keywords)

    def sample(
        self,
        sample_shape: Any = (),
        seed: Any = None,
        name: str = "sample",
        **keywords: Any,
    ) -> tf.Tensor:
        """Draws data: what $h$ makes of the flow's samples.

        Args:
          sample_shape: shape of the sample, in front of the batch of the context.
          seed: an integer or a stateless seed `[2]`. The same seed gives the same
            sample.
          name: name of the operations.
          **keywords: as for the `sample` of the flow: `context`, `temperature`.

        Returns:
          Tensor `[*sample_shape, *batch, *event_shape]` of the flow's dtype.
        """
        return super().sample(sample_shape, seed, name=name, **keywords)

    def bits_per_dim(self, x: Any, **keywords: Any) -> tf.Tensor:
        r"""An upper bound (in the mean) on $-\log_2 p(x) / D$, from `log_prob`.

        Args:
          x: data `[*batch, *event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor of shape `batch`, in bits per dimension.
        """
        size = self.event_shape.num_elements()
        return self.log_prob(x, **keywords) / -(size * math.log(2.0))

    # What a subclass implements.

    _noise_in_words = ""

    def _lift(self, x, samples, seed):
        raise NotImplementedError

    def _drop(self, v):
        raise NotImplementedError

    def _valid(self, x):
        """The values that data stand for, and which events are possible; None: all."""
        return x, None

    # What TFP's public methods call.

    def _log_prob(self, value, seed=None, samples=None, **keywords):
        # The flow raises the error for a context that is not expected.
        unknown = keywords.keys() - self.keywords - {"context"}
        if unknown:
            raise TypeError(
                f"{self.name}: unknown keyword(s) {sorted(unknown)}; known: "
                f"{sorted(self.keywords)}."
            )
        if samples is None:
            samples = self._samples
        samples = check_integer("samples", samples)
        x, valid = self._checked(value)
        v, log_q = self._lift(x, [samples], self._seed(seed))
        log_p = self._flow.log_prob(v, **keywords)
        bound = tf.reduce_logsumexp(log_p - log_q, 0) - math.log(samples)
        if valid is None:
            return bound
        # NaN stays NaN.
        return tf.where(valid | tf.math.is_nan(bound), bound, -math.inf)

    def _call_sample_n(self, sample_shape, seed, **keywords):
        return self._drop(self._flow.sample(sample_shape, seed, **keywords))

    def _encode(self, x, **keywords):
        """The flow's noise of a draw for each event."""
        v, _ = self._lift(self._checked(x)[0], (), self._seed(None))
        return self._flow.encode(v, **keywords)

    def _checked(self, value):
        event = self.event_shape
        value = as_data(value, self.dtype, f"{self.name}: value")
        value = check_event_shape(value, event, event.rank, f"{self.name}: value")
        return self._valid(tf.cast(value, self.dtype))

    def _seed(self, seed):
        return tfp.random.sanitize_seed(stateless_seed(seed), salt=self.name)

    def _keywords(self, keywords):
        """Keywords of the bijector."""
        return self._flow._keywords(keywords)


def check_flow(flow: Any) -> None:
    """Raises a TypeError unless it is a `Flow`."""
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a tfp_flows.Flow, got {type(flow).__name__}.")


def check_noise(
    name: str,
    noise: Any,
    event_shape: Sequence[int],
    context_shape: Sequence[int] | None,
    dtype: Any,
) -> None:
    """Raises an error unless a distribution of noise fits the data.

    Args:
      name: of the argument.
      noise: the distribution.
      event_shape: shape that its events must have.
      context_shape: that of its contexts; `None` if it may do without.
      dtype: its dtype.
    """
    if not isinstance(noise, tfd.Distribution):
        raise TypeError(
            f"{name} must be a TFP distribution, or None for uniform noise, got "
            f"{type(noise).__name__}."
        )
    for what, found, expected in (
        ("event shape", tuple(noise.event_shape), tuple(event_shape)),
        ("context_shape", getattr(noise, "context_shape", None), context_shape),
        ("dtype", tf.as_dtype(noise.dtype).name, tf.as_dtype(dtype).name),
    ):
        if found != expected and not (what == "context_shape" and expected is None):
            raise ValueError(
                f"{name} must have the {what} {expected}, since its context is the "
                f"data of flow; got {found}."
            )
