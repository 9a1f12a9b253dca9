"""Columns of numbers, integers and categories, and the real numbers they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_integer

__all__ = ["INTEGER", "REAL", "Kind", "MixedColumns"]

REAL, INTEGER = "real", "integer"

# What a column holds: real numbers, integers, categories of which the number is known,
# or categories that have names.
Kind = str | int | tuple[str, ...]


class MixedColumns:
    r"""The columns of a table, and how real numbers make a row of them.

    A row stands for its real numbers, then a number for each integer, then, for each
    column of $K$ categories, $\lceil \log_2 K \rceil$ numbers whose signs are the
    digits of its code; or, if columns are not binary, $K$ numbers, the largest of which
    is that of its category. A code from $K$ on counts without its first digit, so that
    any signs are those of one category.

    Args:
      kinds: what each column holds: `"real"`, `"integer"`, the number of categories, at
        least 2, or their names.
      binary: whether signs stand for categories.

    Attributes:
      kinds: as given, names as tuples.
      size: number of columns.
      flow_size: how many real numbers stand for a row.
      noise_size: how many of them are not known from the row.
      context_size: numbers that describe a row: its numbers, and a 0 or 1 for each
        category.

    Raises:
      TypeError, ValueError: on another kind of column, or if all are real.
    """

    def __init__(self, kinds: Iterable[Any], binary: bool = True):
        if isinstance(kinds, str) or not isinstance(kinds, Iterable):
            raise TypeError(
                "columns must be a sequence with a kind for each column, got "
                f"{kinds!r}."
            )
        self.kinds = tuple(_checked(f"columns[{i}]", k) for i, k in enumerate(kinds))
        self.binary = bool(check_choice("binary", binary, (False, True)))
        self.size = len(self.kinds)
        counts = [
            k if isinstance(k, int) else len(k) for k in self.kinds if _is_category(k)
        ]
        self.reals, self.integers, self.categories = (
            np.array([i for i, kind in enumerate(self.kinds) if is_it(kind)], np.int32)
            for is_it in (_is_real, _is_integer, _is_category)
        )
        self._counts = np.array(counts, np.int32)
        widths = [(k - 1).bit_length() if self.binary else k for k in counts]
        self._widths = widths
        # Of each number that stands for a category, its column among these, and which
        # category or digit it is.
        self._column = np.repeat(np.arange(len(counts), dtype=np.int32), widths)
        self._which = _counted(widths)
        self._starts = np.array([0, *itertools.accumulate(widths)], np.int32)
        self.noise_size = len(self.integers) + sum(widths)
        self.flow_size = len(self.reals) + self.noise_size
        self.context_size = len(self.reals) + len(self.integers) + sum(counts)
        if not self.noise_size:
            raise ValueError(
                "columns must hold an integer or a category, or there is nothing to "
                f"dequantise; got {list(self.kinds)}."
            )

    def whole(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows that values stand for: integers and codes rounded down.

        Args:
          x: `[..., size]`.

        Returns:
          Rows, and which of them have codes in range, `[...]`.
        """
        discrete = np.array([kind != REAL for kind in self.kinds])
        x = tf.where(discrete, tf.floor(x), x)
        codes = tf.gather(x, self.categories, axis=-1)
        in_range = (codes >= 0) & (codes < self._counts.astype(x.dtype.as_numpy_dtype))
        return x, tf.reduce_all(in_range, -1)

    def describe(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The numbers of rows, real ones first, and a 0 or 1 for each category.

        Args:
          x: rows `[..., size]`.
        """
        numbers = tf.gather(x, [*self.reals, *self.integers], axis=-1)
        column = np.repeat(np.arange(len(self._counts)), self._counts)
        codes = tf.gather(self._codes(x), column, axis=-1)
        return numbers, tf.cast(tf.equal(codes, _counted(self._counts)), x.dtype)

    def lift(self, x: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        r"""The real numbers that rows and noise stand for.

        An integer gets the noise $\sigma(u)$. Of the numbers of a category $k$,
        $v_k = u_k$, and the others are below it: $v_i = v_k - \mathrm{softplus}(v_k -
        u_i)$ (Hoogeboom et al. 2021, section 3). A sign $s$ is that of $s\,
        \mathrm{softplus}(u)$.

        Args:
          x: rows `[..., size]`.
          u: noise `[..., noise_size]`, any numbers.

        Returns:
          `(v, log_det)`: `[..., flow_size]`, and the logarithm of the volume that `v`
          takes for one of `u`, `[...]`, in nats.
        """
        of_integers, u = tf.split(u, [len(self.integers), sum(self._widths)], -1)
        numbers = [
            tf.gather(x, self.reals, axis=-1),
            tf.gather(x, self.integers, axis=-1) + tf.sigmoid(of_integers),
        ]
        log_slope = tf.math.log_sigmoid(of_integers) + tf.math.log_sigmoid(-of_integers)
        log_det = tf.reduce_sum(log_slope, -1)
        if len(self.categories):
            codes = self._codes(x)
            v, log_slope = (self._signs if self.binary else self._below)(codes, u)
            # NaN for a category that is NaN, else 0.
            rest = tf.gather(x, self.categories, axis=-1) - tf.cast(codes, x.dtype)
            numbers.append(v + tf.gather(rest, self._column, axis=-1))
            log_det += tf.reduce_sum(log_slope, -1)
        return tf.concat(numbers, -1), log_det

    def drop(self, v: tf.Tensor) -> tf.Tensor:
        """The rows that real numbers stand for.

        Args:
          v: `[..., flow_size]`.

        Returns:
          Rows `[..., size]`.
        """
        sizes = [len(self.reals), len(self.integers), *self._widths]
        reals, integers, *parts = tf.split(v, sizes, -1)
        codes = [
            _code_of_signs(part, k) if self.binary else tf.argmax(part, -1, tf.int32)
            for part, k in zip(parts, self._counts.tolist(), strict=True)
        ]
        columns = [tf.cast(code, v.dtype)[..., None] for code in codes]
        row = tf.concat([reals, tf.floor(integers), *columns], -1)
        order = np.argsort([*self.reals, *self.integers, *self.categories])
        return tf.gather(row, order, axis=-1)

    def _codes(self, x):
        """Codes of categories, int32; those out of range are moved into it."""
        codes = tf.cast(tf.gather(x, self.categories, axis=-1), tf.int32)
        return tf.clip_by_value(codes, 0, self._counts - 1)

    def _below(self, codes, u):
        chosen = tf.gather(codes, self._column, axis=-1)
        is_top = tf.equal(chosen, self._which)
        where = self._starts[:-1] + codes
        top = tf.gather(u, where, axis=-1, batch_dims=u.shape.rank - 1)
        top = tf.gather(top, self._column, axis=-1)
        v = tf.where(is_top, u, top - tf.nn.softplus(top - u))
        return v, tf.where(is_top, tf.zeros_like(u), tf.math.log_sigmoid(top - u))

    def _signs(self, codes, u):
        code = tf.gather(codes, self._column, axis=-1)
        value = 1 << self._which
        # The first digit may be either where the code with it is no category.
        first = self._which == np.array(self._widths, np.int32)[self._column] - 1
        free = first & (code < value) & (code + value >= self._counts[self._column])
        is_one = tf.not_equal(tf.bitwise.bitwise_and(code, value), 0)
        size = tf.nn.softplus(u)
        v = tf.where(free, u, tf.where(is_one, size, -size))
        return v, tf.where(free, tf.zeros_like(u), tf.math.log_sigmoid(u))


def _is_real(kind):
    return kind == REAL


def _is_integer(kind):
    return kind == INTEGER


def _is_category(kind):
    return not isinstance(kind, str)


def _code_of_signs(part, count):
    value = 1 << np.arange(part.shape[-1], dtype=np.int32)
    code = tf.reduce_sum(tf.cast(part > 0, tf.int32) * value, -1)
    return tf.where(code < count, code, code - value[-1])


def _counted(widths: Iterable[int]) -> np.ndarray:
    """0, 1, ... up to each width, one after the other."""
    return np.concatenate([np.arange(n) for n in (0, *widths)]).astype(np.int32)


def _checked(name: str, kind: Any) -> Kind:
    if isinstance(kind, str):
        return check_choice(name, kind, (REAL, INTEGER))
    if not isinstance(kind, Iterable):
        return check_integer(name, kind, at_least=2)
    names = tuple(kind)
    if not all(isinstance(n, str) for n in names):
        raise TypeError(f"{name} must hold names of categories, got {list(names)}.")
    if len(set(names)) < max(2, len(names)):
        raise ValueError(
            f"{name} must hold two or more different categories, got {list(names)}."
        )
    return names
