"""The protocol of elementwise transformers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfp_flows.core.shapes import reshape_event

__all__ = [
    "Transformer",
    "as_rows",
    "at_entry",
    "attribute",
    "check_entries",
    "entries_of",
    "spread",
]


class Transformer(Protocol):
    r"""A strictly monotonic function of one number, given its parameters.

    Both methods take a tensor `[..., n]` and unconstrained parameters `[...,
    num_parameters, n]`, and return the result and the elementwise $\log|dy/dx|$
    ($\log|dx/dy|$), both `[..., n]`. All these dimensions may be unknown. Parameters of
    zero give the identity, or nearly.

    A class of your own needs `num_parameters` and the two methods. The other attributes
    have defaults, whether it is a subclass of this one or not.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, transformers
      >>> class Sinh(transformers.Transformer):
      ...     num_parameters = 1
      ...
      ...     def forward_and_log_det(self, x, parameters):
      ...         t = tf.squeeze(parameters, -2)
      ...         return tf.sinh(x) + t, tf.math.log(tf.cosh(x))
      ...
      ...     def inverse_and_log_det(self, y, parameters):
      ...         x = tf.asinh(y - tf.squeeze(parameters, -2))
      ...         return x, -tf.math.log(tf.cosh(x))
      >>> bijectors.Elementwise(Sinh(), [2]).forward([[0.0, 0.0]]).numpy()
      array([[0., 0.]], dtype=float32)

    Attributes:
      num_parameters: how many parameters each number has.
      has_direct_inverse: false if one of the directions iterates.
      is_constant_jacobian: whether the slope depends neither on the number nor on the
        parameters.
      has_constant_slope: whether the slope depends on the parameters alone.
      is_increasing: false if the function falls, or jumps as on a circle.
      entries: how many entries n it is for, or `None` for any number. Others treat all
        entries alike; one that does not has a method `at`, which is given the index of
        an entry, a tensor, and returns the transformer of that entry.
    """

    num_parameters: int
    has_direct_inverse: bool = True
    is_constant_jacobian: bool = False
    has_constant_slope: bool = False
    is_increasing: bool = True
    entries: int | None = None

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        r"""Maps numbers, given their parameters.

        Args:
          x: tensor `[..., n]`.
          parameters: tensor `[..., num_parameters, n]`, any real numbers; its leading
            dimensions are those of `x`, or broadcast to them.

        Returns:
          `(y, log_det)`: `y` of the shape of `x`, and $\log|dy/dx|$ of each number in
          nats, of that shape, or one that broadcasts to it.
        """
        ...

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        r"""Maps numbers back, given the same parameters.

        Args:
          y: tensor `[..., n]`.
          parameters: as for `forward_and_log_det`.

        Returns:
          `(x, log_det)`: `x` of the shape of `y`, and $\log|dx/dy|$ of each number in
          nats, of that shape, or one that broadcasts to it.
        """
        ...


def attribute(transformer: Transformer, name: str) -> Any:
    """An attribute of a transformer, or the default of `Transformer`."""
    return getattr(transformer, name, getattr(Transformer, name))


def as_rows(raw: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """`[..., rows * columns, n]` as `[..., rows, columns, n]`."""
    n = raw.shape[-1]
    if n is None:
        return tf.stack(tf.split(raw, [columns] * rows, -2), -3)
    # Moves nothing. To split and to stack takes XLA a millisecond for 250,000 numbers.
    return reshape_event(raw, 2, [rows, columns, n])


def spread(count: int, most: float) -> np.ndarray:
    """Numbers from `-most` to `most`, evenly spaced, `[count, 1]`; 0 for a single one.

    Parts of a transformer that all start alike would stay so.
    """
    numbers = np.linspace(-most, most, count) if count > 1 else np.zeros(1)
    return numbers[:, None]


def at_entry(transformer: Transformer, entry: tf.Tensor) -> Transformer:
    """The transformer of one entry, see `Transformer.entries`."""
    at = getattr(transformer, "at", None)
    return transformer if at is None else at(entry)


def entries_of(transformers: Iterable[Transformer]) -> int | None:
    """How many entries all of these are for; `None` for any number.

    Raises:
      ValueError: if it is not the same.
    """
    found = {attribute(t, "entries") for t in transformers} - {None}
    if len(found) > 1:
        raise ValueError(
            f"transformers are for different numbers of entries: {sorted(found)}."
        )
    return found.pop() if found else None


def check_entries(transformer: Transformer, entries: int) -> None:
    """Raises a ValueError if a transformer is for another number of entries."""
    found = attribute(transformer, "entries")
    if found not in (None, entries):
        raise ValueError(
            f"transformer is for {found} entries, got {entries} to transform: "
            f"{transformer!r}."
        )
