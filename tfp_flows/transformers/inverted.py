"""The inverse of a transformer."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.transformers.transformer import Transformer, at_entry, attribute

__all__ = ["Inverted"]


class Inverted(Transformer):
    r"""$y = \tau^{-1}(x)$ for a transformer $\tau$.

    If $\tau$ has no inverse in closed form, this makes densities cheap and sampling
    expensive: an autoregression or coupling with an inverted `LogisticMixture` solves
    equations only when it samples, not in training.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> inverted = transformers.Inverted(transformers.Affine("exp"))
      >>> y, log_det = inverted.forward_and_log_det(
      ...     tf.constant([3.0]), tf.constant([[1.0], [0.0]]))
      >>> y.numpy().tolist()
      [2.0]

    Args:
      transformer: $\tau$, an elementwise transformer.
    """

    def __init__(self, transformer: Transformer):
        self.transformer = transformer
        self.num_parameters = transformer.num_parameters
        self.has_direct_inverse = attribute(transformer, "has_direct_inverse")
        self.is_constant_jacobian = attribute(transformer, "is_constant_jacobian")
        self.has_constant_slope = attribute(transformer, "has_constant_slope")
        self.is_increasing = attribute(transformer, "is_increasing")
        self.entries = attribute(transformer, "entries")

    def at(self, entry: tf.Tensor) -> Inverted:
        """Returns the transformer of one entry, see `Transformer.entries`.

        Args:
          entry: index of the entry, an integer tensor `[]`.
        """
        return Inverted(at_entry(self.transformer, entry))

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self.transformer.inverse_and_log_det(x, parameters)

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self.transformer.forward_and_log_det(y, parameters)

    def __repr__(self):
        return f"Inverted({self.transformer!r})"
