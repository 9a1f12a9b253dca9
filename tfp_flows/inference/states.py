"""Samples of a surrogate as states of TFP's Markov chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.inference.target import as_target

__all__ = ["as_state", "target_of_state"]


def as_state(sample: Any) -> Any:
    """A sample as TFP's kernels take it: a tensor, or a flat sequence of tensors.

    Args:
      sample: a tensor or a structure.

    Returns:
      The tensor, list, tuple or named tuple as it is; else the list of its tensors.
    """
    is_flat = isinstance(sample, (list, tuple)) and not any(
        map(tf.nest.is_nested, sample)
    )
    if is_flat or not tf.nest.is_nested(sample):
        return sample
    return tf.nest.flatten(sample)


def target_of_state(
    target: Any, surrogate: tfd.Distribution
) -> Callable[..., tf.Tensor]:
    """The log-density as a function of the parts of a state."""
    function, structure = as_target(target), surrogate.dtype
    return lambda *parts: function(tf.nest.pack_sequence_as(structure, list(parts)))
