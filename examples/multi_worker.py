r"""One flow trained by several machines, or by several processes on one.

Each machine runs this script with the same arguments and its own number:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                "task": {"type": "worker", "index": 0}}' \
    python examples/multi_worker.py --directory runs/moons

Every batch is divided among all devices of all machines, and the loss curve is that of
one device with the same batch. A job that was stopped goes on when it is started again.
To try it on this machine alone, with two processes, and compare with one device (in
float64, for Adam makes much of rounding):

    python examples/multi_worker.py --local 2 --check
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfp_flows
from tfp_flows import datasets, flows

# Examples in a batch of all devices together.
BATCH_SIZE = 512


def choose_strategy() -> tf.distribute.Strategy:
    """All machines, all GPUs of this one, or one device."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def train(
    strategy: tf.distribute.Strategy, directory: Path, epochs: int, dtype: str
) -> list[float]:
    """Trains; returns the training loss of each epoch, in nats."""
    # A DataSource has the same order everywhere. So has a tf.data.Dataset of yours if
    # it shuffles with a seed.
    source = datasets.load("moons")
    steps = source.steps("train", BATCH_SIZE)
    with strategy.scope():
        flow = flows.real_nvp(
            source.event_shape,
            layers=4,
            width=64,
            normalize=True,
            seed=0,
            dtype=dtype,
        )
        model = tfp_flows.FlowModel(flow)
        model.compile(keras.optimizers.Adam(2e-3))
        model.optimizer.build(model.trainable_variables)
    last = directory / "last.weights.h5"
    if last.exists():
        model.load_weights(last)
    epoch = model.optimizer.iterations.numpy() // steps
    history = model.fit(
        source.dataset(
            "train", BATCH_SIZE, shuffle=True, epochs=epochs, initial_epoch=epoch
        ),
        steps_per_epoch=steps,
        initial_epoch=epoch,
        epochs=epochs,
        validation_data=source.dataset("validation", BATCH_SIZE),
        # Every worker calls them. The files are the same, whoever writes last.
        callbacks=[
            keras.callbacks.ModelCheckpoint(str(last), save_weights_only=True),
            keras.callbacks.ModelCheckpoint(
                str(directory / "best.keras"), save_best_only=True
            ),
        ],
        verbose=2 if is_first(strategy) else 0,
    )
    return history.history.get("loss", [])


def is_first(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one to talk."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path("runs/multi_worker"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--local", type=int, help="processes to start on this machine")
    parser.add_argument(
        "--check", action="store_true", help="with --local: compare with one device"
    )
    arguments = parser.parse_args()
    if arguments.local is None:
        # Before anything else, as TensorFlow wants it.
        strategy = choose_strategy()
        arguments.directory.mkdir(parents=True, exist_ok=True)
        loss = train(strategy, arguments.directory, arguments.epochs, arguments.dtype)
        if is_first(strategy):
            print("loss", *(f"{value:.6f}" for value in loss))
            (arguments.directory / "loss.json").write_text(json.dumps(loss))
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) if arguments.check else arguments.directory
        dtype = "float64" if arguments.check else arguments.dtype
        options = ["--epochs", str(arguments.epochs), "--dtype", dtype]
        start_workers(arguments.local, [*options, "--directory", str(directory)])
        if not arguments.check:
            return
        several = json.loads((directory / "loss.json").read_text())
        (directory / "one").mkdir()
        one = train(choose_strategy(), directory / "one", arguments.epochs, dtype)
    difference = np.max(np.abs(np.divide(several, one) - 1))
    print("one device", *(f"{value:.6f}" for value in one))
    print(f"largest relative difference {difference:.1e}")
    sys.exit(0 if difference < 1e-6 else 1)


def start_workers(count: int, options: list[str]) -> None:
    """Runs this script in `count` processes, which find each other on localhost."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("localhost", 0))
        workers = [f"localhost:{free.getsockname()[1]}" for free in sockets]
    processes = []
    for i in range(count):
        task = {"type": "worker", "index": i}
        config = {"cluster": {"worker": workers}, "task": task}
        environment = {"TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "2"}
        # Two processes cannot share a GPU's memory without further ado.
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *options],
                env={**os.environ, **environment},
            )
        )
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes):
        sys.exit(f"workers ended with {codes}")


if __name__ == "__main__":
    main()
