"""Transformers after each other."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfp_flows.transformers.transformer import (
    Transformer,
    at_entry,
    attribute,
    entries_of,
)

__all__ = ["Stacked"]


class Stacked(Transformer):
    r"""$y = \tau_L(\dots \tau_1(x))$, each with parameters of its own.

    Several `LogisticMixture` are the deep sigmoidal flow of Huang et al. 2018, "Neural
    Autoregressive Flows". An `Affine` at the end lets a function scale whose tails are
    the identity.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> both = transformers.Stacked(
      ...     [transformers.RationalQuadratic(4), transformers.Affine("exp")])
      >>> y, log_det = both.forward_and_log_det(
      ...     tf.constant([2.0, 5.0]), tf.zeros([both.num_parameters, 2]))
      >>> y.numpy().tolist()
      [2.0, 5.0]

    Args:
      transformers: $\tau_1, \dots, \tau_L$, in the order in which `forward` meets them.

    Raises:
      ValueError: if there are none.
    """

    def __init__(self, transformers: Sequence[Transformer]):
        self.transformers = list(transformers)
        if not self.transformers:
            raise ValueError("transformers must hold one or more, got none.")
        self._counts = [t.num_parameters for t in self.transformers]
        self.num_parameters = sum(self._counts)
        self.entries = entries_of(self.transformers)
        for name in (
            "has_direct_inverse",
            "is_constant_jacobian",
            "has_constant_slope",
            "is_increasing",
        ):
            setattr(self, name, all(attribute(t, name) for t in self.transformers))

    def at(self, entry: tf.Tensor) -> Stacked:
        """Returns the transformer of one entry, see `Transformer.entries`.

        Args:
          entry: index of the entry, an integer tensor `[]`.
        """
        return Stacked([at_entry(t, entry) for t in self.transformers])

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._apply(x, parameters, "forward_and_log_det", 1)

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._apply(y, parameters, "inverse_and_log_det", -1)

    def _apply(self, value, parameters, method, step):
        parts = tf.split(parameters, self._counts, -2)
        log_det = tf.zeros_like(value)
        for t, part in list(zip(self.transformers, parts, strict=True))[::step]:
            value, log_slope = getattr(t, method)(value, part)
            log_det += log_slope
        return value, log_det

    def __repr__(self):
        return f"Stacked({self.transformers!r})"
