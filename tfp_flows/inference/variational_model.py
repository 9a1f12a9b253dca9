"""A surrogate posterior as a Keras model."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_choice, check_integer, check_unused
from tfp_flows.core.keras_internals import storage
from tfp_flows.core.seeds import generator
from tfp_flows.inference.importance import ImportanceSampling, importance_sampling
from tfp_flows.inference.objectives import (
    forward_kl,
    importance_weighted,
    reverse_kl,
)
from tfp_flows.inference.target import as_target, check_target
from tfp_flows.training.divergence import WatchDivergence
from tfp_flows.training.fused_adam import FusedAdam
from tfp_flows.training.keras_variables import find_variables, rows

__all__ = ["VariationalModel"]

_OBJECTIVES: dict[str, Callable[..., tuple[tf.Tensor, tf.Tensor]]] = {
    "reverse_kl": reverse_kl,
    "importance_weighted": importance_weighted,
    "forward_kl": forward_kl,
}


class VariationalModel(keras.Model):
    r"""A Keras model that fits a surrogate to an unnormalised density.

    `fit(steps)` draws new samples of the surrogate in each step, with Keras's progress
    bar and callbacks. It shows the objective as `loss`; as `bound`, the mean of
    $\log p(x) - \log q(x)$, which for samples of the surrogate is the evidence lower
    bound; and as `ess`, the effective sample size of the weights of a step as a share
    of their number. All but the last are in nats.

    Objectives are `"reverse_kl"`, `"importance_weighted"`, `"forward_kl"`, see the
    functions of these names, or a function of your own: `(target, surrogate, *, seed,
    **options) -> (loss, log_weights)`.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> surrogate = tfd.Normal(tf.Variable(0.0), 2.0)
      >>> model = VariationalModel(tfd.Normal(1.0, 2.0), surrogate, path_gradient=True)
      >>> model.compile(keras.optimizers.SGD(1.0))
      >>> history = model.fit(20, steps_per_epoch=10, verbose=0, seed=0)
      >>> sorted(history.history), len(history.epoch)
      (['bound', 'ess', 'loss'], 2)
      >>> round(float(surrogate.loc), 1)
      1.0

    Args:
      target: the unnormalised log-density: a pinned joint distribution, another
        distribution, or a function as for `tfp.vi`.
      surrogate: a `Flow`, a `surrogate_posterior`, or any other distribution over
        samples of the target's structure that has variables.
      objective: name of an objective, or a function.
      variables: variables of the target to train too (the hyperparameters of a model,
        by the bound).
      name: name of the model.
      **options: arguments of the objective: `sample_size`, `path_gradient`,
        `importance_size`.

    Raises:
      TypeError: if the target, the surrogate or the objective is of a wrong kind, or
        the objective does not take one of `options`.
      ValueError: if the surrogate has no variables.
    """

    # The target may be a flow, or hold one, that is not to be trained.
    _uses_untracked = True

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        path = self._objective.keywords.get("path_gradient", False)
        if self._objective.func is reverse_kl:
            return ("roeder2017sticking",) if path else ()
        if self._objective.func is importance_weighted:
            return ("burda2016importance", *["tucker2019doubly"] * path)
        return ()

    def __init__(
        self,
        target: Any,
        surrogate: tfd.Distribution,
        objective: str | Callable[..., tuple[tf.Tensor, tf.Tensor]] = "reverse_kl",
        *,
        variables: Sequence[tf.Variable] = (),
        name: str = "variational_model",
        **options: Any,
    ):
        # Surrogates that TFP builds may be deferred modules.
        is_distribution = hasattr(surrogate, "experimental_sample_and_log_prob")
        if not (is_distribution and isinstance(surrogate, tf.Module)):
            raise TypeError(
                f"surrogate must be a TFP distribution, got {type(surrogate).__name__}."
            )
        if not callable(objective):
            objective = _OBJECTIVES[check_choice("objective", objective, _OBJECTIVES)]
        known = inspect.signature(objective).parameters
        unknown = sorted(options.keys() - known.keys())
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            raise TypeError(
                f"the objective {objective.__name__} has no option {unknown[0]!r}; "
                f"known: {', '.join(sorted(known.keys() - {'target', 'surrogate'}))}."
            )
        as_target(target)
        dtype = tf.as_dtype(tf.nest.flatten(surrogate.dtype)[0]).name
        super().__init__(name=name, dtype=dtype)
        shapes = tf.nest.flatten(surrogate.event_shape)
        # Some that TFP builds know their shapes only when they sample.
        found = surrogate.trainable_variables
        if all(shape.is_fully_defined() for shape in shapes):
            # A surrogate without a density, a `StochasticFlow`, hides no variables.
            with contextlib.suppress(NotImplementedError):
                found = find_variables(surrogate)
        if not found:
            raise ValueError("surrogate has no trainable variable: nothing to train.")
        self.target, self.surrogate = target, surrogate
        self.rows = rows(surrogate, [*found, *variables])
        self._objective = functools.partial(objective, **options)
        self._takes_samples = "samples" in known
        self._is_reverse = objective is reverse_kl
        self._means = [
            keras.metrics.Mean(name=name) for name in ("loss", "bound", "ess")
        ]
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: a surrogate has its variables from construction."""

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        jit_compile: bool = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 10,
    ) -> None:
        """Chooses the optimizer.

        Args:
          optimizer: an optimizer or its name; `"adam"` is
            `tfp_flows.training.FusedAdam`.
          jit_compile: whether XLA compiles the step.
          run_eagerly: see Keras.
          steps_per_execution: steps between two updates of the progress bar.
        """
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            optimizer = FusedAdam()
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means of `loss`, `bound` and `ess` over the steps of an epoch."""
        return self._means

    def fit(
        self,
        steps: int = 1000,
        samples: Any = None,
        *,
        batch_size: int = 128,
        steps_per_epoch: int | None = None,
        verbose: Any = "auto",
        callbacks: Any = None,
        seed: int | None = None,
    ) -> keras.callbacks.History:
        """Makes steps of the optimizer.

        Args:
          steps: number of steps, rounded up to whole epochs.
          samples: for `forward_kl`, samples `[N, ...]` of the posterior, in its
            structure. Steps take batches of them in a random order.
          batch_size: number of `samples` in a step.
          steps_per_epoch: steps between two calls of `callbacks` for an epoch; by
            default 100, or all steps if they are fewer.
          verbose: see Keras.
          callbacks: see Keras.
          seed: an integer of any size, or `None` for a new one.

        Returns:
          The history, as Keras gives it.

        Raises:
          ValueError: if the target has no density, is not finite at samples of the
            surrogate, or not one number for each; or if `samples` do not fit the
            surrogate or are given to another objective.
          TrainingDiverged: if the loss or a weight became NaN or infinite.
        """
        steps = check_integer("steps", steps)
        if steps_per_epoch is None:
            steps_per_epoch = min(steps, 100)
        steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch)
        if not self.compiled:
            self.compile()
        if not self._takes_samples:
            check_unused("for forward_kl", samples=samples)
        if samples is None:
            check_target(as_target(self.target), self.surrogate, self._is_reverse)
        draw = generator(seed)
        first, second = (int(n) for n in draw.integers(2**31, size=2))
        data: tf.data.Dataset = tf.data.Dataset.counter().map(
            lambda i: tf.stack([first, tf.cast(i, tf.int32)])
        )
        if samples is None:
            data = data.map(lambda seed: {"seed": seed})
        else:
            samples = self._check_samples(samples)
            count = len(tf.nest.flatten(samples)[0])
            batches = (
                tf.data.Dataset.range(count)
                .shuffle(count, seed=second)
                .repeat()
                .batch(check_integer("batch_size", batch_size))
                .map(
                    lambda i: tf.nest.map_structure(lambda v: tf.gather(v, i), samples)
                )
            )
            data = tf.data.Dataset.zip({"seed": data, "samples": batches})
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        return super().fit(
            data,
            epochs=math.ceil(steps / steps_per_epoch),
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            verbose=verbose,
            callbacks=[WatchDivergence(), *(c for c in given if c is not None)],
        )

    def _check_samples(self, samples):
        def check(part, shape, dtype):
            part = tf.cast(part, dtype)
            fits = part.shape.rank and shape.is_compatible_with(part.shape[1:])
            if not fits or not part.shape[0]:
                raise ValueError(
                    f"samples must have parts [N, ...] of event shape {shape}, got "
                    f"{part.shape}."
                )
            return part

        q = self.surrogate
        samples = tf.nest.map_structure(check, samples, q.event_shape, q.dtype)
        counts = {part.shape[0] for part in tf.nest.flatten(samples)}
        if len(counts) != 1:
            raise ValueError(f"samples must be equally many, got {sorted(counts)}.")
        return samples

    def make_train_function(self, force: bool = False) -> Any:
        # TensorFlow traces a function twice if the first trace creates variables.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, data: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss, log_weights = self._objective(self.target, self.surrogate, **data)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, [storage(v) for v in variables])
        self.optimizer.apply(gradients, variables)
        log_weights = tf.reshape(log_weights, [-1])
        total = tf.reduce_logsumexp(log_weights)
        squares = tf.reduce_logsumexp(2.0 * log_weights)
        size = tf.cast(tf.size(log_weights), total.dtype)
        bound, ess = tf.reduce_mean(log_weights), tf.exp(2.0 * total - squares) / size
        for metric, value in zip(self._means, (loss, bound, ess), strict=True):
            metric.update_state(value)
        return self.get_metrics_result()

    def importance_sampling(
        self, samples: int = 10_000, seed: Any = 0
    ) -> ImportanceSampling:
        """How far the surrogate is from the posterior.

        Args:
          samples: number of samples of the surrogate.
          seed: an integer of any size, or `None` for a new one.

        Returns:
          What `tfp_flows.inference.importance_sampling` finds.
        """
        return importance_sampling(self.target, self.surrogate, samples, seed)
