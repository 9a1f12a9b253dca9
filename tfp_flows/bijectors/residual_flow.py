"""Contractive residual flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_flows.core.arguments import (
    check_integer,
    check_number,
    check_shape,
)
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.fixed_point import FixedPoint, fixed_point, iterate
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.log_det_estimates import (
    choose_log_det,
    estimated_log_det,
    exact_log_det,
    jacobian_by_copies,
    linearize_by_tape,
    mean_and_standard_error,
    random_signs,
    roulette_weights,
)
from tfp_flows.core.recompute import recomputing
from tfp_flows.core.seeds import ALGORITHM, new_seed, stateless_seed
from tfp_flows.core.shapes import reshape_event

__all__ = ["ResidualFlow"]

_random = tf.random.experimental


class ResidualFlow(JointBijector):
    r"""Adds a contractive function of an event to the event.

    $$ y = x + g(x), \qquad \mathrm{Lip}(g) \le c < 1, \qquad
       \log|\det \partial y / \partial x| = \log\det(I + J_g(x))
       = \sum_{k=1}^{\infty} \frac{(-1)^{k+1}}{k} \mathrm{tr}\, J_g(x)^k $$

    (Behrmann et al. 2019, equations 1 and 4; Chen et al. 2019, equation 4). The inverse
    is the fixed point of $x = y - g(x)$, found by iteration (Behrmann et al. 2019,
    algorithm 1). Its gradient comes from the implicit function theorem and needs no
    iterates. `forward` is the cheap direction. Training goes from data to noise, so
    ready flows use `tfb.Invert(ResidualFlow(...))`.

    **Log-determinant.**

    * `"exact"`: from the Jacobian, whose $D$ rows cost as much as $D$ evaluations. The
      symmetric part of $I + J_g$ is positive definite, so two Cholesky decompositions
      give the determinant.
    * `"series"`: the first terms of the series, with Hutchinson's estimate of each
      trace, $\mathrm{tr}\, J^k = E[v^\top J^k v]$ with independent signs $v$. The terms
      left out are a bias of at most $D \sum_{k > n} c^k / k$ nats.
    * `"roulette"`: the same without bias. After the first terms, each further term is
      computed with probability 1/2 if the one before was, and weighted by the inverse
      of its probability (Chen et al. 2019, equation 6). The gradient is the Neumann
      series of their equation 8. For it, two vectors are kept for each example, and
      none of the network's activations: the gradient runs the network once more.
    * `"auto"`: `"exact"` up to 16 dimensions, otherwise `"roulette"`.

    **Random numbers.** With `training=True`, each call draws new signs for each
    example. With `seed=...` (an integer or a stateless seed `[2]`) the signs depend on
    the seed only. Without both, the estimate is a deterministic and differentiable
    function of `x`, as TFP expects: it uses `evaluation_terms` terms of the series and
    one set of signs for all examples. Its error is then correlated between examples.
    `log_det_and_standard_error` draws new signs and estimates the error, and
    `copy(log_det="exact")` has none.

    **Networks.** `LipschitzMLP` and `LipschitzConvNet` are contractions whatever their
    weights are. If a network has their methods `bounded_weights` and `evaluate`, its
    weights are computed once in each pass; if it has `linearize` or `jacobian`, these
    give its derivatives. Any other callable `(x[, context])` is not checked: if it is
    not a contraction, the inverse does not converge.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, networks
      >>> network = networks.LipschitzMLP(outputs=2, hidden_units=(16,), seed=0)
      >>> block = bijectors.ResidualFlow(network, event_shape=(2,))
      >>> x = tf.constant([[1.0, -2.0]])
      >>> y, log_det = block.forward_and_log_det(x)
      >>> bool(tf.reduce_all(tf.abs(block.inverse(y) - x) < 1e-4))
      True

    Args:
      network: $g$, a callable `(x[, context])` whose output has the shape of `x`, with
        a Lipschitz constant in `x` below 1.
      event_shape: shape of the event.
      log_det: `"auto"`, `"exact"`, `"series"` or `"roulette"`.
      terms: terms of the series in training; of the roulette, those that are always
        computed. 10 and 2 by default.
      probes: number of sign vectors $v$ for each example.
      evaluation_terms: the number of terms when not training.
      tolerance: the iteration of the inverse stops at this change, relative to one plus
        the largest entry: $\max_i |x_i' - x_i| / (1 + \max_i |x_i'|)$. 1e-5 in float32
        and 1e-12 in float64 by default.
      max_iterations: the largest number of iterations of the inverse. If it has not
        converged then, eager mode raises an `ArithmeticError`, and the result is NaN
        inside a `tf.function`.
      context_shape: shape of one context, or `None` for no context.
      seed: integer seed of the signs in evaluation. The seed of a call is combined with
        it, so blocks of one flow should have different ones. It is kept in a variable.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: on another `log_det`, on `terms`, `probes`, `evaluation_terms` or
        `max_iterations` below 1, a `tolerance` that is not positive, an exact
        log-determinant of more than 1024 dimensions, or if the network changes the
        shape.
      TypeError: if one of these is not a number, or not an integer.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        if self.log_det == "roulette":
            return "behrmann2019invertible", "chen2019residual"
        return ("behrmann2019invertible",)

    _fast_paths = frozenset({"untaped"})
    _free_arguments = frozenset(
        {
            "network",
            "log_det",
            "terms",
            "probes",
            "evaluation_terms",
            "tolerance",
            "max_iterations",
        }
    )

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
        seed: int | None = 0,
        dtype: Any = tf.float32,
        name: str = "residual_flow",
    ):
        parameters = dict(locals())
        event_shape = check_shape("event_shape", event_shape)
        size = math.prod(event_shape)
        log_det = choose_log_det(log_det, size, ("series", "roulette"))
        if terms is None:
            terms = 2 if log_det == "roulette" else 10
        if tolerance is not None:
            tolerance = check_number("tolerance", tolerance, above=0)
        dtype = tf.as_dtype(dtype)
        self._log_det = log_det
        self._terms = check_integer("terms", terms)
        self._probes = check_integer("probes", probes)
        self._evaluation_terms = check_integer("evaluation_terms", evaluation_terms)
        self._max_iterations = check_integer("max_iterations", max_iterations)
        self._tolerance = tolerance
        # A variable, since it differs from block to block and is saved with weights.
        seed = tf.constant(new_seed(seed) % 2**31, tf.int32)
        self._seed = self._add_variable("seed", seed, trainable=False)
        self._conditioner = Conditioner(
            network, event_shape, event_shape, context_shape, dtype, " (that of x)"
        )
        self._conditioner.warn_of_moments(name)
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
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
        """Those of every bijector, and `seed`, for estimates of the log-determinant."""
        return super().keywords | {"seed"}

    def invert(self, y: Any, context: Any = None) -> FixedPoint:
        """Computes the inverse and reports on the iterations.

        Args:
          y: tensor `[*batch, *event_shape]`.
          context: as for `inverse`.

        Returns:
          A `FixedPoint`: `value`, `[*batch, *event_shape]`, and `iterations`,
          `residual` and `converged`, of shape `batch`. It has no gradient, and entries
          that did not converge raise no error.
        """
        keywords = {} if context is None else {"context": context}
        y, keywords = self._joint_check(y, False, keywords)
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

    def log_det_and_standard_error(
        self, x: Any, draws: int = 16, seed: Any = 0, **keywords: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Estimates the forward log-determinant, and the standard error of that.

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
        """Flattens the batch; also returns a function that restores its shape."""
        ndims = len(self._input_event_shape)
        batch_rank = x.shape.rank - ndims
        if batch_rank == 1:
            return x, context, lambda part: part
        # -1 would be ambiguous for an empty batch.
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

        Fixed points and estimates give gradients only to tensors that are arguments.
        """
        contexts = [] if context is None else [context]
        network = self._conditioner.keras_layer
        if not hasattr(network, "bounded_weights"):
            g = self._conditioner
            linearize = linearize_by_tape(g)
            jacobian = jacobian_by_copies(linearize, len(contexts))
            return _Network(g, linearize, jacobian, [], contexts)
        if training and recomputing():
            weights = network.bounded_weights(repeat=True)
        else:
            weights = network.bounded_weights(bool(training))
        # Tensors instead of variables: a shared trace (`core/repeat.py`) cannot be used
        # if a custom gradient reads variables.
        flat = [tf.identity(tf.cast(w, self.dtype)) for w in tf.nest.flatten(weights)]

        def of_tensors(method):
            def g(x, *tensors):
                structured = tf.nest.pack_sequence_as(weights, tensors[: len(flat)])
                return method(structured, x, *tensors[len(flat) :])

            return g

        g = of_tensors(network.evaluate)
        if _fits_evaluate(network, "linearize"):
            linearize = of_tensors(network.linearize)
        else:
            linearize = linearize_by_tape(g)
        if _fits_evaluate(network, "jacobian"):
            jacobian = of_tensors(network.jacobian)
        else:
            jacobian = jacobian_by_copies(linearize, len(contexts))
        return _Network(g, linearize, jacobian, flat, contexts)

    def _value_and_log_det(self, network, x, training, seed):
        if self._log_det == "exact":
            tensors = (*network.weights, *network.contexts)
            return exact_log_det(network.jacobian, x, *tensors)
        own = tf.convert_to_tensor(self._seed)
        shape = tf.concat([[self._probes], tf.shape(x)], 0)
        unbiased = False
        if seed is None and not training:
            # The same signs for all examples.
            one = [self._probes, 1, *self._input_event_shape]
            signs = random_signs(one, tf.stack([own, 0]), x.dtype)
            signs = tf.broadcast_to(signs, shape)
            weights = tf.ones([self._evaluation_terms], x.dtype)
        else:
            seed = _random.stateless_fold_in(stateless_seed(seed), own, ALGORITHM)
            seeds = tf.unstack(_random.stateless_split(seed, 2, ALGORITHM))
            signs = random_signs(shape, seeds[0], x.dtype)
            terms = self._terms if training else self._evaluation_terms
            weights = tf.ones([terms], x.dtype)
            unbiased = self._log_det == "roulette"
            if unbiased:
                weights = tf.concat([weights, roulette_weights(seeds[1], x.dtype)], 0)
        return estimated_log_det(
            network.linearize,
            network.weights,
            network.contexts,
            x,
            signs,
            weights,
            unbiased,
        )


class _Network(NamedTuple):
    r"""A network as a function of tensors alone.

    Attributes:
      value: $g$, called with `x`, `*weights` and `*contexts`.
      linearize: called with the same; returns $g$ and the function $u \mapsto J_g^\top
        u$.
      jacobian: called with the same; returns $g$ and $J_g$.
      weights: the weights, as tensors.
      contexts: a list of one context, or an empty one.
    """

    value: Callable
    linearize: Callable
    jacobian: Callable
    weights: list[tf.Tensor]
    contexts: list[tf.Tensor]


def _fits_evaluate(network, derivative):
    """Whether a method fits `evaluate`: no subclass overrides only the latter."""

    def definer(name):
        return next((c for c in type(network).__mro__ if name in vars(c)), None)

    found = definer(derivative)
    return found is not None and issubclass(found, definer("evaluate"))
