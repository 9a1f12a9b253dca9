"""The multi-scale architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.describe import describe
from tfp_flows.core.from_tfp import adapt_all, common_context_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.walk import Step

__all__ = ["MultiScale"]


class MultiScale(JointBijector):
    r"""A stack of levels, after each of which half the channels leave as noise.

    On the way from an image to noise, level $l$ maps its input to $h$, whose channels
    are split in two. The second half, $z$, leaves as noise; the first half, $h'$, goes
    on to level $l + 1$. The leaving half is standardised by a mean and a scale computed
    from the other half,

    $$ \epsilon_l = (z - \mu_l(h')) \odot e^{-s_l(h')}. $$

    With a standard Gaussian as base distribution, the prior of each $z$ is then a
    Gaussian given $h'$ (Dinh et al. 2017, section 3.6, for the splits; Kingma &
    Dhariwal 2018, section 3.4 and `split2d` in their code, for the learned priors). The
    networks start at zero, so that nothing is standardised at first.

    The noise is one vector `[D]`, `D = H * W * C`: the part that leaves first comes
    first, each part flattened row by row. `split_noise` gives the parts back.

    Example:
      >>> import tensorflow as tf
      >>> from tensorflow_probability import bijectors as tfb
      >>> from tfp_flows import bijectors
      >>> levels = [tfb.Invert(bijectors.Squeeze(2)) for _ in range(2)]
      >>> stack = bijectors.MultiScale(levels, event_shape=(4, 4, 1))
      >>> z = stack.inverse(tf.ones([3, 4, 4, 1]))
      >>> [part.shape.as_list() for part in stack.split_noise(z)]
      [[3, 2, 2, 2], [3, 1, 1, 8]]

    Args:
      levels: one bijector for each level, each mapping images `[h, w, c]`, in the
        order in which data meet them.
      event_shape: `[H, W, C]` of the data.
      priors: one conditioner for each level but the last,
        `(h'[, context]) -> [mean, log-scale]` joined along the channel; `None` (or an
        entry `None`) leaves that part as it is.
      context_shape: shape of one context, or `None` for no context.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if a level does not take the shape of its input, leaves a single
        channel, or the number of priors is wrong.
      TypeError: if `levels` is no sequence of bijectors, or `event_shape` no sequence
        of integers.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        has_priors = any(prior is not None for prior in self._priors)
        return ("dinh2017real_nvp", *["kingma2018glow"] * has_priors)

    # The levels, not the whole stack, rebuild inputs for their gradients.
    _recomputes_itself = True
    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        levels: Sequence[tfb.Bijector],
        event_shape: Sequence[int],
        priors: Sequence[Callable | None] | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = None,
        name: str = "multiscale",
    ):
        parameters = dict(locals())
        event_shape = check_shape("event_shape", event_shape)
        if len(event_shape) != 3:
            raise ValueError(f"event_shape must be [H, W, C], got {event_shape}.")
        if isinstance(levels, tfb.Bijector) or not isinstance(levels, Iterable):
            raise TypeError(f"levels must be a list of bijectors, got {levels!r}.")
        self._levels = adapt_all("levels", levels)
        if not self._levels:
            raise ValueError("levels must not be empty.")
        count = len(self._levels) - 1
        priors = [None] * count if priors is None else list(priors)
        if len(priors) != count:
            raise ValueError(
                "priors must have one entry for each level but the last: "
                f"{count}, got {len(priors)}."
            )
        members_shape = common_context_shape(self._levels)
        if context_shape is None:
            context_shape = members_shape
        elif members_shape is not None and tuple(context_shape) != members_shape:
            raise ValueError(
                f"context_shape is {tuple(context_shape)}, but the levels take "
                f"{members_shape}."
            )
        shape = tf.TensorShape(event_shape)
        self._part_shapes, self._priors = [], []
        for i, level in enumerate(self._levels):
            shape = level.inverse_event_shape(shape)
            height, width, channels = shape.as_list()
            if i == len(self._levels) - 1:
                self._part_shapes.append((height, width, channels))
                break
            if channels < 2:
                raise ValueError(
                    f"levels[{i}] leaves one channel, which cannot be split: let the "
                    "level squeeze."
                )
            kept = (channels + 1) // 2
            leaving = channels - kept
            self._part_shapes.append((height, width, leaving))
            prior = priors[i]
            self._priors.append(
                None
                if prior is None
                else Conditioner(
                    prior,
                    (height, width, kept),
                    (height, width, 2 * leaving),
                    context_shape,
                    tf.as_dtype(dtype or tf.float32),
                    " (a mean and a log-scale for each leaving channel)",
                )
            )
            shape = tf.TensorShape([height, width, kept])
        size = sum(map(math.prod, self._part_shapes))
        super().__init__(
            forward_min_event_ndims=1,
            inverse_min_event_ndims=3,
            input_event_shape=[size],
            output_event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    def __repr__(self):
        return describe(self, levels=self._levels)

    @property
    def levels(self) -> list[tfb.Bijector]:
        """The levels, in the order in which data meet them."""
        return [getattr(level, "original", level) for level in self._levels]

    @property
    def priors(self) -> list[Callable | None]:
        """The conditioners as they were given, one for each level but the last."""
        return list(self.parameters["priors"] or [None] * len(self._priors))

    @property
    def part_shapes(self) -> list[tuple[int, int, int]]:
        """`[h, w, c]` of the noise that leaves after each level."""
        return list(self._part_shapes)

    @property
    def keywords(self) -> frozenset[str]:
        """Names of its own keywords and those of its levels."""
        return super().keywords.union(*(level.keywords for level in self._levels))

    def split_noise(self, z: tf.Tensor) -> list[tf.Tensor]:
        """Splits noise into the parts that leave after each level.

        Args:
          z: tensor `[*batch, D]`.

        Returns:
          A list of images `[*batch, h, w, c]`, one for each level; see `part_shapes`.
        """
        sizes = [math.prod(shape) for shape in self._part_shapes]
        return [
            reshape_event(part, 1, shape)
            for part, shape in zip(
                tf.split(z, sizes, axis=-1), self._part_shapes, strict=True
            )
        ]

    def join_noise(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins parts of noise: the inverse of `split_noise`.

        Args:
          parts: images `[*batch, h, w, c]`, one for each level; see `part_shapes`.

        Returns:
          Tensor `[*batch, D]`.

        Raises:
          ValueError: if there are not as many parts as levels.
        """
        flat = [
            reshape_event(part, 3, [math.prod(shape)])
            for part, shape in zip(parts, self._part_shapes, strict=True)
        ]
        return tf.concat(flat, axis=-1)

    def _forward_and_log_det(self, x, context=None, **keywords):
        keywords = self._with_context(keywords, context)
        *parts, h = self.split_noise(x)
        h, total = Step(self._levels[-1], True, 3).take(h, keywords)
        for level, prior, part in zip(
            self._levels[-2::-1], self._priors[::-1], parts[::-1], strict=True
        ):
            if prior is not None:
                mean, log_scale = tf.split(prior(h, context), 2, axis=-1)
                part = part * tf.exp(log_scale) + mean
                total += tf.reduce_sum(log_scale, axis=[-3, -2, -1])
            h = tf.concat([h, part], axis=-1)
            h, log_det = Step(level, True, 3).take(h, keywords)
            total += log_det
        return h, total

    def _inverse_and_log_det(self, y, context=None, **keywords):
        keywords = self._with_context(keywords, context)
        parts, total, h = [], tf.zeros([], y.dtype), y
        for level, prior in zip(self._levels[:-1], self._priors, strict=True):
            h, log_det = Step(level, False, 3).take(h, keywords)
            total += log_det
            h, part, log_det = self._leave(h, prior, context)
            total += log_det
            parts.append(part)
        h, log_det = Step(self._levels[-1], False, 3).take(h, keywords)
        return self.join_noise([*parts, h]), total + log_det

    def _initialize(self, y, context=None, **keywords):
        keywords = self._with_context(keywords, context)
        parts, h = [], y
        for level, prior in zip(self._levels[:-1], self._priors, strict=True):
            known = Step(level, False, 3).known(keywords)
            h, part, _ = self._leave(level._initialize(h, **known), prior, context)
            parts.append(part)
        last = self._levels[-1]
        h = last._initialize(h, **Step(last, False, 3).known(keywords))
        return self.join_noise([*parts, h])

    def _leave(self, h, prior, context):
        """Splits the channels and standardises the half that leaves."""
        kept = (h.shape[-1] + 1) // 2
        h, part = tf.split(h, [kept, h.shape[-1] - kept], axis=-1)
        if prior is None:
            return h, part, tf.zeros([], h.dtype)
        mean, log_scale = tf.split(prior(h, context), 2, axis=-1)
        part = (part - mean) * tf.exp(-log_scale)
        return h, part, -tf.reduce_sum(log_scale, axis=[-3, -2, -1])

    @staticmethod
    def _with_context(keywords, context):
        return keywords if context is None else {**keywords, "context": context}
