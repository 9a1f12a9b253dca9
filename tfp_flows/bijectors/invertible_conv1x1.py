"""Glow's invertible 1x1 convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import tensorflow as tf

from tfp_flows.bijectors.joint_bijector import JointBijector

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(JointBijector):
    r"""Mixes the channels at every position of an image by one learned matrix.

    The density direction multiplies, sampling multiplies by the inverse:

    $$ x_{ij} = W y_{ij}, \qquad y_{ij} = W^{-1} x_{ij}, \qquad
       \log|\det \partial x / \partial y| = H \cdot W \cdot \log|\det W| $$

    (Kingma & Dhariwal 2018, section 3.2, equations 9 to 11). A permutation of the
    channels is a special case, and a rotation drawn from the Haar measure is the
    default to start from.

    `parametrization`:

    * `"plu"`: $W = P L (U + \mathrm{diag}(e^{d} \odot \mathrm{sign}))$ with $P$ and
      the signs fixed, so that $\log|\det W| = \sum_c d_c$ costs nothing and $W$ stays
      invertible; triangular solves invert it.
    * `"dense"`: $W$ itself, with $\log|\det W|$ (`slogdet`'s) and the inverse from
      one QR decomposition, which works wherever XLA does.

    Args:
      event_shape: `[H, W, C]`.
      parametrization: `"plu"` or `"dense"`.
      initial: initial $W$, an invertible `[C, C]` array; a random rotation by default.
      seed: integer seed of the random rotation.
      dtype: dtype of values, float32 by default.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      ValueError: on another parametrisation or event rank, or if `initial` is
        singular or of another shape.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        parametrization: str = "plu",
        initial: Any = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        validate_args: bool = False,
        name: str = "invertible_conv1x1",
    ):
        parameters = dict(locals())
        if len(event_shape) != 3:
            raise ValueError(f"event_shape must be [H, W, C], got {event_shape}.")
        dtype = tf.as_dtype(dtype)
        height, width, channels = map(int, event_shape)
        self._positions = height * width
        matrix = _initial_matrix(initial, channels, seed)
        if parametrization == "dense":
            self._matrix = self._add_variable("matrix", tf.constant(matrix, dtype))
        elif parametrization == "plu":
            p, lower, upper = scipy.linalg.lu(matrix)
            diagonal = np.diag(upper)
            # Saved with the weights: another seed makes another P and signs.
            fixed = {"trainable": False}
            add = self._add_variable
            self._permutation = add("permutation", tf.constant(p, dtype), **fixed)
            self._sign = add("sign", tf.constant(np.sign(diagonal), dtype), **fixed)
            self._log_diagonal = add(
                "log_diagonal", tf.constant(np.log(np.abs(diagonal)), dtype)
            )
            self._lower = add("lower", tf.constant(np.tril(lower, -1), dtype))
            self._upper = add("upper", tf.constant(np.triu(upper, 1), dtype))
            self._below = np.tril(np.ones((channels, channels), bool), -1)
        else:
            raise ValueError(
                f'parametrization must be "plu" or "dense", got {parametrization!r}.'
            )
        self._parametrization = parametrization
        super().__init__(
            forward_min_event_ndims=3,
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def matrix(self) -> tf.Tensor:
        """The matrix $W$ of the density direction, `[C, C]`."""
        if self._parametrization == "dense":
            return tf.convert_to_tensor(self._matrix)
        lower, upper, _ = self._factors()
        return self._permutation @ lower @ upper

    def _factors(self):
        zero = tf.zeros([], self.dtype)
        log_diagonal = tf.convert_to_tensor(self._log_diagonal)
        size = log_diagonal.shape[0]
        lower = tf.where(self._below, self._lower, zero) + tf.eye(
            size, dtype=self.dtype
        )
        diagonal = self._sign * tf.exp(log_diagonal)
        upper = tf.where(self._below.T, self._upper, zero) + tf.linalg.diag(diagonal)
        return lower, upper, log_diagonal

    def _inverse_matrix_and_log_det(self):
        r"""$W^{-1}$ and $\log|\det W|$."""
        solve = tf.linalg.triangular_solve
        if self._parametrization == "plu":
            lower, upper, log_diagonal = self._factors()
            # W^-1 = U^-1 L^-1 P^T
            below = solve(lower, tf.transpose(self._permutation), lower=True)
            return solve(upper, below, lower=False), tf.reduce_sum(log_diagonal)
        q, r = tf.linalg.qr(self._matrix)
        return solve(r, tf.transpose(q), lower=False), _sum_log_diagonal(r)

    def _matrix_and_log_det(self):
        if self._parametrization == "plu":
            lower, upper, log_diagonal = self._factors()
            matrix = self._permutation @ lower @ upper
            return matrix, tf.reduce_sum(log_diagonal)
        matrix = tf.convert_to_tensor(self._matrix)
        return matrix, _sum_log_diagonal(tf.linalg.qr(matrix)[1])

    def _forward_and_log_det(self, x):
        inverse, log_det = self._inverse_matrix_and_log_det()
        return _multiply(x, inverse), -self._positions * log_det

    def _inverse_and_log_det(self, y):
        matrix, log_det = self._matrix_and_log_det()
        return _multiply(y, matrix), self._positions * log_det


def _multiply(x, matrix):
    """`matrix` applied to the last axis, as one matrix product."""
    channels = matrix.shape[0]
    flat = tf.reshape(x, [-1, channels])
    return tf.reshape(tf.matmul(flat, matrix, transpose_b=True), tf.shape(x))


def _sum_log_diagonal(r):
    return tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(r))))


def _initial_matrix(initial, channels, seed):
    if initial is None:
        # QR of a Gaussian matrix, with the signs of R moved into Q, is distributed by
        # the Haar measure (Mezzadri 2007, section 5).
        gaussian = np.random.default_rng(seed).standard_normal((channels, channels))
        q, r = np.linalg.qr(gaussian)
        return q * np.sign(np.diag(r))
    matrix = np.asarray(initial, np.float64)
    if matrix.shape != (channels, channels):
        raise ValueError(
            f"initial must have shape ({channels}, {channels}), got {matrix.shape}."
        )
    if np.linalg.matrix_rank(matrix) < channels:
        raise ValueError("initial must be invertible; its rank is not full.")
    return matrix
