"""Sylvester flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.activations import activation_of, shrink, stretch
from tfp_flows.core.amortized import Amortized
from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_vector_shape,
)
from tfp_flows.core.eager_loops import traced_loop
from tfp_flows.core.seeds import generator

__all__ = ["Sylvester"]

_BASES = ("orthogonal", "householder", "triangular")
# Small singular values grow by 3/2 in each iteration, so that 40 iterations can balance
# a ratio of a million between the largest and the smallest.
_ITERATIONS = 40


class Sylvester(Amortized):
    r"""A planar flow with $M$ hidden units instead of one.

    With $Q$ of $M$ orthonormal columns in $\mathbb R^D$, upper triangular $R, \tilde R
    \in \mathbb R^{M \times M}$, $b \in \mathbb R^M$ and an activation $h$, `forward` is
    (van den Berg et al. 2018, section 3)

    $$ y = z + Q R\, h(\tilde R Q^\top z + b), \qquad
       \log|\det \partial y / \partial z| =
       \sum_{m=1}^M \log(1 + R_{mm} \tilde R_{mm} h'_m), $$

    which follows from $\det(I_D + A B) = \det(I_M + B A)$ (their theorem 1): nothing
    of size $D \times D$ is ever factorised.

    `parametrization` says where $Q$ comes from:

    * `"orthogonal"`: a raw matrix, scaled to singular values of at most 1 and then
      orthogonalised by iterating $Q \leftarrow Q (I + \tfrac12 (I - Q^\top Q))$. If
      this does not converge, because columns of the raw matrix depend on each other,
      log-determinants are NaN.
    * `"householder"`: the first $M$ columns of a product of reflections.
    * `"triangular"`: $Q = I$ and $M = D$. Put a `Permutation("reverse")` between two
      of them, as the paper does.

    **Always invertible.** With the steepest slope $S$ of $h$ (1 for tanh), `forward` is
    invertible if $R_{mm} \tilde R_{mm} > -1/S$ for all $m$ (theorem 2). The paper
    bounds both factors. Here, as in `Planar`, $R_{mm}$ is a raw number times $1 / (1 +
    \zeta(-x))$, with $x$ the raw product times $S$ and the softplus $\zeta$, which
    reaches every product that is allowed.

    **The inverse** is that of $M$ increasing functions of one number, one after the
    other. $u = Q^\top z$ solves the triangular system $u + R\, h(\tilde R u + b) =
    Q^\top y$ by back substitution. Each coordinate is found in closed form (leaky
    ReLU), or by Newton's method from a bound, which always converges (tanh). Gradients
    come from the implicit function theorem and are right to second order.

    A new bijector is the identity: $R$ starts at 0.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> sylvester = bijectors.Sylvester(4, columns=2, seed=0)
      >>> y, log_det = sylvester.forward_and_log_det(tf.ones([5, 4]))
      >>> y.shape, log_det.shape
      (TensorShape([5, 4]), TensorShape([5]))

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      columns: $M$, between 1 and $D$; $D$ for `"triangular"`.
      parametrization: `"orthogonal"`, `"householder"` or `"triangular"`.
      reflections: number of reflections of `"householder"`; $M$ by default, which
        reaches every $Q$.
      activation: `"tanh"` or `"leaky_relu"`.
      negative_slope: slope of leaky ReLU at negative numbers, 0 or more.
      conditioner: a callable `context -> [batch, P]`, with $P$ from
        `Sylvester.num_parameters`, whose output is added to the raw parameters of each
        example (amortised parameters): a Keras layer, a tf_keras layer, a `tf.Module`
        or a function. Needs `context_shape`. The parameters are, each in row-major
        order: the raw $Q$ `[D, M]` or the reflections `[reflections, D]`; one matrix
        `[M, M]` whose upper triangle is $R$ and whose lower one, transposed and without
        the diagonal, is $\tilde R$; the diagonal of $\tilde R$; $b$.
      context_shape: shape of one context, or `None`.
      seed: integer seed of the initial $Q$ and $\tilde R$.
      dtype: dtype of values.
      name: name of the bijector.

    Raises:
      ValueError: on another parametrization or activation, `columns` out of range,
        `reflections` below 1 or with another parametrization, a negative slope, an
        `event_shape` that is not positive or not that of a vector, one of `conditioner`
        and `context_shape` without the other, or a conditioner that returns another
        shape.
      TypeError: if `event_shape` holds no integer.
    """

    papers = ("vandenberg2018sylvester",)

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: int | Sequence[int],
        columns: int | None = None,
        parametrization: str = "orthogonal",
        reflections: int | None = None,
        activation: str = "tanh",
        negative_slope: float = 0.2,
        conditioner: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "sylvester",
    ):
        parameters = dict(locals())
        size = check_vector_shape("event_shape", event_shape)
        shape, columns = _shape_of_basis(size, columns, parametrization, reflections)
        self._parametrization = parametrization
        self._size, self._columns = size, columns
        self._activation = activation_of(activation, negative_slope)
        draw = generator(seed)
        # The raw Q starts orthonormal; the lengths of reflections hardly matter.
        basis = {}
        if parametrization == "orthogonal":
            basis = {"basis": np.linalg.qr(draw.standard_normal(shape))[0]}
        elif parametrization == "householder":
            basis = {"reflections": draw.standard_normal(shape)}
        # R starts at zero. The inner matrix is random, so that hidden units differ.
        below = np.tril(draw.standard_normal((columns, columns)), -1)
        super().__init__(
            size,
            {
                **basis,
                "triangles": below / np.sqrt(columns),
                "diagonal": np.ones(columns),
                "b": np.zeros(columns),
            },
            conditioner,
            context_shape,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    @staticmethod
    def num_parameters(
        event_shape: int | Sequence[int],
        columns: int | None = None,
        parametrization: str = "orthogonal",
        reflections: int | None = None,
    ) -> int:
        """Returns how many parameters a conditioner gives for each example.

        Args:
          event_shape: as for the class, like all arguments.
          columns: $M$.
          parametrization: the form of $Q$.
          reflections: number of reflections.
        """
        size = check_vector_shape("event_shape", event_shape)
        shape, columns = _shape_of_basis(size, columns, parametrization, reflections)
        return int(np.prod(shape)) * (shape != ()) + columns * (columns + 2)

    @property
    def _structure(self):
        return f" {self.parameters['parametrization']} {self.parameters['activation']}"

    def _parameters_of(self, context):
        r"""$Q$ (`None` for the identity), $R$, $\tilde R$, $b$, gaps and validity."""
        *basis, triangles, diagonal, b = self._raw_parameters(context)
        valid = True
        if self._parametrization == "orthogonal":
            basis, valid = _orthogonalize(*basis)
        elif self._parametrization == "householder":
            basis = _reflect(*basis, self._columns)
        else:
            basis = None
        outer = tf.linalg.diag_part(triangles)
        factor, gap = shrink(self._activation.steepest * outer * diagonal)
        upper = tf.linalg.band_part(triangles, 0, -1)
        r = tf.linalg.set_diag(upper, outer * factor)
        lower = tf.linalg.band_part(triangles, -1, 0)
        r_inner = tf.linalg.set_diag(tf.linalg.matrix_transpose(lower), diagonal)
        return basis, r, r_inner, b, gap, valid

    def _forward_and_log_det(self, x, context=None):
        basis, r, r_inner, b, gap, valid = self._parameters_of(context)
        u = _project(basis, x)
        h, slope = self._activation(_apply(r_inner, u) + b)
        y = x + _expand(basis, _apply(r, h))
        return y, self._log_det(slope, gap, valid)

    def _inverse_and_log_det(self, y, context=None):
        basis, r, r_inner, b, gap, valid = self._parameters_of(context)
        u = self._solve(_project(basis, y), r, r_inner, b, gap)
        h, slope = self._activation(_apply(r_inner, u) + b)
        x = y - _expand(basis, _apply(r, h))
        return x, -self._log_det(slope, gap, valid)

    def _log_det(self, slope, gap, valid):
        log_det = tf.reduce_sum(tf.math.log(stretch(self._activation, slope, gap)), -1)
        if valid is True:
            return log_det
        return tf.where(valid, log_det, np.nan)

    def _solve(self, target, r, r_inner, b, gap):
        r"""Solves $u + R h(\tilde R u + b)$ = `target` for $u$."""
        u = traced_loop(
            _substitute,
            *(target, r, r_inner, b, gap),
            columns=self._columns,
            activation=self._activation,
        )
        # Each Newton step from the solution gives the derivatives of one more order.
        for _ in range(2):
            h, slope = self._activation(_apply(r_inner, u) + b)
            error = u + _apply(r, h) - target
            jacobian = _eye(self._columns, u) + tf.matmul(
                r * slope[..., None, :], r_inner
            )
            step = tf.linalg.triangular_solve(jacobian, error[..., None], lower=False)
            u -= step[..., 0]
        return u


def _substitute(target, r, r_inner, b, gap, columns, activation):
    """Back substitution: solves for one coordinate at a time, the last one first."""
    diagonal, inner = tf.linalg.diag_part(r), tf.linalg.diag_part(r_inner)
    off = r - tf.linalg.diag(diagonal)
    off_inner = r_inner - tf.linalg.diag(inner)
    positions = tf.range(columns)

    def body(i, u, h):
        m = columns - 1 - i
        rest = _at(target, m) - _row(off, m, h)
        offset = _at(b, m) + _row(off_inner, m, u)
        a = activation.root(_at(gap, m), _at(inner, m) * rest + offset)
        found = activation(a)[0]
        # Not `==`, which compares objects in a graph of TensorFlow 1.
        here = tf.equal(positions, m)
        u = tf.where(here, (rest - _at(diagonal, m) * found)[..., None], u)
        return i + 1, u, tf.where(here, found[..., None], h)

    zeros = tf.zeros_like(target)
    return tf.while_loop(
        lambda i, *_: i < columns,
        body,
        (0, zeros, zeros),
        maximum_iterations=columns,
    )[1]


def _at(x, m):
    return tf.gather(x, m, axis=-1)


def _row(matrix, m, x):
    return tf.reduce_sum(tf.gather(matrix, m, axis=-2) * x, -1)


def _eye(columns, like):
    return tf.eye(columns, dtype=like.dtype)


def _apply(matrix, x):
    """`matrix` times `x`: one matrix for the whole batch, or one for each example."""
    if matrix.shape.rank == 2:
        return tf.tensordot(x, matrix, [[-1], [1]])
    return tf.linalg.matvec(matrix, x)


def _expand(basis, x):
    return x if basis is None else _apply(basis, x)


def _project(basis, x):
    return x if basis is None else _apply(tf.linalg.matrix_transpose(basis), x)


def _orthogonalize(raw):
    """The nearest matrix with orthonormal columns, and whether iterations converged."""
    eye = _eye(raw.shape[-1], raw)

    def step(q, _):
        error = eye - tf.matmul(q, q, transpose_a=True)
        return q + 0.5 * tf.matmul(q, error), tf.reduce_max(tf.abs(error), [-2, -1])

    gram = tf.matmul(raw, raw, transpose_a=True)
    # The largest absolute row sum bounds the largest eigenvalue.
    bound = tf.reduce_max(tf.reduce_sum(tf.abs(gram), -1), -1)
    numbers = np.finfo(raw.dtype.name)
    limit = float(np.sqrt(numbers.eps))
    start = raw * tf.math.rsqrt(tf.maximum(bound, float(numbers.tiny)))[..., None, None]
    q, error = tf.while_loop(
        lambda _, error: tf.reduce_any(error > limit),
        step,
        (start, bound + 1.0),
        maximum_iterations=_ITERATIONS,
    )
    # Convergence is quadratic: three more steps make value and derivatives exact.
    for _ in range(3):
        q, error = step(q, error)
    return q, error < limit


def _reflect(vectors, columns):
    """The first columns of the product of the reflections along `vectors`."""
    count, size = vectors.shape[-2:]
    tiny = float(np.finfo(vectors.dtype.name).tiny)
    q = tf.eye(size, columns, dtype=vectors.dtype)
    for i in reversed(range(count)):
        v = vectors[..., i, :, None]
        square = tf.maximum(tf.reduce_sum(tf.square(v), [-2, -1], keepdims=True), tiny)
        q -= 2.0 * v * (tf.reduce_sum(v * q, -2, keepdims=True) / square)
    return q


def _shape_of_basis(size, columns, parametrization, reflections):
    """Shape of the raw basis, and the number of columns; errors for bad arguments."""
    check_choice("parametrization", parametrization, _BASES)
    columns = check_integer("columns", size if columns is None else columns, -math.inf)
    if not 1 <= columns <= size:
        raise ValueError(
            f"columns must be between 1 and the size of an event, {size}; got "
            f"{columns}."
        )
    if parametrization == "triangular" and columns != size:
        raise ValueError(
            'parametrization="triangular" needs columns equal to the size of an event, '
            f"{size}; got {columns}."
        )
    if reflections is not None and parametrization != "householder":
        raise ValueError(
            'reflections is for parametrization="householder", got '
            f'"{parametrization}".'
        )
    if parametrization == "householder":
        if reflections is None:
            reflections = columns
        return (check_integer("reflections", reflections), size), columns
    return ((size, columns) if parametrization == "orthogonal" else ()), columns
