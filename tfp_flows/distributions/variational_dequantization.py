"""A flow over real numbers as a distribution over integers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import ALGORITHM
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.lower_bound import LowerBound, check_flow, check_noise

__all__ = ["VariationalDequantization"]


class VariationalDequantization(LowerBound):
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

    discrete = True

    def __init__(
        self,
        flow: Flow,
        noise_flow: tfd.Distribution | None = None,
        levels: int = 256,
        samples: int = 1,
        name: str = "variational_dequantization",
    ):
        parameters = dict(locals())
        check_flow(flow)
        if noise_flow is not None:
            event = tuple(flow.event_shape)
            check_noise("noise_flow", noise_flow, event, event, flow.dtype)
        self._noise_flow = noise_flow
        self._levels = check_integer("levels", levels, at_least=2)
        super().__init__(
            flow,
            event_shape=flow.event_shape,
            samples=samples,
            parameters=parameters,
            name=name,
        )

    @property
    def noise_flow(self) -> tfd.Distribution | None:
        """The distribution of the noise given the data; `None` if it is uniform."""
        return self._noise_flow

    @property
    def levels(self) -> int:
        """The number of integers."""
        return self._levels

    @property
    def domain(self) -> tuple[float, float]:
        """The interval that data must lie in."""
        return 0.0, float(self._levels)

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
        return self._lift(self._checked(x)[0], samples, self._seed(seed))

    @property
    def _noise_in_words(self):
        return "uniform" if self._noise_flow is None else "a flow, given the integers"

    def _valid(self, x):
        axes = list(range(-self.event_shape.rank, 0))
        valid = tf.reduce_all((x >= 0.0) & (x <= self._levels), axes)
        return self._drop(x), valid

    def _drop(self, v):
        return tf.clip_by_value(tf.floor(v), 0.0, self._levels - 1.0)

    def _lift(self, x, samples, seed):
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

    def __repr__(self) -> str:
        arguments = {"levels": self._levels, "samples": self._samples}
        facts = ", ".join(f"{k}={v}" for k, v in arguments.items())
        return (
            f"{type(self).__name__}({facts}, flow={self._flow!r}, "
            f"noise_flow={self._noise_flow!r})"
        )
