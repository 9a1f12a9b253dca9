"""A transformer for each entry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_flows.core.shapes import take
from tfp_flows.transformers.transformer import Transformer, attribute

__all__ = ["PerEntry"]


class PerEntry(Transformer):
    r"""$y_i = \tau_i(x_i)$: different transformers for different entries.

    Angles, whose transformer is on a circle, can stand beside numbers on the line.

    Every entry gets as many parameters as the transformer with the most of them; others
    leave the last ones unused. In a coupling, entries are those of the last axis that
    change (if the mask is the same along all other axes; else all of the last axis).

    Example:
      >>> import math
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, transformers
      >>> line = transformers.RationalQuadratic(4, bound=5.0)
      >>> angle = transformers.RationalQuadratic(4, circular=True)
      >>> both = bijectors.Elementwise(transformers.PerEntry([line, angle]), [2])
      >>> [round(float(v), 4) for v in both.forward([[9.0, 1.0 + 2 * math.pi]])[0]]
      [9.0, 1.0]

    Args:
      transformers: one for each entry. Neighbours and others that are the same object
        are computed together.

    Raises:
      ValueError: if there are none, or a tensor has another number of entries.
    """

    def __init__(self, transformers: Sequence[Transformer]):
        self.transformers = list(transformers)
        if not self.transformers:
            raise ValueError("transformers must hold one for each entry, got none.")
        self.entries = len(self.transformers)
        kinds = list({id(t): t for t in self.transformers}.values())
        ids = [id(t) for t in kinds]
        self._kinds = kinds
        self._group = np.array([ids.index(id(t)) for t in self.transformers], np.int32)
        self._order = np.argsort(self._group, kind="stable")
        self._restore = np.argsort(self._order)
        self._sizes = np.bincount(self._group).tolist()
        self.num_parameters = max(t.num_parameters for t in kinds)
        for name in (
            "has_direct_inverse",
            "is_constant_jacobian",
            "has_constant_slope",
            "is_increasing",
        ):
            setattr(self, name, all(attribute(t, name) for t in kinds))

    def at(self, entry: tf.Tensor) -> Transformer:
        """Returns the transformer of one entry, see `Transformer.entries`.

        Args:
          entry: index of the entry, an integer tensor `[]`.
        """
        return _Chosen(self._kinds, tf.gather(self._group, entry), self.num_parameters)

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._apply(x, parameters, "forward_and_log_det")

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._apply(y, parameters, "inverse_and_log_det")

    def _apply(self, value, parameters, method):
        if value.shape[-1] not in (None, self.entries):
            raise ValueError(
                f"{self!r} is for {self.entries} entries, got shape {value.shape}."
            )
        values, parameters = (
            tf.split(take(part, self._order, self._restore, -1), self._sizes, -1)
            for part in (value, parameters)
        )
        results, log_dets = [], []
        for t, part, theta in zip(self._kinds, values, parameters, strict=True):
            result, log_det = getattr(t, method)(
                part, theta[..., : t.num_parameters, :]
            )
            results.append(result)
            # Where the slope is constant, it may have no batch.
            log_dets.append(log_det + tf.zeros_like(result))
        result, log_det = (
            take(tf.concat(parts, -1), self._restore, self._order, -1)
            for parts in (results, log_dets)
        )
        return result, log_det

    def __repr__(self):
        return f"PerEntry({self.transformers!r})"


class _Chosen(Transformer):
    """The transformer of one entry, whose index is known when it is computed."""

    def __init__(self, kinds, index, num_parameters):
        self._kinds, self._index, self.num_parameters = kinds, index, num_parameters

    def forward_and_log_det(self, x, parameters):
        return self._choose("forward_and_log_det", x, parameters)

    def inverse_and_log_det(self, y, parameters):
        return self._choose("inverse_and_log_det", y, parameters)

    def _choose(self, method, value, parameters):
        return tf.switch_case(
            self._index,
            [
                lambda t=t: getattr(t, method)(
                    value, parameters[..., : t.num_parameters, :]
                )
                for t in self._kinds
            ],
        )
