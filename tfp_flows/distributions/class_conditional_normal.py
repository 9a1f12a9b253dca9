"""A Gaussian for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.distributions.conditional import Conditional

tfd = tfp.distributions

__all__ = ["ClassConditionalNormal"]


class ClassConditionalNormal(Conditional):
    r"""Independent Gaussians whose means and deviations are those of a class.

    $$ p(z \mid c) = \prod_i \mathcal N\bigl(z_i;\, (c^\top \mu)_i,\,
       e^{2 (c^\top s)_i}\bigr) $$

    with a one-hot context $c$, which picks a row of the learned $\mu$ and $s$. The
    bijector then need not know of the class; the densities of one $z$ under all classes
    make a classifier (Izmailov et al. 2020, equation 3, with fixed Gaussians). Labels
    become one-hot vectors by the `num_classes` of a ready flow, or by `tf.one_hot`. Any
    other vector $c$ mixes the rows: a learned embedding, say.

    Args:
      event_shape: shape of the event.
      num_classes: number of classes, the size of a context.
      dtype: dtype of values.
      spread: standard deviation of the means at the start; 0 starts all classes alike.
      seed: integer seed of these means.
      mean: $\mu$, a tensor or variable `[num_classes, *event_shape]`; a new variable
        by default.
      log_scale: $s$, likewise; a new variable of zeros by default.
      validate_args: kept for TFP.
      name: name of the distribution.

    Raises:
      ValueError: if `num_classes` is below 1, or `spread` negative.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        num_classes: int,
        dtype: Any = tf.float32,
        spread: float = 0.0,
        seed: int | None = None,
        mean: Any = None,
        log_scale: Any = None,
        validate_args: bool = False,
        name: str = "class_conditional_normal",
    ):
        parameters = dict(locals())
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        if spread < 0:
            raise ValueError(f"spread must not be negative, got {spread}.")
        shape = (int(num_classes), *map(int, event_shape))
        if mean is None:
            start = spread * np.random.default_rng(seed).standard_normal(shape)
            mean = tf.Variable(tf.constant(start, dtype), name="mean")
        if log_scale is None:
            log_scale = tf.Variable(tf.zeros(shape, dtype), name="log_scale")
        self._means, self._log_scales = mean, log_scale
        super().__init__(
            self._normal, event_shape, (num_classes,), dtype, validate_args, name
        )
        parameters.update(mean=mean, log_scale=log_scale)
        self._parameters = self._no_dependency(
            {k: v for k, v in parameters.items() if k not in ("self", "__class__")}
        )

    def _normal(self, context):
        mean = tf.tensordot(context, self._means, 1)
        scale = tf.exp(tf.tensordot(context, self._log_scales, 1))
        return tfd.Independent(tfd.Normal(mean, scale), len(self._event))
