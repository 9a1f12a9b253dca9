"""A linear layer on vectors, by its PLU factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.core.arguments import check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.square_matrix import PLUMatrix, initial_matrix, multiply

__all__ = ["PLU"]


class PLU(PLUMatrix, JointBijector):
    r"""Multiplies a vector by one learned matrix, held as its PLU factors.

    `forward` multiplies, `inverse` solves two triangular systems:

    $$ y = W x, \qquad x = U_d^{-1} L^{-1} P^\top y, \qquad
       W = P L U_d, \qquad U_d = U + \mathrm{diag}(e^{d} \odot \mathrm{sign}), \qquad
       \log|\det \partial y / \partial x| = \sum_i d_i $$

    (Kingma & Dhariwal 2018, equations 10 and 11, who apply it at every position of an
    image: `InvertibleConv1x1`). $L$ is lower triangular with ones on its diagonal, $U$
    strictly upper triangular, $P$ a permutation. $P$ and the signs are not trained, so
    $W$ is invertible whatever the variables are. Between couplings, this generalises
    `Permutation`. By default $W$ starts as a rotation drawn from the Haar measure.

    A flow that is trained by likelihood uses `tfb.Invert(PLU(...))`: data are
    multiplied on their way to noise, and only sampling solves triangular systems.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import bijectors
      >>> twice = bijectors.PLU(2, initial=2 * np.eye(2))
      >>> twice.forward([1.0, 3.0]).numpy()
      array([2., 6.], dtype=float32)

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      initial: initial $W$, an invertible `[D, D]` array; a random rotation by default.
      seed: integer seed of the random rotation.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is not positive or not that of a vector, or if
        `initial` is singular or of another shape.
      TypeError: if `event_shape` holds no integer.
    """

    papers = ("kingma2018glow",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: int | Sequence[int],
        initial: Any = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "plu",
    ):
        parameters = dict(locals())
        size = check_vector_shape(
            "event_shape",
            event_shape,
            instead="For images there is InvertibleConv1x1.",
        )
        dtype = tf.as_dtype(dtype)
        self._add_factors(initial_matrix(initial, size, seed), dtype)
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=(size,),
            is_constant_jacobian=True,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @property
    def matrix(self) -> tf.Tensor:
        """The matrix $W$ of `forward`, `[D, D]`."""
        permutation, lower, upper, _ = self._factors()
        return permutation @ lower @ upper

    def _forward_and_log_det(self, x):
        permutation, lower, upper, log_det = self._factors()
        for factor in (upper, lower, permutation):
            x = multiply(x, factor)
        return x, log_det

    def _inverse_and_log_det(self, y):
        permutation, lower, upper, log_det = self._factors()
        # Columns of one matrix are the vectors of the batch.
        columns = tf.reshape(y, [-1, lower.shape[0]])
        columns = tf.matmul(permutation, columns, transpose_a=True, transpose_b=True)
        columns = tf.linalg.triangular_solve(lower, columns, lower=True)
        columns = tf.linalg.triangular_solve(upper, columns, lower=False)
        x = reshape_event(tf.transpose(columns), 1, [columns.shape[0]], like=y)
        return x, -log_det
