"""Contractive residual flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.fixed_point import (
    FixedPoint,
    fixed_point,
    gradients_of_arguments,
    iterate,
)
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.own_constant import OwnConstant
from tfp_flows.core.recompute import recomputing
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.tf_internals import recording

__all__ = ["ResidualFlow"]

_LARGEST_AUTO, _LARGEST_EXACT = 16, 1024
# The chance that the roulette goes on after a term. More terms than can follow at this
# chance have never been seen.
_GOES_ON, _MOST_TERMS = 0.5, 60
# TensorFlow's default algorithm is another one under XLA.
_ALG = "philox"
_random = tf.random.experimental


class ResidualFlow(JointBijector):
    r"""Adds a contraction of itself to an event.

    $$ y = x + g(x), \qquad \mathrm{Lip}(g) \le c < 1, \qquad
       \log|\det \partial y / \partial x| = \log\det(I + J_g(x))
       = \sum_{k=1}^{\infty} \frac{(-1)^{k+1}}{k} \mathrm{tr}\, J_g(x)^k $$

    (Behrmann et al. 2019, equations 1 and 4; Chen et al. 2019, equation 4). The inverse
    is the fixed point of $x = y - g(x)$, found by iteration (Behrmann et al. 2019,
    algorithm 1); its gradient is that of the implicit function, for which no iterate is
    kept. `forward` is the explicit direction. As one goes from data to noise when
    training, a ready flow uses it as `tfb.Invert(ResidualFlow(...))`.

    **Log-determinant.**

    * `"exact"`: by automatic differentiation, at the cost of $D$ evaluations. The
      symmetric part of $I + J_g$ is positive definite, which two Cholesky
      decompositions make use of.
    * `"series"`: the first terms of the series, with Hutchinson's estimate of each
      trace, $\mathrm{tr}\, J^k = E[v^\top J^k v]$ with independent signs $v$. Biased by
      the terms left out: by at most $D \sum_{k > n} c^k / k$ nats.
    * `"roulette"`: the same without bias. After the first terms, each further one is
      computed with probability 1/2 if the one before was, and weighted by the inverse
      of its probability (Chen et al. 2019, equation 6). The gradient is that of their
      equation 8, a Neumann series: it keeps two vectors for each example, and none of
      the network's activations, until it is asked for; then it runs the network once
      more, so that any weight of the examples is right.
    * `"auto"`: `"exact"` up to 16 dimensions, then `"roulette"`.

    **Random numbers.** With `training=True`, an estimate draws new signs for each
    example at every call; with `seed=...` too (an integer or a stateless seed `[2]`),
    the same for the same seed. Without either it is a deterministic and differentiable
    function of `x` alone, as everything in TFP expects: `evaluation_terms` of the
    series with one set of signs for all examples. That is off by an error that all
    examples share in part; `log_det_and_standard_error` draws new signs and says how
    far off they may be, and `copy(log_det="exact")` has no such error.

    **Networks.** `LipschitzMLP` and `LipschitzConvNet` are contractions whatever their
    weights are. A network with their methods `bounded_weights` and `evaluate` is asked
    for its weights once in each pass, and one with `linearize` for its Jacobian. Any
    other callable `(x[, context])` is taken at its word; if it does not contract, the
    inverse will not converge.

    Args:
      network: $g$, a callable `(x[, context])` whose output has the shape of `x`, with
        a Lipschitz constant in `x` below 1.
      event_shape: shape of the event.
      log_det: `"auto"`, `"exact"`, `"series"` or `"roulette"`.
      terms: terms of the series in training; of the roulette, those that are always
        computed. 10 and 2 by default.
      probes: number of sign vectors $v$ for each example.
      evaluation_terms: as `terms`, when not training.
      tolerance: residual at which the inverse is found, relative to one plus the
        largest entry: $\max_i |x_i' - x_i| / (1 + \max_i |x_i'|)$. 1e-5 in float32 and
        1e-12 in float64 by default.
      max_iterations: iterations after which the inverse is given up: an
        `ArithmeticError` in eager mode, NaN inside a compiled function.
      context_shape: shape of one context, or `None` for no context.
      seed: integer seed of the evaluation's signs, and what a call's seed is combined
        with: blocks of one flow should have different ones.
      dtype: dtype of values, float32 by default.
      validate_args: kept for TFP.
      name: name of the bijector.

    Raises:
      ValueError: on another `log_det`, on `terms`, `probes`, `evaluation_terms` or
        `max_iterations` below 1, a `tolerance` that is not positive, an exact
        log-determinant of more than 1024 dimensions, or if the network changes the
        shape.
    """

    _has_training_mode = True
    has_direct_inverse = False
    _estimation_arguments = frozenset(
        {
            "evaluation_terms",
            "log_det",
            "max_iterations",
            "probes",
            "terms",
            "tolerance",
        }
    )

    def __init__(
        self,
        network: Callable,
        event_shape: Sequence[int],
        log_det: str = "auto",
        terms: int | None = None,
        probes: int = 1,
        evaluation_terms: int = 20,
        tolerance: float | None = None,
        max_iterations: int = 1000,
        context_shape: Sequence[int] | None = None,
        seed: int = 0,
        dtype: Any = tf.float32,
        validate_args: bool = False,
        name: str = "residual_flow",
    ):
        parameters = dict(locals())
        event_shape = tuple(map(int, event_shape))
        size = math.prod(event_shape)
        if log_det not in ("auto", "exact", "series", "roulette"):
            raise ValueError(
                'log_det must be "auto", "exact", "series" or "roulette", got '
                f"{log_det!r}."
            )
        if log_det == "auto":
            log_det = "exact" if size <= _LARGEST_AUTO else "roulette"
        if log_det == "exact" and size > _LARGEST_EXACT:
            raise ValueError(
                f'log_det="exact" takes {size} evaluations of the network for an event '
                f"of {size} entries; at most {_LARGEST_EXACT} are allowed. Use "
                '"series" or "roulette".'
            )
        if terms is None:
            terms = 2 if log_det == "roulette" else 10
        for argument, value in (
            ("terms", terms),
            ("probes", probes),
            ("evaluation_terms", evaluation_terms),
            ("max_iterations", max_iterations),
        ):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}.")
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {tolerance}.")
        dtype = tf.as_dtype(dtype)
        self._log_det = log_det
        self._terms, self._probes = int(terms), int(probes)
        self._evaluation_terms = int(evaluation_terms)
        self._tolerance, self._max_iterations = tolerance, int(max_iterations)
        self._size = size
        self._seed = OwnConstant(np.int32(seed & 0x7FFFFFFF))
        signs = np.random.default_rng(seed).choice(
            [-1.0, 1.0], (self._probes, 1, *event_shape)
        )
        self._signs = OwnConstant(signs.astype(dtype.as_numpy_dtype))
        self._conditioner = Conditioner(
            network, event_shape, event_shape, context_shape, dtype, " (that of x)"
        )
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @property
    def network(self) -> Callable:
        """The network as it was given."""
        return self.parameters["network"]

    @property
    def log_det(self) -> str:
        """`"exact"`, `"series"` or `"roulette"`."""
        return self._log_det

    @property
    def keywords(self) -> frozenset[str]:
        return super().keywords | {"seed"}

    def invert(self, y, context=None) -> FixedPoint:
        """The inverse, and how it was found.

        Args:
          y: tensor `[*batch, *event_shape]`.
          context: as for `inverse`.

        Returns:
          A `FixedPoint`: `value`, `[*batch, *event_shape]`, and `iterations`,
          `residual` and `converged`, of shape `batch`. Without a gradient; an entry
          that did not converge is no error here.
        """
        keywords = {} if context is None else {"context": context}
        y, keywords = self._check(y, False, keywords)
        flat, context, restore = self._one_batch(y, keywords.get("context"))
        flat = tf.stop_gradient(flat)
        network = self._functional(context, False)
        found = iterate(
            lambda z: flat - network.value(z, *network.weights, *network.contexts),
            flat,
            self._tolerance,
            self._max_iterations,
        )
        return FixedPoint(*(restore(part) for part in found))

    def log_det_and_standard_error(self, x, draws: int = 16, seed: Any = 0, **keywords):
        """An estimate of the forward log-determinant, and how far off it may be.

        Args:
          x: tensor `[*batch, *event_shape]`.
          draws: number of independent estimates to average, at least 2.
          seed: an integer or a stateless seed `[2]`.
          **keywords: as for `forward`.

        Returns:
          `(fldj, standard_error)`, each of shape `batch`, in nats; the standard error
          of an exact log-determinant is zero.

        Raises:
          ValueError: if `draws` is below 2.
        """
        return mean_and_standard_error(
            lambda seed: self.forward_and_log_det(x, seed=seed, **keywords)[1],
            draws,
            seed,
            self.dtype,
            self._log_det == "exact",
        )

    def _forward_and_log_det(self, x, context=None, training=False, seed=None):
        flat, context, restore = self._one_batch(x, context)
        network = self._functional(context, training)
        added, log_det = self._value_and_log_det(network, flat, training, seed)
        return x + restore(added), restore(log_det)

    def _inverse_and_log_det(self, y, context=None, training=False, seed=None):
        flat, context, restore = self._one_batch(y, context)
        network = self._functional(context, training)
        x = fixed_point(
            lambda z, y, *tensors: y - network.value(z, *tensors),
            flat,
            (flat, *network.weights, *network.contexts),
            self._tolerance,
            self._max_iterations,
            name=f"{self.name}: the inverse",
        )
        _, log_det = self._value_and_log_det(network, x, training, seed)
        return restore(x), -restore(log_det)

    def _one_batch(self, x, context):
        """One batch dimension, and how to restore the others."""
        ndims = len(self._input_event_shape)
        batch_rank = x.shape.rank - ndims
        if batch_rank == 1:
            return x, context, lambda part: part
        # Not -1, which an empty batch leaves open.
        count = tf.reduce_prod(tf.shape(x)[:batch_rank], keepdims=True)
        known = [x.shape[:batch_rank].num_elements()]

        def flatten(part, event):
            flat = tf.reshape(part, tf.concat([count, event], 0))
            flat.set_shape([*known, *event])
            return flat

        def restore(part):
            return reshape_event(part, ndims, part.shape[1:], like=x)

        if context is not None:
            context = flatten(context, self._context_shape)
        return flatten(x, self._input_event_shape), context, restore

    def _functional(self, context, training):
        """The network as a function of tensors alone.

        Gradients of fixed points and of estimates reach a tensor only if it is handed
        over as an argument.
        """
        contexts = [] if context is None else [context]
        network = self._conditioner.keras_layer
        if not hasattr(network, "bounded_weights"):
            g = self._conditioner
            return _Network(g, _by_tape(g), [], contexts)
        if training and recomputing():
            weights = network.bounded_weights(repeat=True)
        else:
            weights = network.bounded_weights(bool(training))
        # Not variables themselves: `repeat` could not tell them from variables that a
        # custom gradient reads.
        flat = [tf.identity(tf.cast(w, self.dtype)) for w in tf.nest.flatten(weights)]

        def of_tensors(method):
            def g(x, *tensors):
                structured = tf.nest.pack_sequence_as(weights, tensors[: len(flat)])
                return method(structured, x, *tensors[len(flat) :])

            return g

        g = of_tensors(network.evaluate)
        knows = _knows_its_derivative(network)
        linearize = of_tensors(network.linearize) if knows else _by_tape(g)
        return _Network(g, linearize, flat, contexts)

    def _value_and_log_det(self, network, x, training, seed):
        linearize, weights, contexts = network[1:]
        if self._log_det == "exact":
            return _exact(linearize, weights, contexts, x, self._size)
        shape = tf.concat([[self._probes], tf.shape(x)], 0)
        neumann = False
        if seed is None and not training:
            v = tf.broadcast_to(self._signs.tensor(), shape)
            of_terms = tf.ones([self._evaluation_terms], x.dtype)
        else:
            own = self._seed.tensor()
            seed = _random.stateless_fold_in(stateless_seed(seed), own, _ALG)
            of_signs, of_length = tf.unstack(_random.stateless_split(seed, 2, _ALG))
            v = _random_signs(shape, of_signs, x.dtype)
            terms = self._terms if training else self._evaluation_terms
            of_terms = tf.ones([terms], x.dtype)
            if self._log_det == "roulette":
                neumann = True
                of_terms = tf.concat([of_terms, _roulette(of_length, x.dtype)], 0)
        estimate = _neumann_estimate if neumann else _plain_estimate
        x_copies, contexts_copies = x, contexts
        if self._probes > 1:
            x_copies, *contexts_copies = (
                _copies(part, self._probes) for part in (x, *contexts)
            )
        v = tf.reshape(v, tf.shape(x_copies))
        tensors = (*weights, *contexts_copies)
        out, log_det = estimate(linearize, x_copies, v, of_terms, tensors)
        count = tf.shape(x)[0]
        log_det = tf.reshape(log_det, tf.stack([self._probes, count]))
        return out[:count], tf.reduce_mean(log_det, 0)


class _Network(NamedTuple):
    r"""A network as a function of tensors alone.

    Attributes:
      value: $g$, called with `x`, `*weights` and `*contexts`.
      linearize: from the same to $g$ and the function $u \mapsto J_g^\top u$.
      weights: tensors.
      contexts: of one context, or none.
    """

    value: Callable
    linearize: Callable
    weights: list[tf.Tensor]
    contexts: list[tf.Tensor]


def _by_tape(g):
    """`linearize` of any function."""

    def linearize(x, *tensors):
        with recording(), tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            out = g(x, *tensors)
        zero = tf.UnconnectedGradients.ZERO
        return out, lambda u: tape.gradient(out, x, u, unconnected_gradients=zero)

    return linearize


def _knows_its_derivative(network):
    """Whether a network's `linearize` is that of its `evaluate`."""

    def definer(name):
        return next((c for c in type(network).__mro__ if name in vars(c)), None)

    of_derivative = definer("linearize")
    return of_derivative is not None and issubclass(of_derivative, definer("evaluate"))


def mean_and_standard_error(
    estimate: Callable, draws: int, seed: Any, dtype: tf.DType, exact: bool
):
    """Mean of independent estimates, and its standard error.

    Args:
      estimate: from a stateless seed `[2]` to a tensor.
      draws: number of estimates, at least 2.
      seed: an integer or a stateless seed `[2]`.
      dtype: dtype of an estimate.
      exact: whether one estimate is as good as many.

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
    seeds = _random.stateless_split(seed, draws, _ALG)
    values = tf.map_fn(estimate, seeds, fn_output_signature=dtype)
    mean, variance = tf.nn.moments(values, [0])
    return mean, tf.sqrt(variance / (draws - 1))


def _copies(x, count):
    """`x [batch, ...]` `count` times, one batch after the other."""
    copies = tf.tile(x, [count] + [1] * (x.shape.rank - 1))
    return tf.ensure_shape(copies, [None, *x.shape[1:]])


def _exact(linearize, weights, contexts, x, size):
    r"""$g(x)$ and $\log\det(I + J_g)$."""
    # A copy of the batch for each row of the Jacobian: one backward pass for all.
    copies, *contexts = (_copies(part, size) for part in (x, *contexts))
    out, pull_back = linearize(copies, *weights, *contexts)
    count = tf.shape(x)[0]
    rows = tf.repeat(tf.eye(size, dtype=x.dtype), count, axis=0)
    jacobian = pull_back(tf.reshape(rows, tf.shape(copies)))
    jacobian = tf.reshape(jacobian, tf.stack([size, count, size]))
    jacobian = tf.transpose(jacobian, [1, 0, 2])
    return out[:count], _log_det_of_one_plus(jacobian)


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


def _random_signs(shape, seed, dtype):
    bits = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32, alg=_ALG)
    return tf.cast(2 * bits - 1, dtype)


def _roulette(seed, dtype):
    """Weights of the terms that come after those always computed; zeros end them."""
    uniform = tf.random.stateless_uniform([], seed, dtype=tf.float64, alg=_ALG)
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
      linearize: of the network.
      x: `[batch, ...]`.
      v: of the shape of `x`.
      weights: $a$, a vector of static size.
      tensors: what `linearize` takes beside `x`.
      unroll: whether to compute all terms one by one, and not in a loop.

    Returns:
      $g(x)$ and the two sums: of the shape of `x`, `[batch]`, of the shape of `x`.
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


def _plain_estimate(linearize, x, v, weights, tensors):
    """The value and the first sum of `_series`, with their own derivatives.

    The loop itself is not differentiated, which XLA cannot do twice.
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
    """The value and the first sum of `_series`, with the gradient of the second.

    An unbiased estimate of the gradient, but not the derivative of this very number.
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
    """The known `neumann` as a function of `x` and `tensors`, for higher orders."""

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
