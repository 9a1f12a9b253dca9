"""Seeds of random numbers that depend on nothing else."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["stateless_seed"]


def stateless_seed(seed) -> tf.Tensor:
    """A stateless seed `[2]` of an integer, of such a seed, or of `None` (new)."""
    if seed is None:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    if isinstance(seed, (int, np.integer)):
        return tf.constant([int(seed) >> 31, int(seed) & 0x7FFFFFFF], tf.int32)
    return tf.convert_to_tensor(seed)
