"""Training on several devices or machines, beyond what Keras does by itself."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.core.keras_internals import sum_before_clipping
from tfp_flows.core.tf_internals import UNSET_SEED

__all__ = [
    "WorkersAgree",
    "check_scope",
    "clip_after_sum",
    "common_start",
    "has_workers",
    "per_replica",
    "weigh_gradient",
    "whole_batch",
    "whole_file",
]


def check_scope(variables: Sequence[tf.Variable]) -> None:
    """Raises a `ValueError` if variables do not belong to the strategy in scope."""
    strategy = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and not all(
        strategy.extended.variable_created_in_scope(v) for v in variables
    ):
        raise ValueError(
            f"flow was built outside the scope of the {type(strategy).__name__} that "
            "the FlowModel is built in: build both within strategy.scope()."
        )


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy has several workers (processes)."""
    return isinstance(
        strategy, tf.distribute.MultiWorkerMirroredStrategy
    ) and strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)


def per_replica(
    logs: dict[str, Any], strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """Gives the metrics of a step a first axis, over which Keras averages workers."""
    if not has_workers(strategy):
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def weigh_gradient(loss: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The loss of one replica, with the gradient weighted by its share of the batch.

    Keras averages the mean losses of replicas. Without weights, the examples of a
    replica with few of them would count for more.

    Args:
      loss: scalar, mean over the examples of this replica.
      examples: `[n, ...]`, a row for each example of this replica.

    Returns:
      The scalar `loss`, with the weighted gradient.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return loss
    if examples.shape[0] is not None:
        # Batches of a fixed size are cut into equal parts.
        return loss
    n = tf.cast(tf.shape(examples)[0], loss.dtype)
    mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, n)
    weighted = loss * n / mean
    return weighted + tf.stop_gradient(loss - weighted)


def clip_after_sum(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer clip the gradient of the global batch.

    Keras clips the gradient of each replica and adds them up afterwards, so that the
    effect of a bound depends on the number of devices.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    bounds = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    if tf.distribute.get_strategy().num_replicas_in_sync == 1 or not any(bounds):
        return
    sum_before_clipping(optimizer)


def whole_batch(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """The batch of all replicas, if a dataset gives each replica its part."""
    leaves = [v for v in tf.nest.flatten(batch) if v is not None]
    if any(isinstance(v, tf.distribute.DistributedValues) for v in leaves):
        return _gather(batch, strategy)
    return batch


def common_start(
    arrays: Sequence[np.ndarray | None], strategy: tf.distribute.Strategy, own: bool
) -> list[np.ndarray | None]:
    """The examples that a flow is initialised from, the same on every worker.

    Args:
      arrays: examples, contexts and weights of this worker.
      strategy: the strategy of the model.
      own: whether workers are known to have different data.

    Returns:
      The arrays, if they are the same on all workers; else equal parts of each
      worker's.
    """
    arrays = list(arrays)
    prints = [_fingerprint(v) for v in arrays if v is not None]
    if not has_workers(strategy) or _agree(prints, strategy):
        return arrays
    if not own:
        warnings.warn(
            "the first batches of data differ between workers. If each is to take its "
            "share of the same data, make the order the same on all: shuffle with a "
            "seed. If each has data of its own, say so with "
            "tf.data.experimental.AutoShardPolicy.OFF.",
            stacklevel=4,
        )
    workers = strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)
    parts = [None if v is None else v[: max(len(v) // workers, 1)] for v in arrays]
    return [
        None if v is None else strategy.gather(tf.constant(v), axis=0).numpy()
        for v in parts
    ]


class WorkersAgree(keras.callbacks.Callback):
    """Refuses to train if workers start from different states.

    Args:
      shuffles: whether Keras shuffles arrays, by TensorFlow's global seed.

    Raises:
      ValueError: on every worker, if weights or epochs are not the same everywhere, or
        the order of the data would not be.
    """

    def __init__(self, shuffles: bool):
        super().__init__()
        self._shuffles = shuffles
        self._begins = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        strategy = self.model.distribute_strategy
        self._begins = True
        self._check([_fingerprint(v.value) for v in self.model.trainable_variables])
        if self._shuffles:
            seed, _ = tf.compat.v1.get_seed(1)
            if seed == UNSET_SEED or not _agree([float(seed)], strategy):
                raise ValueError(
                    "shuffle=True needs the same order of the data on all workers: "
                    "call keras.utils.set_random_seed with the same seed on each, or "
                    "give a dataset that shuffles with a seed."
                )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._begins:
            self._begins = False
            self._check([float(epoch)])

    def _check(self, state):
        if not _agree(state, self.model.distribute_strategy):
            raise ValueError(
                "the workers start from different weights or epochs: load the same "
                "files on all of them."
            )


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike, strategy: tf.distribute.Strategy
) -> Iterator[str | os.PathLike]:
    """A context with a temporary path to write to; at the end it is renamed to `path`.

    With several workers, each saves the same state to the same path. On a shared file
    system the last one overwrites the others; otherwise each has its own file. Workers
    do not wait for each other, so a single worker may save too. Shards and paths with
    `://` are written directly: give each worker its own.
    """
    if (
        not has_workers(strategy)
        or "://" in str(path)
        or not str(path).endswith((".weights.h5", ".keras"))
    ):
        yield path
        return
    path = Path(path)
    suffix = ".weights.h5" if path.name.endswith(".weights.h5") else ".keras"
    partial = path.with_name(
        f".{path.name.removesuffix(suffix)}-{strategy.cluster_resolver.task_id}{suffix}"
    )
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _gather(batch, strategy):
    """Joins the rows of all replicas, in the same order on every worker."""
    return tf.nest.map_structure(
        lambda v: None if v is None else strategy.gather(v, axis=0), batch
    )


def _fingerprint(values: Any) -> float:
    """A number that depends on values and their order."""
    values = np.asarray(values, np.float64).ravel()
    return float(values @ np.cos(np.arange(values.size)))


def _agree(numbers: list[float], strategy: tf.distribute.Strategy) -> bool:
    """Whether all workers hold the same numbers."""
    rows = strategy.gather(tf.constant([numbers], tf.float64), axis=0).numpy()
    return bool(np.all((rows == rows[0]) | (np.isnan(rows) & np.isnan(rows[0]))))
