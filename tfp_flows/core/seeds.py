"""Seeds of all random numbers: drawn once by NumPy, or in calls by TensorFlow."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.tfp_internals import ITERATION_OF_SAMPLES

__all__ = ["ALGORITHM", "generator", "new_seed", "stateless_seed"]

# Of TensorFlow's stateless random numbers, named wherever many are drawn: what it takes
# by default is another one under XLA, which takes twenty times as long on a CPU.
ALGORITHM = "philox"


def new_seed(seed: int | None = None) -> int:
    """Returns `seed`, or a new one for `None`.

    `keras.utils.set_random_seed` makes new seeds reproducible.
    """
    return random.randrange(2**31) if seed is None else int(seed)


def generator(seed: int | None = None) -> np.random.Generator:
    """A generator of NumPy's, for numbers that are drawn once at construction.

    Args:
      seed: an integer of any size or sign; `None` for a new one, see `new_seed`.
    """
    return np.random.default_rng(_entropy(new_seed(seed)))


def stateless_seed(seed: Any) -> tf.Tensor:
    """The seed `[2]` of TensorFlow's stateless operations.

    Args:
      seed: an integer of any size, a stateless seed `[2]`, a function that returns one
        of these (such as a `SeedStream` of TFP's), or `None` for a new seed.

    Returns:
      int32 tensor `[2]`.

    Raises:
      TypeError: if `seed` is none of these.
    """
    if callable(seed):
        seed = seed()
    if seed is None:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    if isinstance(seed, np.ndarray) and seed.ndim == 0:
        seed = seed[()]
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        return _checked(seed)
    if ITERATION_OF_SAMPLES in tf.get_current_name_scope():
        # The same integer serves many samples here. A stateful operation makes another
        # seed of it for each of them.
        return tfp.random.sanitize_seed(int(seed), salt=__name__)
    seed = int(seed)
    if 0 <= seed < 2**62:
        return tf.constant([seed >> 31, seed & 0x7FFFFFFF], tf.int32)
    state = np.random.SeedSequence(_entropy(seed)).generate_state(2)
    return tf.constant(state.astype(np.int64) - 2**31, tf.int32)


def _checked(seed: Any) -> tf.Tensor:
    """A stateless seed as a tensor; a TypeError if it is none."""
    try:
        tensor = tf.convert_to_tensor(seed)
    except (TypeError, ValueError):
        tensor = None
    if (
        tensor is None
        or not tensor.dtype.is_integer
        or not tensor.shape.is_compatible_with([2])
    ):
        raise TypeError(
            f"seed must be an integer, a stateless seed [2] or None, got {seed!r}."
        )
    # TFP takes int32; larger numbers wrap around.
    return tf.cast(tensor, tf.int32)


def _entropy(seed: int) -> int | list[int]:
    """A seed in the form that NumPy takes, which has no negative numbers."""
    return seed if seed >= 0 else [-seed, 1]
