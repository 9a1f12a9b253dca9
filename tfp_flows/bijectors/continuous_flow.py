"""Continuous flows: an ordinary differential equation from noise to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_shape,
    check_unused,
)
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.log_det_estimates import (
    choose_log_det,
    linearize_by_tape,
    random_signs,
)
from tfp_flows.core.ode import dormand_prince, runge_kutta, runge_kutta_with_adjoint
from tfp_flows.core.recompute import recomputing
from tfp_flows.core.seeds import ALGORITHM, new_seed, stateless_seed

__all__ = ["ContinuousFlow"]

_STEPS = 8
_random = tf.random.experimental


class ContinuousFlow(JointBijector):
    r"""Moves an event along a velocity from time 0, noise, to time 1, data.

    $$ \frac{dx}{dt} = v(x, t), \qquad
       \log\left|\det \frac{\partial x(1)}{\partial x(0)}\right|
       = \int_0^1 \mathrm{tr}\, \frac{\partial v}{\partial x}(x(t), t)\, dt $$

    (Chen et al. 2018, theorem 1; Grathwohl et al. 2019). The velocity is any network:
    nothing about it has to be invertible. `forward` solves the equation
    from 0 to 1, `inverse` from 1 to 0, at the same cost. They are inverses of each
    other, and the log-determinant is that of the map, up to the error of the solver.

    **Solver.** `"rk4"` takes `steps` steps of the classical Runge-Kutta method, four
    evaluations of the network each: twice as many steps make the error 16 times
    smaller. It compiles, and an event's result does not depend on its batch.
    `"dormand_prince"` is the adaptive one of `tfp.math.ode`; the whole batch shares
    its steps.

    **Log-determinant.** `"exact"` takes all $D$ products of a vector with the Jacobian
    of $v$ in one pass, over $D$ copies of the batch. `"hutchinson"` takes `probes`
    random vectors of signs, drawn once for an integration: $\mathrm{tr}\, J = E[u^\top
    J u]$ (Grathwohl et al. 2019, section 3.1). `"auto"` is exact up to 16 dimensions.
    With `training=True`, each call draws new signs for each example; with `seed=...`
    they depend on the seed alone; without both, one set of signs serves all examples,
    and the estimate is a deterministic function.

    **Gradients.** `"autodiff"` is the gradient of the steps as they are computed; it
    keeps the activations of all steps. `"adjoint"` solves another equation back in
    time (Chen et al. 2018, algorithm 1): memory does not grow with the steps, and the
    gradient has the error of the solver.

    **Straight paths.** The weights `kinetic_energy` and `jacobian_norm` add

    $$ \lambda_K \int_0^1 |v|^2\, dt + \lambda_J \int_0^1 \left\| \frac{\partial v}
       {\partial x} \right\|_F^2 dt, $$

    the mean over the batch, to the loss of a `FlowModel` in training (Finlay et al.
    2020; the first term also in Onken et al. 2021). Paths become straight, and few
    steps are enough. `add_loss` of the network takes them, for any Keras model; the
    norm is exact or estimated, as the trace is.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, networks
      >>> network = networks.MLP(2, hidden_units=(16,), activation="tanh", seed=0)
      >>> flow = bijectors.ContinuousFlow(network, event_shape=(2,), steps=4)
      >>> x = tf.constant([[1.0, -2.0]])
      >>> y, log_det = flow.forward_and_log_det(x)
      >>> bool(tf.reduce_all(tf.abs(flow.inverse(y) - x) < 1e-4))
      True

    Args:
      network: $v$, a callable `(x_and_time[, context])`. Its input has one more channel
        than an event, the time: `[batch, D + 1]` for vectors, `[batch, H, W, C + 1]`
        for images. Its output has the shape of an event. It should be smooth. Keras's
        normalisation layers are warned of, see `tfp_flows.networks.LayerNorm`.
      event_shape: shape of the event.
      solver: `"rk4"` or `"dormand_prince"`.
      steps: `"rk4"` only: number of steps (8).
      tolerance: `"dormand_prince"` only: bound on the relative and absolute error of a
        step; 1e-5 in float32 and 1e-9 in float64 by default.
      log_det: `"auto"`, `"exact"` or `"hutchinson"`.
      probes: number of sign vectors for each example.
      gradients: `"autodiff"` or `"adjoint"`. By default the first; `"dormand_prince"`
        has the second only.
      kinetic_energy: $\lambda_K$, 0 or above.
      jacobian_norm: $\lambda_J$, 0 or above.
      context_shape: shape of one context, or `None` for no context.
      seed: integer seed of the signs in evaluation, kept in a variable. The seed of a
        call is combined with it.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: on an option that is not known or not of this solver, a number out of
        range, an exact log-determinant of more than 1024 dimensions, a network that
        returns another shape, or one with weights of a loss that is no Keras layer.
      TypeError: if a number is none.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        found: tuple[str, ...] = "chen2018neural", "grathwohl2019ffjord"
        energy, norm = self._weights
        if energy or norm:
            found += ("finlay2020train",)
        return (*found, "onken2021ot") if energy else found

    _fast_paths = frozenset({"untaped"})
    _estimation_arguments = frozenset(
        {
            "gradients",
            "jacobian_norm",
            "kinetic_energy",
            "log_det",
            "probes",
            "solver",
            "steps",
            "tolerance",
        }
    )
    _free_arguments = _estimation_arguments | {"network"}
    # A solver that goes back does not meet the same numbers.
    has_direct_inverse = False

    def __init__(
        self,
        network: Callable,
        event_shape: Sequence[int],
        solver: str = "rk4",
        steps: int | None = None,
        tolerance: float | None = None,
        log_det: str = "auto",
        probes: int = 1,
        gradients: str | None = None,
        kinetic_energy: float = 0.0,
        jacobian_norm: float = 0.0,
        context_shape: Sequence[int] | None = None,
        seed: int | None = 0,
        dtype: Any = tf.float32,
        name: str = "continuous_flow",
    ):
        parameters = dict(locals())
        event_shape = check_shape("event_shape", event_shape)
        if not event_shape:
            raise ValueError("event_shape must have a dimension, for time to join; ().")
        size = math.prod(event_shape)
        dtype = tf.as_dtype(dtype)
        self._solver = check_choice("solver", solver, ("rk4", "dormand_prince"))
        if solver == "rk4":
            check_unused('for solver="dormand_prince"', tolerance=tolerance)
            choices = ["autodiff", "adjoint"]
            gradients = "autodiff" if gradients is None else gradients
        else:
            check_unused('for solver="rk4"', steps=steps)
            choices = ["adjoint"]
            gradients = "adjoint" if gradients is None else gradients
        self._gradients = check_choice("gradients", gradients, choices)
        self._steps = _STEPS if steps is None else check_integer("steps", steps)
        if tolerance is None:
            tolerance = 1e-9 if dtype == tf.float64 else 1e-5
        self._tolerance = check_number("tolerance", tolerance, above=0.0)
        self._log_det = choose_log_det(log_det, size, ("hutchinson",))
        self._probes = check_integer("probes", probes)
        self._weights = (
            check_number("kinetic_energy", kinetic_energy, at_least=0.0),
            check_number("jacobian_norm", jacobian_norm, at_least=0.0),
        )
        seed = tf.constant(new_seed(seed) % 2**31, tf.int32)
        self._seed = self._add_variable("seed", seed, trainable=False)
        self._conditioner = Conditioner(
            network,
            (*event_shape[:-1], event_shape[-1] + 1),
            event_shape,
            context_shape,
            dtype,
            " (that of an event, whose last axis the time has lengthened)",
        )
        self._conditioner.warn_of_moments(name)
        if any(self._weights) and self._conditioner.keras_layer is None:
            raise ValueError(
                "network must be a Keras layer, which takes the loss of kinetic_energy "
                f"and jacobian_norm by add_loss; got {type(network).__name__}."
            )
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
        """`"exact"` or `"hutchinson"`."""
        return self._log_det

    @property
    def keywords(self) -> frozenset[str]:
        """Those of every bijector, and what an estimate or a regulariser needs.

        An estimate of the log-determinant takes `seed` and `training`, a regulariser
        `training`.
        """
        known = super().keywords
        if self._log_det == "hutchinson":
            known |= {"seed", "training"}
        return known | {"training"} if any(self._weights) else known

    def velocity(self, x: Any, t: Any, context: Any = None) -> tf.Tensor:
        """The velocity of events at a time.

        Args:
          x: tensor `[*batch, *event_shape]`.
          t: time from 0, noise, to 1, data: a number, or a tensor of shape `batch`.
          context: as for `forward`.

        Returns:
          Tensor of the shape of `x`.

        Raises:
          ValueError: on a wrong shape or context.
        """
        keywords = {} if context is None else {"context": context}
        x, keywords = self._joint_check(x, True, keywords)
        return self._velocity(x, tf.cast(t, x.dtype), *keywords.values())

    def _velocity(self, x, t, context=None):
        ndims = len(self._input_event_shape)
        if t.shape.rank:
            t = tf.reshape(t, tf.concat([tf.shape(t), [1] * ndims], 0))
        time = t + tf.zeros_like(x[..., :1])
        v = self._conditioner(tf.concat([x, time], -1), context)
        return tf.ensure_shape(v, x.shape)

    def _forward_and_log_det(self, x, context=None, training=False, seed=None):
        return self._solve(x, 0.0, 1.0, context, training, seed)

    def _inverse_and_log_det(self, y, context=None, training=False, seed=None):
        return self._solve(y, 1.0, 0.0, context, training, seed)

    def _solve(self, x, start, stop, context, training, seed):
        weights = self._weights if training else (0.0, 0.0)
        if any(weights) and recomputing():
            raise ValueError(
                f"{self.name}: kinetic_energy and jacobian_norm need a chain that "
                "keeps its activations: recompute_gradients=False. "
                'gradients="adjoint" saves memory too.'
            )
        rates = self._rates(self._vectors(x, training, seed), weights)
        rank = x.shape.rank - len(self._input_event_shape)
        zeros = tf.zeros(tf.shape(x)[:rank], x.dtype)
        zeros = tf.ensure_shape(zeros, x.shape[:rank])
        state = [x, zeros, *(zeros for weight in weights if weight)]
        arguments = [] if context is None else [context]
        given = rates, state, arguments, start, stop
        if self._solver == "dormand_prince":
            x, log_det, *costs = dormand_prince(*given, self._tolerance)
        elif self._gradients == "adjoint":
            x, log_det, *costs = runge_kutta_with_adjoint(*given, self._steps)
        else:
            x, log_det, *costs = runge_kutta(*given, self._steps)
        layer = self._conditioner.keras_layer
        for weight, cost in zip(filter(None, weights), costs, strict=True):
            # Integrals back in time are negative. Keras adds losses up in its floatx.
            cost = weight * (stop - start) * tf.reduce_mean(cost)
            layer.add_loss(tf.cast(cost, keras.config.floatx()))
        return x, log_det

    def _vectors(self, x, training, seed):
        """What the Jacobian is multiplied by: `[vectors, *batch, *event_shape]`."""
        event = self._input_event_shape
        batch = [1] * (x.shape.rank - len(event))
        if self._log_det == "exact":
            count = math.prod(event)
            vectors = tf.reshape(tf.eye(count, dtype=x.dtype), [count, *batch, *event])
        else:
            count, own = self._probes, tf.convert_to_tensor(self._seed)
            if seed is None and not training:
                # The same signs for all examples.
                vectors = random_signs(
                    [count, *batch, *event], tf.stack([own, 0]), x.dtype
                )
            else:
                seed = _random.stateless_fold_in(stateless_seed(seed), own, ALGORITHM)
                shape = tf.concat([[count], tf.shape(x)], 0)
                vectors = random_signs(shape, seed, x.dtype)
        return _broadcast(vectors, count, x)

    def _rates(self, vectors, weights):
        """The rates of an event, of its log-determinant and of costs with a weight."""
        energy, norm = weights
        ndims = len(self._input_event_shape)
        event = list(range(-ndims, 0))
        share = 1.0 if self._log_det == "exact" else 1.0 / self._probes

        def rates(t, state, *contexts):
            x, count = state[0], vectors.shape[0]
            # Its gradient needs no shape, which XLA would not know within the loop.
            copies = [tf.stack([part] * count) for part in (x, *contexts)]
            linearize = linearize_by_tape(
                lambda x, *contexts: self._velocity(x, t, *contexts)
            )
            v, pull_back = linearize(*copies)
            products = pull_back(vectors)
            found = [v[0], share * tf.reduce_sum(vectors * products, [0, *event])]
            if energy:
                found.append(tf.reduce_sum(tf.square(v[0]), event))
            if norm:
                squares = tf.reduce_sum(tf.square(products), [0, *event])
                found.append(share * squares)
            return found

        return rates


def _broadcast(x, count, like):
    """`x` with `count` in front of the shape of `like`."""
    new = tf.broadcast_to(x, tf.concat([[count], tf.shape(like)], 0))
    new.set_shape([count, *like.shape])
    return new
