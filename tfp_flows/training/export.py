"""A flow as a SavedModel that needs TensorFlow alone."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.repeat import unrolled
from tfp_flows.distributions.contexts import context_spec

__all__ = ["export"]


def export(
    flow: tfd.Distribution, variables: Sequence[tf.Variable], path: str | os.PathLike
) -> None:
    """Writes `log_prob`, `sample`, `encode` and `decode`; see `FlowModel.export`.

    Args:
      flow: any distribution; if it is not a `Flow`, only `log_prob` is written.
      variables: all variables that it reads.
      path: directory to write.
    """
    module = _Functions(flow, variables)
    tf.saved_model.save(module, str(path), signatures=module.functions())


class _Functions(tf.Module):
    """A module with the functions of a SavedModel and the variables that they read."""

    def __init__(self, flow, variables):
        super().__init__(name="flow")
        self.exported_variables = list(variables)
        dtype = tf.as_dtype(flow.dtype)
        x = tf.TensorSpec([None, *flow.event_shape], dtype, "x")
        conditional = getattr(flow, "context_shape", None) is not None
        context = [context_spec(flow)] if conditional else []

        def keywords(context):
            return {} if context is None else {"context": context}

        def log_prob(x, context=None):
            return {"log_prob": flow.log_prob(x, **keywords(context))}

        self.log_prob = _traced(log_prob, x, *context)
        if not hasattr(flow, "encode"):
            return
        z = tf.TensorSpec([None, *flow.distribution.event_shape], dtype, "z")

        def sample(n, seed, temperature, context=None):
            seed = tf.stack([tf.zeros([], tf.int32), seed])
            return {
                "x": flow.sample(
                    n, seed=seed, temperature=temperature, **keywords(context)
                )
            }

        def encode(x, context=None):
            return {"z": flow.encode(x, **keywords(context))}

        def decode(z, context=None):
            return {"x": flow.decode(z, **keywords(context))}

        self.sample = _traced(
            sample,
            tf.TensorSpec([], tf.int32, "n"),
            tf.TensorSpec([], tf.int32, "seed"),
            tf.TensorSpec([], dtype, "temperature"),
            *context,
        )
        self.encode = _traced(encode, x, *context)
        self.decode = _traced(decode, z, *context)

    def functions(self) -> dict[str, Any]:
        names = ("log_prob", "sample", "encode", "decode")
        return {n: getattr(self, n) for n in names if hasattr(self, n)}


def _traced(function, *specs):
    """A `tf.function` in which every unit of a `Repeat` is traced on its own.

    TensorFlow Lite would give all units that share a trace the variables of one. A
    loaded signature takes tensors of any shape, so the graph itself checks them.
    """

    @functools.wraps(function)
    def traced(*arguments):
        # Without a context in `specs`, TensorFlow hands on the default.
        checked = tf.nest.map_structure(
            lambda value, spec: tf.ensure_shape(value, spec.shape),
            arguments[: len(specs)],
            specs,
        )
        with unrolled():
            return function(*checked)

    return tf.function(traced, input_signature=specs, autograph=False)
