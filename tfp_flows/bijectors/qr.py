"""A linear layer on vectors, by its QR factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.square_matrix import initial_matrix, multiply

__all__ = ["QR"]


class QR(JointBijector):
    r"""Multiplies a vector by one learned matrix, held as its QR factors.

    `forward` multiplies, `inverse` solves one triangular system:

    $$ y = W x, \qquad x = R^{-1} S\, Q^\top y, \qquad W = Q S R, \qquad
       \log|\det \partial y / \partial x| = \sum_i d_i, $$

    with $R$ upper triangular of diagonal $e^{d}$, fixed signs $S$ and $Q = H_1 \cdots
    H_k$, the product of the reflections $H_i = I - 2 v_i v_i^\top / \|v_i\|^2$ (Tomczak
    & Welling 2016; Hoogeboom et al. 2019, for the channels of images). $D - 1$
    reflections and the signs reach every orthogonal matrix; fewer do not change some
    subspace. The permutation of `PLU` is not trained; here the whole rotation is.

    All reflections are applied at once. With the $v_i$ of unit length as columns of
    $V$, $Q = I - V T^{-1} V^\top$, where $T$ is the upper triangle of $V^\top V$ with
    half its diagonal (Joffrain et al. 2006): two products with matrices of $D \times k$
    for each vector.

    A flow that is trained by likelihood uses `tfb.Invert(QR(...))`: data are
    multiplied on their way to noise, and only sampling solves a triangular system.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import bijectors
      >>> twice = bijectors.QR(2, initial=2 * np.eye(2))
      >>> twice.forward([1.0, 3.0]).numpy().round(4)
      array([2., 6.], dtype=float32)

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      reflections: $k$, at least 1; $D$ by default.
      initial: initial $W$, an invertible `[D, D]` array, which needs at least $D - 1$
        reflections; a random orthogonal matrix by default.
      seed: integer seed of the random matrix.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is not positive or not that of a vector,
        `reflections` below 1, or below D - 1 with `initial`; if `initial` is singular
        or of another shape.
      TypeError: if `event_shape` holds no integer.
    """

    papers = ("hoogeboom2019emerging", "tomczak2016householder")

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: int | Sequence[int],
        reflections: int | None = None,
        initial: Any = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "qr",
    ):
        parameters = dict(locals())
        size = check_vector_shape(
            "event_shape",
            event_shape,
            instead="For images there is InvertibleConv1x1.",
        )
        dtype = tf.as_dtype(dtype)
        count = size
        if reflections is not None:
            count = check_integer("reflections", reflections)
        if initial is not None and count < size - 1:
            raise ValueError(
                f"initial needs at least {size - 1} reflections, got {count}."
            )
        vectors, upper = _factorize(initial_matrix(initial, size, seed), count)
        diagonal = np.diag(upper)
        if initial is None:
            # The exact triangle of an orthogonal matrix is a diagonal of signs.
            upper, diagonal = np.zeros_like(upper), np.sign(diagonal)
        add = self._add_variable
        self._vectors = add("vectors", tf.constant(vectors, dtype))
        self._sign = add("sign", tf.constant(np.sign(diagonal), dtype), trainable=False)
        self._log_diagonal = add(
            "log_diagonal", tf.constant(np.log(np.abs(diagonal)), dtype)
        )
        self._upper = add(
            "upper", tf.constant(np.triu(np.sign(diagonal)[:, None] * upper, 1), dtype)
        )
        self._above = np.triu(np.ones((size, size), bool), 1)
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
        eye = tf.eye(self._log_diagonal.shape[0], dtype=self.dtype)
        return tf.transpose(self._forward_and_log_det(eye)[0])

    def _triangle(self):
        r"""$R$ and $\log|\det W|$."""
        log_diagonal = tf.convert_to_tensor(self._log_diagonal)
        upper = tf.where(self._above, self._upper, tf.zeros([], self.dtype))
        diagonal = tf.linalg.diag(tf.exp(log_diagonal))
        return upper + diagonal, tf.reduce_sum(log_diagonal)

    def _reflections(self):
        r"""$V^\top$ and $(V T^{-1})^\top$, both `[k, D]`."""
        v = tf.math.l2_normalize(self._vectors, -1)
        gram = tf.matmul(v, v, transpose_b=True)
        half = tf.fill([v.shape[0]], tf.constant(0.5, v.dtype))
        # The solver reads the upper triangle only.
        t = tf.linalg.set_diag(gram, half)
        return v, tf.linalg.triangular_solve(t, v, lower=False, adjoint=True)

    def _forward_and_log_det(self, x):
        upper, log_det = self._triangle()
        v, w = self._reflections()
        y = self._sign * multiply(x, upper)
        return y - multiply(multiply(y, v), tf.transpose(w)), log_det

    def _inverse_and_log_det(self, y):
        upper, log_det = self._triangle()
        v, w = self._reflections()
        y -= multiply(multiply(y, w), tf.transpose(v))
        columns = tf.transpose(tf.reshape(self._sign * y, [-1, v.shape[1]]))
        columns = tf.linalg.triangular_solve(upper, columns, lower=False)
        x = reshape_event(tf.transpose(columns), 1, [columns.shape[0]], like=y)
        return x, -log_det


def _factorize(matrix, count):
    """The vectors of `count` reflections `[count, D]`, and the triangle they leave.

    This is Householder's algorithm: reflection i makes column i zero below the
    diagonal. If it is zero already, the reflection flips the sign of an axis, and so
    does the triangle.
    """
    size = len(matrix)
    (packed, scales), upper = scipy.linalg.qr(matrix, mode="raw")
    vectors, sign = np.zeros((count, size)), np.ones(size)
    for i in range(count):
        vectors[i, i % size] = 1.0
        if i < size - 1 and scales[i]:
            vectors[i, i + 1 :] = packed[i + 1 :, i]
        else:
            sign[i % size] *= -1.0
    return vectors, sign[:, None] * upper
