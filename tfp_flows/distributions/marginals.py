"""TFP's distributions of single numbers, drawn as fast under XLA as elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.core.seeds import ALGORITHM

__all__ = ["Logistic", "Normal", "Uniform"]


class Normal(tfd.Normal):
    """`tfd.Normal`, whose samples under XLA do not take twenty times as long."""

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        shape, seed = _shape_and_seed(self, n, seed)
        z = tf.random.stateless_normal(shape, seed, dtype=self.dtype, alg=ALGORITHM)
        return z * self.scale + self.loc


class Logistic(tfd.Logistic):
    """`tfd.Logistic`, whose samples under XLA do not take twenty times as long."""

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        shape, seed = _shape_and_seed(self, n, seed)
        # Without 0, whose logit is infinite.
        low = np.finfo(self.dtype.as_numpy_dtype).tiny
        u = tf.random.stateless_uniform(shape, seed, low, 1, self.dtype, alg=ALGORITHM)
        return (tf.math.log(u) - tf.math.log1p(-u)) * self.scale + self.loc


class Uniform(tfd.Uniform):
    """`tfd.Uniform`, whose samples under XLA do not take twenty times as long."""

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        shape, seed = _shape_and_seed(self, n, seed)
        u = tf.random.stateless_uniform(shape, seed, dtype=self.dtype, alg=ALGORITHM)
        return u * (self.high - self.low) + self.low


def _shape_and_seed(distribution, n, seed):
    """The shape of a sample, and a stateless seed of it."""
    shape = tf.concat([[n], distribution.batch_shape_tensor()], 0)
    return shape, tfp.random.sanitize_seed(seed)
