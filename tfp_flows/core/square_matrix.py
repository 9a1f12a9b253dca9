"""Square matrices of linear bijectors: PLU factors, initial values, products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import tensorflow as tf

from tfp_flows.core.seeds import generator
from tfp_flows.core.shapes import reshape_event

__all__ = ["PLUMatrix", "initial_matrix", "multiply"]


class PLUMatrix:
    r"""Adds the factors of $W = P L (U + \mathrm{diag}(e^{d} \odot \mathrm{sign}))$
    to a bijector that inherits from this class.

    $L$ is lower triangular with a diagonal of ones, $U$ strictly upper triangular; one
    variable `[D, D]` holds $L$ below its diagonal, $U$ above it and $d$ on it. The
    permutation $P$ and the signs are fixed, so that $W$ stays invertible and
    $\log|\det W| = \sum_i d_i$ (Kingma & Dhariwal 2018, equations 10 and 11).
    """

    _add_variable: Callable[..., tf.Variable]

    def _add_factors(self, matrix: np.ndarray, dtype: tf.DType) -> None:
        """Creates the variables from the factors of an initial `matrix`."""
        p, lower, upper = scipy.linalg.lu(matrix)
        diagonal = np.diag(upper)
        # P and the signs depend on the seed, so they are saved with the weights.
        fixed = {"trainable": False}
        add = self._add_variable
        self._permutation = add("permutation", tf.constant(p, dtype), **fixed)
        self._sign = add("sign", tf.constant(np.sign(diagonal), dtype), **fixed)
        # One variable for all, since an optimiser's step costs operations for each.
        lu = np.tril(lower, -1) + np.triu(upper, 1) + np.diag(np.log(np.abs(diagonal)))
        self._lu = add("lu", tf.constant(lu, dtype))
        self._below = np.tril(np.ones(matrix.shape, bool), -1)

    def _factors(self):
        r"""$P$, $L$, $U + \mathrm{diag}(\ldots)$ and $\log|\det W|$."""
        lu = tf.convert_to_tensor(self._lu)
        log_diagonal = tf.linalg.diag_part(lu)
        lower = tf.where(self._below, lu, tf.eye(lu.shape[0], dtype=lu.dtype))
        diagonal = tf.linalg.diag(self._sign * tf.exp(log_diagonal))
        upper = tf.where(self._below.T, lu, diagonal)
        permutation = tf.convert_to_tensor(self._permutation)
        return permutation, lower, upper, tf.reduce_sum(log_diagonal)


def multiply(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """`matrix` applied to the last axis of `x`, as one matrix product."""
    rows, size = matrix.shape
    flat = tf.matmul(tf.reshape(x, [-1, size]), matrix, transpose_b=True)
    return reshape_event(flat, 1, [rows], like=x)


def initial_matrix(initial: Any, size: int, seed: int | None) -> np.ndarray:
    """The given matrix after checks, or a random orthogonal one, `[size, size]`.

    Args:
      initial: an invertible array `[size, size]`, or `None` for a random one.
      size: number of rows.
      seed: integer seed of the random matrix.

    Raises:
      ValueError: if `initial` has another shape or is singular.
    """
    if initial is None:
        # QR of a Gaussian matrix, with the signs of R moved into Q, is distributed by
        # the Haar measure (Mezzadri 2007, section 5).
        gaussian = generator(seed).standard_normal((size, size))
        q, r = np.linalg.qr(gaussian)
        return q * np.sign(np.diag(r))
    matrix = np.asarray(initial, np.float64)
    if matrix.shape != (size, size):
        raise ValueError(
            f"initial must have shape ({size}, {size}), got {matrix.shape}."
        )
    if np.linalg.matrix_rank(matrix) < size:
        raise ValueError("initial must be invertible; its rank is not full.")
    return matrix
