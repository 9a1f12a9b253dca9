"""A flow over real numbers as a distribution over rows of a mixed table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.standardize import Standardize
from tfp_flows.distributions.base import standard_logistic
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.lower_bound import LowerBound, check_flow, check_noise
from tfp_flows.distributions.mixed_columns import INTEGER, REAL, Kind, MixedColumns

__all__ = ["MixedDequantization"]


class MixedDequantization(LowerBound):
    r"""A distribution of rows of real numbers, integers and categories.

    The flow is over real numbers $v$, of which a row is made: a real column is a number
    itself; an integer a number, rounded down; a column of $K$ categories the argmax of
    $K$ numbers, or, if it is binary, of $\lceil \log_2 K \rceil$ pairs, which come down
    to the signs of as many numbers, the digits of its code (Hoogeboom et al. 2021,
    "Argmax Flows and Multinomial Diffusion", section 3). The density of a row (a
    probability of its integers and categories, times a density of its real numbers) is
    an integral over all $v$ that give it. `log_prob` is a lower bound in the mean, see
    `LowerBound`:

    $$ \log \frac1S \sum_{s=1}^S \frac{p(v_s)}{q(v_s | x)}, \qquad v_s \sim q(v | x). $$

    To draw $v$ given the row $x$, a noise flow draws a number $u$ for each of $v$ that
    is not known. An integer is $x + \sigma(u)$. Among the numbers of a category $k$,
    $v_k = u_k$ and $v_i = v_k - \mathrm{softplus}(v_k - u_i)$, which is below $v_k$
    (there, "thresholding"). A sign $s$ stands before $\mathrm{softplus}(u)$. What these
    maps do to volumes is accounted for.

    **Values** are rows of numbers, in which a category is its code from 0 to $K - 1$.
    Integers and codes are rounded down. A row with a code out of range has the
    log-density $-\infty$. `cells` gives categories their names back.

    Example:
      >>> from tfp_flows import distributions, flows
      >>> columns = ["real", ["blue", "green", "red"], "integer"]
      >>> size = distributions.MixedDequantization.flow_size(columns)  # 1 + 2 + 1
      >>> flow = flows.maf((size,), layers=2, width=8, normalize=False, seed=0)
      >>> rows = distributions.MixedDequantization(flow, columns)
      >>> rows.log_prob([[0.5, 2, 7]], samples=8, seed=0).shape
      TensorShape([1])
      >>> rows.cells([[0.5, 2, 7]])
      [(0.5, 'red', 7)]

    Args:
      flow: the `Flow` over real numbers: `[flow_size(columns, binary)]`.
      columns: what each column holds: `"real"`, `"integer"`, a number of categories, or
        the names of categories.
      noise_flow: the distribution of $u$, one number for each of $v$ but those of real
        columns. Its context is the row: its numbers, real ones first, brought to mean 0
        and deviation 1 by `initialize`, then a 0 or 1 for each category. `None` stands
        for standard logistic $u$, which is uniform noise of integers. Gaussian tails of
        $u$ would hardly reach where categories meet, and more draws help little then.
      binary: whether signs stand for categories, instead of an argmax: fewer numbers,
        and a tighter bound the more categories there are.
      samples: $S$, how many times `log_prob` draws.
      name: name of the distribution.

    Raises:
      TypeError: if `flow` is not a `Flow`, `noise_flow` not a TFP distribution, or a
        column is none of these.
      ValueError: if `flow` or `noise_flow` do not fit the columns, no column is an
        integer or a category, or `samples` is below 1.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        uses = {
            "nielsen2020survae": True,
            "hoogeboom2021argmax": len(self._columns.categories),
            "theis2016note": len(self._columns.integers),
            "burda2016importance": self._samples > 1,
        }
        return tuple(paper for paper, is_used in uses.items() if is_used)

    def __init__(
        self,
        flow: Flow,
        columns: Sequence[Any],
        noise_flow: tfd.Distribution | None = None,
        binary: bool = True,
        samples: int = 1,
        name: str = "mixed_dequantization",
    ):
        parameters = dict(locals())
        check_flow(flow)
        self._columns = mixed = MixedColumns(columns, binary)
        if flow.event_shape != [mixed.flow_size]:
            raise ValueError(
                f"flow must be over ({mixed.flow_size},), the numbers that these "
                f"columns stand for; got event shape {flow.event_shape}."
            )
        self._noise_flow, self._standardize = noise_flow, None
        if noise_flow is not None:
            shapes = (mixed.noise_size,), (mixed.context_size,)
            check_noise("noise_flow", noise_flow, *shapes, flow.dtype)
            if numbers := len(mixed.reals) + len(mixed.integers):
                self._standardize = Standardize([numbers], dtype=flow.dtype)
        super().__init__(
            flow,
            event_shape=[mixed.size],
            samples=samples,
            parameters=parameters,
            name=name,
        )

    def copy(self, **overrides: Any) -> MixedDequantization:
        """One with some constructor arguments replaced, and the same variables.

        Use `copy.deepcopy` for variables of its own.
        """
        new = super().copy(**overrides)
        if not {"columns", "noise_flow"} & set(overrides):
            new._standardize = self._standardize
        return new

    @staticmethod
    def flow_size(columns: Sequence[Any], binary: bool = True) -> int:
        """How many real numbers stand for a row: the $D$ of the flow.

        Args:
          columns: see the class.
          binary: see there.

        Returns:
          An integer.
        """
        return MixedColumns(columns, binary).flow_size

    @property
    def columns(self) -> tuple[Kind, ...]:
        """What each column holds."""
        return self._columns.kinds

    @property
    def discrete(self) -> tuple[bool, ...]:
        """Which columns hold integers or categories."""
        return tuple(kind != REAL for kind in self._columns.kinds)

    @property
    def noise_flow(self) -> tfd.Distribution | None:
        """The distribution of the noise given the row; `None` if it is logistic."""
        return self._noise_flow

    @property
    def needs_initialization(self) -> bool:
        """Whether parts of the flow are still to be set by `initialize`."""
        own = self._standardize is not None and self._standardize.needs_initialization
        return own or super().needs_initialization

    def initialize(self, x: Any, context: Any = None) -> tf.Tensor:
        """Draws numbers for each row and initialises the flow, see `Flow.initialize`.

        Args:
          x: rows `[*batch, D]`.
          context: `[*batch, *context_shape]`, for a flow with a context.

        Returns:
          The flow's noise of the batch.
        """
        if self._standardize is not None:
            rows, _ = self._checked(x)
            self._standardize.initialize(self._columns.describe(rows)[0])
        return super().initialize(x, context)

    def dequantize(
        self, x: Any, samples: Any = (), seed: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        r"""Draws the real numbers of rows.

        Args:
          x: rows `[*batch, D]`.
          samples: shape of the sample, in front of the batch.
          seed: an integer or a stateless seed `[2]`.

        Returns:
          `(v, log_q)`: `[*samples, *batch, flow_size]`, and $\log q(v | x)$ in nats,
          `[*samples, *batch]`.
        """
        return self._lift(self._checked(x)[0], samples, self._seed(seed))

    def cells(self, x: Any) -> list[tuple[Any, ...]]:
        """Rows as they stand in a table: names of categories, integers and numbers.

        Args:
          x: rows `[N, D]`, such as a sample.

        Returns:
          A list of tuples.

        Raises:
          ValueError: if a code is not that of a category.
        """
        x = np.asarray(x)
        columns: list[Iterable[Any]] = []
        for kind, column in zip(self.columns, x.T, strict=True):
            if kind == REAL:
                # As short as tells them apart.
                columns.append([float(str(number)) for number in column])
                continue
            whole = column.astype(np.int64)
            if kind != INTEGER:
                count = kind if isinstance(kind, int) else len(kind)
                if whole.size and not (whole.min() >= 0 and whole.max() < count):
                    raise ValueError(
                        f"x must hold codes of categories from 0 to {count - 1}, got "
                        f"{whole.min()} to {whole.max()}."
                    )
            if isinstance(kind, tuple):
                columns.append([kind[code] for code in whole])
            else:
                columns.append(whole.tolist())
        return list(zip(*columns, strict=True))

    @property
    def _noise_in_words(self):
        return "logistic" if self._noise_flow is None else "a flow, given the row"

    def _valid(self, x):
        return self._columns.whole(x)

    def _drop(self, v):
        return self._columns.drop(v)

    def _lift(self, x, samples, seed):
        if self._noise_flow is None:
            noise, given = standard_logistic([self._columns.noise_size], x.dtype), {}
            shape = tf.concat([samples, tf.shape(x)[:-1]], 0)
        else:
            numbers, ones = self._columns.describe(x)
            if self._standardize is not None:
                numbers = self._standardize.inverse(numbers)
            noise, shape = self._noise_flow, samples
            given = {"context": tf.concat([numbers, ones], -1)}
        u, log_q = noise.experimental_sample_and_log_prob(shape, seed, **given)
        rows = tf.concat([tf.shape(u)[:-1], [self._columns.size]], 0)
        v, log_det = self._columns.lift(tf.broadcast_to(x, rows), u)
        return v, log_q - log_det

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(columns={list(self.columns)}, "
            f"binary={self._columns.binary}, samples={self._samples}, "
            f"flow={self._flow!r}, noise_flow={self._noise_flow!r})"
        )
