"""Images of which a flow sees the largest pixel of each 2x2."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.core.seeds import ALGORITHM, stateless_seed
from tfp_flows.distributions.contexts import ContextShape
from tfp_flows.distributions.keywords import keywords_of
from tfp_flows.distributions.lower_bound import check_noise
from tfp_flows.distributions.static_shape import StaticShape
from tfp_flows.distributions.tracked import Independent

__all__ = ["MaxPooled"]

# Positions of a patch beside each of its four.
_OTHERS = np.array([[j for j in range(4) if j != k] for k in range(4)], np.int32)
# For the k-th as the largest, where each is among the others (anywhere for itself).
_PLACE = np.array([[min(j - (j > k), 2) for j in range(4)] for k in range(4)], np.int32)


class MaxPooled(StaticShape):
    r"""The distribution of images whose 2x2 maxima are a flow's.

    Max pooling loses information, but is deterministic on the way from data to noise:
    an inference surjection (Nielsen et al. 2020, section 4), whose density is exact.
    With $z$ the maxima of the patches of an image $x$, and $d \ge 0$ by how much the
    three other pixels of each are below,

    $$ \log p(x) = \log p(z) + \log p(d | z) - n \log 4, $$

    where $n$ is the number of patches times channels: each of the four pixels is the
    largest with probability 1/4. As the base of a `Flow`, it stands behind bijectors.

    Example:
      >>> from tfp_flows import distributions
      >>> pooled = distributions.standard_normal((2, 2, 1))
      >>> images = distributions.MaxPooled(pooled)
      >>> images.sample(3, seed=0).shape, images.exactness
      (TensorShape([3, 4, 4, 1]), 'exact')

    Args:
      flow: distribution of the maxima, `[H, W, C]`; a `Flow`, or a simpler one.
      gaps: distribution of positive numbers `[H, W, C, 3]`, the $d$. One with a
        `context_shape` is given $z$. `None` stands for independent exponentials with a
        learned rate for each channel and position, which start at 1.
      name: name of the distribution.

    Raises:
      TypeError: if `flow` or `gaps` is no TFP distribution.
      ValueError: if `flow` is not over images, or `gaps` does not fit.
    """

    papers = ("nielsen2020survae",)

    def __init__(
        self,
        flow: tfd.Distribution,
        gaps: tfd.Distribution | None = None,
        name: str = "max_pooled",
    ):
        parameters = dict(locals())
        if not isinstance(flow, tfd.Distribution):
            raise TypeError(
                f"flow must be a TFP distribution, got {type(flow).__name__}."
            )
        pooled = tuple(flow.event_shape)
        if len(pooled) != 3:
            raise ValueError(
                f"flow must be over images [H, W, C], got event shape {list(pooled)}."
            )
        if gaps is None:
            gaps = _exponential(pooled, flow.dtype)
        given = None if getattr(gaps, "context_shape", None) is None else pooled
        check_noise("gaps", gaps, (*pooled, 3), given, flow.dtype)
        self._flow, self._gaps, self._conditional = flow, gaps, given is not None
        height, width, channels = self._pooled = pooled
        super().__init__(
            event_shape=(2 * height, 2 * width, channels),
            batch_shape=flow.batch_shape,
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            parameters=parameters,
            name=name,
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The distribution of the maxima."""
        return self._flow

    @property
    def gaps(self) -> tfd.Distribution:
        """The distribution of how far the other pixels are below."""
        return self._gaps

    @property
    def exactness(self) -> str:
        """What `log_prob` gives, see `Flow.exactness`: that of the maxima's."""
        return getattr(self._flow, "exactness", "exact")

    @property
    def context_shape(self) -> ContextShape | None:
        """Shape of one context of the flow, or `None`."""
        return getattr(self._flow, "context_shape", None)

    @property
    def context_dtype(self) -> Any:
        """Dtype of contexts of the flow, see `Flow.context_dtype`."""
        return getattr(self._flow, "context_dtype", None)

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that `log_prob` takes beside the value."""
        return frozenset(keywords_of(self._flow) | self._keywords_of_gaps)

    @property
    def _keywords_of_gaps(self):
        """The context is the flow's; that of the gaps are the maxima."""
        return keywords_of(self._gaps) - {"context"}

    @property
    def needs_initialization(self) -> bool:
        """Whether parts of either are still to be set by `initialize`."""
        return _waits(self._flow) or _waits(self._gaps)

    def initialize(self, x: Any, context: Any = None) -> tf.Tensor:
        """Initialises both by the maxima and gaps of images, see `Flow.initialize`.

        Args:
          x: images `[*batch, 2 H, 2 W, C]`.
          context: `[*batch, *context_shape]`, for a flow with a context.

        Returns:
          The flow's noise of the batch; the maxima, if the flow needs none.
        """
        z, gaps = _split(tf.cast(x, self.dtype))
        if _waits(self._gaps):
            self._gaps.initialize(gaps, z if self._conditional else None)
        return self._flow.initialize(z, context) if _waits(self._flow) else z

    def _log_prob(self, value, **keywords):
        z, gaps = _split(value)
        known = keywords_of(self._flow)
        of_gaps = {k: v for k, v in keywords.items() if k in self._keywords_of_gaps}
        # What neither knows is an error of the flow.
        of_flow = {k: v for k, v in keywords.items() if k in known or k not in of_gaps}
        given = {"context": z} if self._conditional else {}
        log_prob = self._flow.log_prob(z, **of_flow)
        log_prob += self._gaps.log_prob(gaps, **of_gaps, **given)
        return log_prob - np.prod(self._pooled) * np.log(4.0)

    def _call_sample_n(self, sample_shape, seed, **keywords):
        seeds = tfp.random.split_seed(stateless_seed(seed), 3)
        z = self._flow.sample(sample_shape, seeds[0], **keywords)
        batch = tf.shape(z)[:-3]
        if self._conditional:
            gaps = self._gaps.sample(seed=seeds[1], context=z)
        else:
            gaps = self._gaps.sample(batch, seeds[1])
        top = tf.random.stateless_uniform(
            tf.shape(z), seeds[2], 0, 4, tf.int32, alg=ALGORITHM
        )
        place = tf.gather(_PLACE, top)
        below = z[..., None] - tf.gather(gaps, place, axis=-1, batch_dims=z.shape.rank)
        pixels = tf.where(tf.range(4) == top[..., None], z[..., None], below)
        height, width, channels = self._pooled
        pixels = tf.reshape(pixels, [-1, height, width, channels, 2, 2])
        pixels = tf.transpose(pixels, [0, 1, 4, 2, 5, 3])
        return tf.reshape(pixels, tf.concat([batch, self.event_shape], 0))


def _waits(distribution):
    """Whether parts of a distribution are still to be set from data."""
    return bool(getattr(distribution, "needs_initialization", False))


def _split(x):
    """Maxima `[..., H, W, C]`, and how far the other pixels are below, `[..., 3]`."""
    height, width, channels = x.shape[-3] // 2, x.shape[-2] // 2, x.shape[-1]
    pixels = tf.reshape(x, [-1, height, 2, width, 2, channels])
    pixels = tf.transpose(pixels, [0, 1, 3, 5, 2, 4])
    shape = tf.concat([tf.shape(x)[:-3], [height, width, channels, 4]], 0)
    pixels = tf.reshape(pixels, shape)
    z = tf.reduce_max(pixels, -1)
    others = tf.gather(_OTHERS, tf.argmax(pixels, -1, tf.int32))
    rank = z.shape.rank
    return z, z[..., None] - tf.gather(pixels, others, axis=-1, batch_dims=rank)


def _exponential(pooled, dtype):
    rate = tfp.util.TransformedVariable(
        tf.ones([pooled[-1], 3], dtype), tfb.Exp(), name="rate"
    )
    one = Independent(tfd.Exponential(rate), 2)
    return Independent(tfd.Sample(one, pooled[:2]), 0, name="gaps")
