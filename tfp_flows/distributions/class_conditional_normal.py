"""A Gaussian for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_integer, check_number, check_shape
from tfp_flows.core.seeds import generator
from tfp_flows.core.tfp_internals import set_arguments
from tfp_flows.distributions.conditional import Conditional
from tfp_flows.distributions.describe import describe_distribution
from tfp_flows.distributions.marginals import Normal

tfd = tfp.distributions

__all__ = ["ClassConditionalNormal"]


class ClassConditionalNormal(Conditional):
    r"""Independent Gaussians, with means and standard deviations for each class.

    $$ p(z \mid c) = \prod_i \mathcal N\bigl(z_i;\, (c^\top \mu)_i,\,
       e^{2 (c^\top s)_i}\bigr) $$

    with a one-hot context $c$, which picks a row of the learned $\mu$ and $s$. The
    bijector then needs no context, and the densities of one $z$ under all classes make
    a classifier (Izmailov et al. 2020, equation 3, with fixed Gaussians). `tf.one_hot`
    makes one-hot vectors of labels, and so do ready flows with `num_classes`. Any other
    vector $c$, such as a learned embedding, mixes the rows.

    Example:
      >>> import tensorflow as tf
      >>> base = ClassConditionalNormal((2,), num_classes=3, spread=2.0, seed=0)
      >>> base.log_prob([[0.0, 0.0]], context=tf.one_hot([0, 1, 2], 3)).shape
      TensorShape([3])

    Args:
      event_shape: shape of the event.
      num_classes: number of classes, the size of a context.
      dtype: dtype of values.
      spread: standard deviation of the initial means; with 0, all classes start equal.
      seed: integer seed of these means; by default a new one, which
        `keras.utils.set_random_seed` makes reproducible.
      mean: $\mu$, a tensor or variable `[num_classes, *event_shape]`; a new variable
        by default.
      log_scale: $s$, likewise; a new variable of zeros by default.
      name: name of the distribution.

    Raises:
      ValueError: if `num_classes` is below 1, or `spread` negative.
      TypeError: if one of these is not a number, or `event_shape` not a shape.
    """

    papers = ("izmailov2020semi",)

    def __init__(
        self,
        event_shape: Sequence[int],
        num_classes: int,
        dtype: Any = tf.float32,
        spread: float = 0.0,
        seed: int | None = None,
        mean: Any = None,
        log_scale: Any = None,
        name: str = "class_conditional_normal",
    ):
        parameters = dict(locals())
        num_classes = check_integer("num_classes", num_classes)
        spread = check_number("spread", spread, at_least=0.0)
        shape = (num_classes, *check_shape("event_shape", event_shape))
        if mean is None:
            start = spread * generator(seed).standard_normal(shape)
            mean = tf.Variable(tf.constant(start, dtype), name="mean")
        if log_scale is None:
            log_scale = tf.Variable(tf.zeros(shape, dtype), name="log_scale")
        self._means, self._log_scales = mean, log_scale
        super().__init__(self._normal, event_shape, (num_classes,), dtype, name)
        parameters.update(mean=mean, log_scale=log_scale)
        set_arguments(self, parameters)

    def _normal(self, context):
        mean = tf.tensordot(context, self._means, 1)
        scale = tf.exp(tf.tensordot(context, self._log_scales, 1))
        return tfd.Independent(Normal(mean, scale), self._means.shape.rank - 1)

    def __repr__(self) -> str:
        return describe_distribution(self)
