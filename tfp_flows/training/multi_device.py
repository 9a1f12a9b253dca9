"""Training on several devices or machines: what Keras leaves to its user."""

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

# What TensorFlow says if nobody has set its global seed.
_UNSET_SEED = 87654321


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
    """Whether other processes take part."""
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def per_replica(
    logs: dict[str, Any], strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """Metrics of a step in the shape that Keras averages over workers.

    It reduces the first axis, which a number does not have.
    """
    if not has_workers(strategy):
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def weigh_gradient(loss: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The loss of one replica, with the gradient weighted by its share of the batch.

    Keras takes the mean over the replicas of the means over their examples, in which
    the examples of a replica that got fewer of them count for more.

    Args:
      loss: scalar, mean over the examples of this replica.
      examples: `[n, ...]`, a row for each example of this replica.
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

    Keras clips what each replica contributes and adds it up afterwards, so that a bound
    on the norm means something else on every number of devices.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    bounds = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    if tf.distribute.get_strategy().num_replicas_in_sync == 1 or not any(bounds):
        return
    clip, add = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients

    def add_and_clip(gradients):
        return clip([g for g, _ in add([(g, None) for g in gradients])])

    optimizer._clip_gradients = add_and_clip
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def whole_batch(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """The batch of all replicas, where a dataset hands it out in parts."""
    leaves = [v for v in tf.nest.flatten(batch) if v is not None]
    if any(isinstance(v, tf.distribute.DistributedValues) for v in leaves):
        return _gather(batch, strategy)
    return batch


def common_start(
    arrays: Sequence[np.ndarray | None], strategy: tf.distribute.Strategy, own: bool
) -> list[np.ndarray | None]:
    """The examples that parts which depend on data start from, on every worker.

    Args:
      arrays: examples and what belongs to them, as this worker has them.
      strategy: of the model.
      own: whether workers are known to have data of their own.

    Returns:
      The arrays, if all workers have the same; else an equal part of each one's.
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

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        strategy = self.model.distribute_strategy
        state = [_fingerprint(v.value) for v in self.model.trainable_variables]
        if not _agree([*state, float(self.model._initial_epoch or 0)], strategy):
            raise ValueError(
                "the workers start from different weights or epochs: load the same "
                "files on all of them."
            )
        if self._shuffles:
            seed, _ = tf.compat.v1.get_seed(1)
            if seed == _UNSET_SEED or not _agree([float(seed)], strategy):
                raise ValueError(
                    "shuffle=True needs the same order of the data on all workers: "
                    "call keras.utils.set_random_seed with the same seed on each, or "
                    "give a dataset that shuffles with a seed."
                )


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike, strategy: tf.distribute.Strategy
) -> Iterator[str | os.PathLike]:
    """A path to write to instead of `path`, which then gets the whole file at once.

    Every worker calls back to save the same state, to one path. If their file system
    is the same, the last one to finish wins; if each has its own, each has the file.
    Nobody waits for the others, so a worker may also save on its own. Shards and
    addresses are written as they are: give each worker its own.
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
    """Rows of all replicas, in the same order on every worker."""
    return tf.nest.map_structure(
        lambda v: None if v is None else strategy.gather(v, axis=0), batch
    )


def _fingerprint(values: Any) -> float:
    """A number that differs where values or their order do."""
    values = np.asarray(values, np.float64).ravel()
    return float(values @ np.cos(np.arange(values.size)))


def _agree(numbers: list[float], strategy: tf.distribute.Strategy) -> bool:
    """Whether all workers hold the same numbers."""
    rows = strategy.gather(tf.constant([numbers], tf.float64), axis=0).numpy()
    return bool(np.all((rows == rows[0]) | (np.isnan(rows) & np.isnan(rows[0]))))
