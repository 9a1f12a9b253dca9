"""Glow's invertible 1x1 convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_choice, check_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.square_matrix import PLUMatrix, initial_matrix, multiply

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(PLUMatrix, JointBijector):
    r"""Mixes the channels at every position of an image by one learned matrix.

    `forward` multiplies, `inverse` multiplies by the inverse:

    $$ y_{ij} = W x_{ij}, \qquad x_{ij} = W^{-1} y_{ij}, \qquad
       \log|\det \partial y / \partial x| = \mathrm{height} \cdot \mathrm{width} \cdot
       \log|\det W| $$

    (Kingma & Dhariwal 2018, section 3.2, equations 9 to 11). A permutation of the
    channels is a special case. By default $W$ starts as a rotation drawn from the Haar
    measure. The paper multiplies data on their way to noise, as
    `tfb.Invert(InvertibleConv1x1(...))` does.

    Example:
      >>> import numpy as np
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> swap = bijectors.InvertibleConv1x1([1, 1, 2], initial=[[0, 1], [1, 0]])
      >>> swap.forward(tf.constant([[[3.0, 5.0]]])).numpy()
      array([[[5., 3.]]], dtype=float32)

    `parametrization`:

    * `"plu"`: $W = P L (U + \mathrm{diag}(e^{d} \odot \mathrm{sign}))$ with $P$ and
      the signs fixed, so that $\log|\det W| = \sum_c d_c$ costs nothing and $W$ stays
      invertible; triangular solves invert it.
    * `"dense"`: $W$ itself is the variable. One QR decomposition gives $\log|\det W|$
      and the inverse; unlike `slogdet`, XLA compiles it on every device.

    Args:
      event_shape: `[H, W, C]`.
      parametrization: `"plu"` or `"dense"`.
      initial: initial $W$, an invertible `[C, C]` array; a random rotation by default.
      seed: integer seed of the random rotation.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: on another parametrisation or event rank, or if `initial` is
        singular or of another shape.
      TypeError: if `event_shape` is no sequence of integers.
    """

    papers = ("kingma2018glow",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: Sequence[int],
        parametrization: str = "plu",
        initial: Any = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "invertible_conv1x1",
    ):
        parameters = dict(locals())
        event_shape = check_shape("event_shape", event_shape)
        if len(event_shape) != 3:
            raise ValueError(f"event_shape must be [H, W, C], got {event_shape}.")
        check_choice("parametrization", parametrization, ("plu", "dense"))
        dtype = tf.as_dtype(dtype)
        height, width, channels = event_shape
        self._positions = height * width
        matrix = initial_matrix(initial, channels, seed)
        if parametrization == "dense":
            self._matrix = self._add_variable("matrix", tf.constant(matrix, dtype))
        else:
            self._add_factors(matrix, dtype)
        self._parametrization = parametrization
        super().__init__(
            forward_min_event_ndims=3,
            input_event_shape=event_shape,
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def matrix(self) -> tf.Tensor:
        """The matrix $W$ of `forward`, `[C, C]`."""
        if self._parametrization == "dense":
            return tf.convert_to_tensor(self._matrix)
        permutation, lower, upper, _ = self._factors()
        return permutation @ lower @ upper

    def _inverse_matrix_and_log_det(self):
        r"""$W^{-1}$ and $\log|\det W|$."""
        solve = tf.linalg.triangular_solve
        if self._parametrization == "plu":
            permutation, lower, upper, log_det = self._factors()
            # W^-1 = U^-1 L^-1 P^T
            below = solve(lower, tf.transpose(permutation), lower=True)
            return solve(upper, below, lower=False), log_det
        q, r = tf.linalg.qr(self._matrix)
        return solve(r, tf.transpose(q), lower=False), _sum_log_diagonal(r)

    def _matrix_and_log_det(self):
        if self._parametrization == "plu":
            permutation, lower, upper, log_det = self._factors()
            return permutation @ lower @ upper, log_det
        matrix = tf.convert_to_tensor(self._matrix)
        return matrix, _sum_log_diagonal(tf.linalg.qr(matrix)[1])

    def _forward_and_log_det(self, x):
        matrix, log_det = self._matrix_and_log_det()
        return multiply(x, matrix), self._positions * log_det

    def _inverse_and_log_det(self, y):
        inverse, log_det = self._inverse_matrix_and_log_det()
        return multiply(y, inverse), -self._positions * log_det


def _sum_log_diagonal(r):
    return tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(r))))
