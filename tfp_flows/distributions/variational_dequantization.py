"""A flow over real numbers as a distribution over integers."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import ALGORITHM, stateless_seed
from tfp_flows.core.shapes import check_event_shape
from tfp_flows.distributions.contexts import ContextShape
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.given_context import GivenContext
from tfp_flows.distributions.inputs import as_data
from tfp_flows.distributions.static_shape import StaticShape

__all__ = ["VariationalDequantization"]


class VariationalDequantization(StaticShape):
    r"""A distribution of integers, made from a flow over real numbers.

    The probability of $x \in \{0, \ldots, K - 1\}^D$ is the integral of the flow's
    density $p$ over the cube $x + [0, 1)^D$. `log_prob` draws $u_1, \ldots, u_S$ from a
    noise flow $q(u | x)$ on that cube and returns

    $$ \log \frac1S \sum_{s=1}^S \frac{p(x + u_s)}{q(u_s | x)}, \qquad
       \mathbb E[\,\cdot\,] \le \log P(x) = \log \int_{[0, 1)^D} p(x + u)\, du: $$

    a random number whose mean is a lower bound on $\log P(x)$, in nats of the integers
    (Ho et al. 2019, section 3.1, with $S = 1$; Hoogeboom et al. 2021 with more). The
    bound rises towards $\log P(x)$ with $S$ (Burda et al. 2016, theorem 1), and as
    $q(u | x)$ comes closer to $p(x + u) / P(x)$. Training raises it by means of both
    flows. Without a noise flow, $u$ is uniform: this is the bound that training on data
    with uniform noise maximises (Theis et al. 2016, section 3.1).

    **Values** are integers, in a floating or an integer dtype. Numbers are rounded
    down, so data with noise in [0, 1) count as the same integers. $K$ counts as
    $K - 1$, since $K - 1$ plus noise may round to $K$. Outside $[0, K]$, the
    log-probability is $-\infty$.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.real_nvp((2,), bounds=(0, 4), seed=0)
      >>> integers = VariationalDequantization(flow, levels=4, samples=8)
      >>> integers.log_prob([[0, 3], [4, 5]], seed=1).numpy()[1:]
      array([-inf], dtype=float32)

    Args:
      flow: the `Flow` over real numbers, with most of its mass in $[0, K]^D$: a ready
        flow with `bounds=(0, levels)`.
      noise_flow: the distribution of noise in $[0, 1)$, with the event shape and dtype
        of `flow`; its context is the data. It is a `Flow` whose `context_shape` is its
        event shape and whose bijector ends in a sigmoid. The context is $x + 0.5$,
        scaled to $(-0.5, 0.5)$. `None` stands for uniform noise.
      levels: $K$, the number of integers, at least 2.
      samples: $S$, how many times noise is drawn for each `log_prob`.
      name: name of the distribution.

    Raises:
      TypeError: if `flow` is not a `Flow`, or `noise_flow` not a TFP distribution.
      ValueError: if `levels` is below 2 or `samples` below 1, or the event shape,
        context shape or dtype of `noise_flow` does not fit.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        noise = "theis2016note" if self._noise_flow is None else "ho2019flowpp"
        more = "burda2016importance", "hoogeboom2021dequantization"
        return (noise, *more * (self._samples > 1))

    _estimation_arguments = frozenset({"samples"})

    def __init__(
        self,
        flow: Flow,
        noise_flow: tfd.Distribution | None = None,
        levels: int = 256,
        samples: int = 1,
        name: str = "variational_dequantization",
    ):
        parameters = dict(locals())
        if not isinstance(flow, Flow):
            raise TypeError(
                f"flow must be a tfp_flows.Flow, got {type(flow).__name__}."
            )
        _check_noise_flow(noise_flow, flow)
        self._flow, self._noise_flow = flow, noise_flow
        self._levels = check_integer("levels", levels, at_least=2)
        self._samples = check_integer("samples", samples)
        self._config = None
        super().__init__(
            event_shape=flow.event_shape,
            batch_shape=flow.batch_shape,
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            parameters=parameters,
            name=name,
        )

    def copy(self, **overrides: Any) -> VariationalDequantization:
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
        """Adds noise to integers and initialises the flow, see `Flow.initialize`.

        Args:
          x: integers `[*batch, *event_shape]`.
          context: `[*batch, *context_shape]`, for a flow with a context.

        Returns:
          The flow's noise of the batch.
        """
        return self._flow.initialize(self.dequantize(x)[0], context)

    def given(self, context: Any) -> tfd.Distribution:
        """The distribution of integers under fixed contexts, see `Flow.given`.

        Args:
          context: `[*batch, *context_shape]`.

        Returns:
          A distribution of batch shape `batch`.
        """
        return GivenContext(self, context)

    @property
    def flow(self) -> Flow:
        """The flow over real numbers."""
        return self._flow

    @property
    def noise_flow(self) -> tfd.Distribution | None:
        """The distribution of the noise given the data; `None` if it is uniform."""
        return self._noise_flow

    @property
    def levels(self) -> int:
        """The number of integers."""
        return self._levels

    @property
    def samples(self) -> int:
        """How many times noise is drawn for each `log_prob`."""
        return self._samples

    @property
    def bijector(self) -> tfp.bijectors.Bijector:
        """The bijector of the flow over real numbers."""
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
    def domain(self) -> tuple[float, float]:
        """The interval that data must lie in."""
        return 0.0, float(self._levels)

    @property
    def config(self) -> dict[str, Any] | None:
        """Arguments of a ready flow, for `tfp_flows.flows.from_config`, or `None`."""
        return self._config

    def log_prob(
        self, value: Any, name: str = "log_prob", **keywords: Any
    ) -> tf.Tensor:
        """A random lower bound (in the mean) on the log-probability, in nats.

        Args:
          value: integers `[*batch, *event_shape]`.
          name: name of the operations.
          **keywords: `seed`, an integer or a stateless seed `[2]`; the same seed gives
            the same noise. `samples`, in place of the constructor's. `context` and
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
        """Draws integers: the flow's samples, rounded down and clipped to the range.

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

    def dequantize(
        self, x: Any, samples: Any = (), seed: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        r"""Adds noise to integers.

        Args:
          x: integers `[*batch, *event_shape]`.
          samples: shape of the sample of noise, in front of the batch.
          seed: an integer or a stateless seed `[2]`.

        Returns:
          `(v, log_q)`: real numbers $x + u$, `[*samples, *batch, *event_shape]`, and
          $\log q(u | x)$ in nats, `[*samples, *batch]`. Gradients reach the noise flow
          through both.
        """
        return self._dequantize(self._integers(x)[0], samples, seed)

    def bits_per_dim(self, x: Any, **keywords: Any) -> tf.Tensor:
        r"""An upper bound (in the mean) on $-\log_2 P(x) / D$, from `log_prob`.

        Args:
          x: integers `[*batch, *event_shape]`.
          **keywords: as for `log_prob`.

        Returns:
          Tensor of shape `batch`, in bits per dimension.
        """
        size = self.event_shape.num_elements()
        return self.log_prob(x, **keywords) / -(size * math.log(2.0))

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
        x, valid = self._integers(value)
        v, log_q = self._dequantize(x, [samples], seed)
        log_p = self._flow.log_prob(v, **keywords)
        bound = tf.reduce_logsumexp(log_p - log_q, 0) - math.log(samples)
        return _minus_infinity_unless(valid, bound)

    def _call_sample_n(self, sample_shape, seed, **keywords):
        x = tf.floor(self._flow.sample(sample_shape, seed, **keywords))
        return tf.clip_by_value(x, 0.0, self._levels - 1.0)

    def _integers(self, value):
        """The integers that values stand for, and which events are in range."""
        event = self.event_shape
        value = as_data(value, self.dtype, f"{self.name}: value")
        value = check_event_shape(value, event, event.rank, f"{self.name}: value")
        value = tf.cast(value, self.dtype)
        axes = list(range(-event.rank, 0))
        valid = tf.reduce_all((value >= 0.0) & (value <= self._levels), axes)
        return tf.clip_by_value(tf.floor(value), 0.0, self._levels - 1.0), valid

    def _dequantize(self, x, samples, seed):
        seed = tfp.random.sanitize_seed(stateless_seed(seed), salt=self.name)
        if self._noise_flow is None:
            shape = tf.concat([samples, tf.shape(x)], 0)
            # The same numbers with and without XLA.
            u = tf.random.stateless_uniform(shape, seed, dtype=x.dtype, alg=ALGORITHM)
            batch = tf.shape(u)[: -self.event_shape.rank]
            return x + u, tf.zeros(batch, x.dtype)
        context = (x + 0.5) / self._levels - 0.5
        u, log_q = self._noise_flow.experimental_sample_and_log_prob(
            samples, seed, context=context
        )
        return x + u, log_q

    def _keywords(self, keywords):
        """Keywords of the bijector."""
        return self._flow._keywords(keywords)

    def __repr__(self) -> str:
        arguments = {"levels": self._levels, "samples": self._samples}
        facts = ", ".join(f"{k}={v}" for k, v in arguments.items())
        return (
            f"{type(self).__name__}({facts}, flow={self._flow!r}, "
            f"noise_flow={self._noise_flow!r})"
        )


def _minus_infinity_unless(valid, bound):
    """Replaces `bound` by minus infinity for invalid events; NaN stays NaN."""
    return tf.where(valid | tf.math.is_nan(bound), bound, -math.inf)


def _check_noise_flow(noise_flow, flow):
    if noise_flow is None:
        return
    if not isinstance(noise_flow, tfd.Distribution):
        raise TypeError(
            "noise_flow must be a TFP distribution, or None for uniform noise, got "
            f"{type(noise_flow).__name__}."
        )
    event = tuple(flow.event_shape)
    for what, found, expected in (
        ("event shape", tuple(noise_flow.event_shape), event),
        ("context_shape", getattr(noise_flow, "context_shape", None), event),
        ("dtype", tf.as_dtype(noise_flow.dtype).name, tf.as_dtype(flow.dtype).name),
    ):
        if found != expected:
            raise ValueError(
                f"noise_flow must have the {what} {expected}, since its context is the "
                f"data of flow; got {found}."
            )
