r"""Estimates of $\log\det(I + J)$ for a contraction's Jacobian $J$.

A network $g$ is given as a function `linearize(x, *tensors)`, which returns $g(x)$ and
the function $u \mapsto J^\top u$; the tensors are the network's weights and contexts.
For exact log-determinants it is a function `jacobian(x, *tensors)`, which returns
$g(x)$ and all of $J$, `[batch, size, size]`. Only tensors that are arguments get
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_choice
from tfp_flows.core.fixed_point import gradients_of_arguments
from tfp_flows.core.seeds import ALGORITHM, stateless_seed
from tfp_flows.core.tf_internals import recording

__all__ = [
    "choose_log_det",
    "estimated_log_det",
    "exact_log_det",
    "jacobian_by_copies",
    "linearize_by_tape",
    "mean_and_standard_error",
    "random_signs",
    "roulette_weights",
]

# Dimensions up to which a log-determinant is exact by itself, and at all.
_LARGEST_AUTO, _LARGEST_EXACT = 16, 1024
# The probability of a further term in the roulette. More than `_MOST_TERMS` occur with
# probability 2^-60.
_GOES_ON, _MOST_TERMS = 0.5, 60
_random = tf.random.experimental


def choose_log_det(log_det: str, size: int, estimates: Sequence[str]) -> str:
    """Chooses `log_det` for an event of a size: exact, or one of the estimates.

    Args:
      log_det: `"auto"`, `"exact"` or one of `estimates`. "auto" is exact for few
        dimensions, and the last of them for more.
      size: number of entries of the event.
      estimates: names of the estimates.

    Raises:
      ValueError: on another name, or if the exact one would take too much.
    """
    check_choice("log_det", log_det, ("auto", "exact", *estimates))
    if log_det == "auto":
        return "exact" if size <= _LARGEST_AUTO else estimates[-1]
    if log_det == "exact" and size > _LARGEST_EXACT:
        raise ValueError(
            f'log_det="exact" takes {size} evaluations of the network for an event '
            f"of {size} entries; at most {_LARGEST_EXACT} are allowed. Use "
            + " or ".join(f'"{name}"' for name in estimates)
            + "."
        )
    return log_det


def linearize_by_tape(g: Callable) -> Callable:
    """Makes the `linearize` of any `g(x, *tensors)` by automatic differentiation."""

    def linearize(x, *tensors):
        with recording(), tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            out = g(x, *tensors)
        zero = tf.UnconnectedGradients.ZERO
        return out, lambda u: tape.gradient(out, x, u, unconnected_gradients=zero)

    return linearize


def mean_and_standard_error(
    estimate: Callable, draws: int, seed: Any, dtype: tf.DType, exact: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean of independent estimates, and its standard error.

    Args:
      estimate: a function from a stateless seed `[2]` to a tensor.
      draws: number of estimates, at least 2.
      seed: an integer or a stateless seed `[2]`.
      dtype: dtype of an estimate.
      exact: whether the result does not depend on the seed, so that one call is enough.

    Returns:
      `(mean, standard_error)`, each of the shape of an estimate.

    Raises:
      ValueError: if `draws` is below 2.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2, got {draws}.")
    seed = stateless_seed(seed)
    if exact:
        value = estimate(seed)
        return value, tf.zeros_like(value)
    seeds = _random.stateless_split(seed, draws, ALGORITHM)
    values = tf.map_fn(estimate, seeds, fn_output_signature=dtype)
    mean, variance = tf.nn.moments(values, [0])
    return mean, tf.sqrt(variance / (draws - 1))


def _copies(x, count):
    """`x [batch, ...]` `count` times, one batch after the other."""
    copies = tf.tile(x, [count] + [1] * (x.shape.rank - 1))
    return tf.ensure_shape(copies, [None, *x.shape[1:]])


def jacobian_by_copies(linearize: Callable, contexts: int = 0) -> Callable:
    """Makes the `jacobian` of any network of its `linearize`.

    One backward pass gives all rows, with a copy of the batch for each row.

    Args:
      linearize: the network, see above, from `size` entries to as many.
      contexts: how many of its tensors, the last ones, are contexts `[batch, ...]`.
    """

    def jacobian(x, *tensors):
        size, count = x.shape[1:].num_elements(), tf.shape(x)[0]
        weights = tensors[: len(tensors) - contexts]
        copies = [_copies(part, size) for part in (x, *tensors[len(weights) :])]
        out, pull_back = linearize(copies[0], *weights, *copies[1:])
        rows = tf.repeat(tf.eye(size, dtype=x.dtype), count, axis=0)
        rows = pull_back(tf.reshape(rows, tf.shape(out)))
        rows = tf.reshape(rows, tf.stack([size, count, size]))
        return out[:count], tf.transpose(rows, [1, 0, 2])

    return jacobian


def exact_log_det(
    jacobian: Callable, x: tf.Tensor, *tensors: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""$g(x)$ and $\log\det(I + J_g)$, by Cholesky decompositions.

    Args:
      jacobian: the network, see above.
      x: `[batch, ...]`, of a static event shape.
      *tensors: the weights and contexts that `jacobian` takes after it.

    Returns:
      `(g(x), log_det)`, of the shape of `x` and `[batch]`; nats.
    """
    out, rows = jacobian(x, *tensors)
    return out, _log_det_of_one_plus(rows)


def _log_det_of_one_plus(jacobian):
    r"""$\log\det(I + J)$ for $|J| < 1$; NaN where $I + J$ is not positive definite.

    With the symmetric part $LL^\top$ of $I + J$ and its skew part $S$, and with $K =
    L^{-1} S L^{-\top}$, it is $\log\det LL^\top + \log\det(I + K)$, where
    $\det(I + K)^2 = \det(I + K) \det(I - K) = \det(I + K K^\top)$ since $K$ is skew.
    Cholesky decompositions work wherever XLA does; LU decompositions do not.
    """
    identity = tf.eye(jacobian.shape[-1], dtype=jacobian.dtype)
    transposed = tf.linalg.matrix_transpose(jacobian)
    lower = tf.linalg.cholesky(identity + (jacobian + transposed) / 2)
    solve = tf.linalg.triangular_solve
    half = solve(lower, (jacobian - transposed) / 2)
    skew = solve(lower, tf.linalg.matrix_transpose(half))
    second = tf.linalg.cholesky(identity + tf.matmul(skew, skew, transpose_b=True))

    def sum_log_diagonal(factor):
        return tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), -1)

    return 2.0 * sum_log_diagonal(lower) + sum_log_diagonal(second)


def estimated_log_det(
    linearize: Callable,
    weights: Sequence[tf.Tensor],
    contexts: Sequence[tf.Tensor],
    x: tf.Tensor,
    signs: tf.Tensor,
    term_weights: tf.Tensor,
    unbiased: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""$g(x)$ and an estimate of $\log\det(I + J_g)$ by its power series.

    Args:
      linearize: the network, see above.
      weights: tensors that `linearize` takes after `x`.
      contexts: tensors `[batch, ...]` that it takes after these.
      x: `[batch, ...]`.
      signs: Hutchinson's vectors $v$, `[probes, batch, ...]`.
      term_weights: weights of the terms, a vector of static size. The sum ends at the
        first zero.
      unbiased: whether the gradient is the Neumann series of Chen et al. 2019 instead
        of the derivative of the number returned. With the weights of the roulette, it
        is an unbiased estimate.

    Returns:
      `(g(x), log_det)`, of the shape of `x` and `[batch]`: the mean over probes, nats.
    """
    estimate = _neumann_estimate if unbiased else _series_estimate
    probes, count = signs.shape[0], tf.shape(x)[0]
    copies = x
    if probes > 1:
        copies, *contexts = (_copies(part, probes) for part in (x, *contexts))
    v = tf.reshape(signs, tf.shape(copies))
    out, log_det = estimate(linearize, copies, v, term_weights, (*weights, *contexts))
    log_det = tf.reshape(log_det, tf.stack([probes, count]))
    return out[:count], tf.reduce_mean(log_det, 0)


def random_signs(shape: Any, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Draws independent numbers, each -1 or 1, from a stateless seed `[2]`."""
    bits = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32, alg=ALGORITHM)
    return tf.cast(2 * bits - 1, dtype)


def roulette_weights(seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Draws the weights of the roulette's terms, which follow the fixed ones.

    Zeros stand for the terms that are not computed.
    """
    uniform = tf.random.stateless_uniform([], seed, dtype=tf.float64, alg=ALGORITHM)
    # 1 - uniform is above zero.
    more = tf.floor(tf.math.log(1.0 - uniform) / math.log(_GOES_ON))
    number = np.arange(1.0, _MOST_TERMS + 1)
    weights = tf.where(number <= more, _GOES_ON**-number, 0.0)
    return tf.cast(weights, dtype)


def _series(linearize, x, v, weights, tensors, unroll=False):
    r"""The series of one $v$ for each example, and the Neumann series of its gradient.

    With $u_k = (J^\top)^k v$ and weights $a_1, a_2, \dots$ up to the first zero,

    $$ \sum_{k \ge 1} \frac{(-1)^{k+1} a_k}{k} u_k^\top v, \qquad
       w = \sum_{k \ge 0} (-1)^k a_{k+1} u_k. $$

    Args:
      linearize: the network, see above.
      x: `[batch, ...]`.
      v: of the shape of `x`.
      weights: $a$, a vector of static size.
      tensors: further arguments of `linearize`.
      unroll: whether to write all terms out instead of computing them in a loop.

    Returns:
      $g(x)$ of the shape of `x`, the first sum `[batch]`, and the second sum of the
      shape of `x`.
    """
    axes = list(range(1, x.shape.rank))
    count = weights.shape[0]
    signed = weights * np.resize([1.0, -1.0], count)
    out, pull_back = linearize(x, *tensors)

    def body(k, u, total, neumann):
        weight = signed[k]
        neumann += weight * u
        u = pull_back(u)
        total += weight / tf.cast(k + 1, u.dtype) * tf.reduce_sum(u * v, axes)
        return k + 1, u, total, neumann

    state = (0, v, tf.zeros(tf.shape(x)[:1], x.dtype), tf.zeros_like(x))
    if unroll:
        for _ in range(count):
            state = body(*state)
    else:
        state = tf.while_loop(
            lambda k, *_: (k < count) & (weights[tf.minimum(k, count - 1)] > 0),
            body,
            state,
            maximum_iterations=count,
        )
    return out, *state[2:]


def _series_estimate(linearize, x, v, weights, tensors):
    """$g(x)$ and the first sum of `_series`, with their exact derivatives.

    The gradient writes the terms out: XLA cannot differentiate a loop twice.
    """

    @tf.custom_gradient
    def estimate(x, *tensors):
        constants = [tf.stop_gradient(t) for t in tensors]
        x_constant = tf.stop_gradient(x)
        out, total, _ = _series(linearize, x_constant, v, weights, constants)

        def gradient(d_out, d_total, variables=None):
            def unrolled(x, *tensors):
                return _series(linearize, x, v, weights, tensors, unroll=True)[:2]

            return gradients_of_arguments(
                unrolled, (x, *tensors), [d_out, d_total], variables
            )

        return (out, total), gradient

    return estimate(x, *tensors)


def _neumann_estimate(linearize, x, v, weights, tensors):
    """$g(x)$ and the first sum of `_series`, with a gradient made from the second sum.

    The gradient is an unbiased estimate, not the derivative of the number returned.
    """

    @tf.custom_gradient
    def estimate(x, *tensors):
        constants = [tf.stop_gradient(t) for t in tensors]
        x_constant = tf.stop_gradient(x)
        out, total, neumann = _series(linearize, x_constant, v, weights, constants)

        def gradient(d_out, d_total, variables=None):
            w = _attached(linearize, neumann, x, v, weights, tensors)
            scale = tf.reshape(d_total, [-1] + [1] * (x.shape.rank - 1))

            def surrogate(x, *tensors):
                out, pull_back = linearize(x, *tensors)
                return out, pull_back(w)

            return gradients_of_arguments(
                surrogate, (x, *tensors), [d_out, scale * v], variables
            )

        return (out, total), gradient

    return estimate(x, *tensors)


def _attached(linearize, neumann, x, v, weights, tensors):
    """Makes `neumann` a function of `x` and `tensors`, for second derivatives."""

    @tf.custom_gradient
    def attach(x, *tensors):
        def gradient(upstream, variables=None):
            return gradients_of_arguments(
                lambda x, *tensors: _series(linearize, x, v, weights, tensors)[2],
                (x, *tensors),
                upstream,
                variables,
            )

        return tf.identity(neumann), gradient

    return attach(x, *tensors)
