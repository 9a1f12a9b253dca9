"""What tests run in a process of its own: `python -m tests.training.child MODE ...`.

Each mode imports what it needs, and only that: some are about what need not be there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def load(directory: Path, name: str) -> None:
    """Loads what `test_saving` saved, and writes what the flow says.

    First with TensorFlow alone, before anything else is imported.
    """
    load_exported(directory, name)

    import keras

    import tfp_flows

    models = {"keras": keras.models.load_model(directory / f"{name}.keras")}

    import tensorflow as tf

    from tests.training.support import answers, image, vector

    # Built from another seed, so that every variable has to come from the file.
    build = {"vector": vector, "image": image}[name]
    models["weights"] = tfp_flows.FlowModel(build(seed=1))
    models["weights"].load_weights(directory / f"{name}.weights.h5")
    model = models["checkpoint"] = tfp_flows.FlowModel(build(seed=2))
    status = tf.train.Checkpoint(model=model).read(str(directory / f"{name}.tf"))
    status.assert_existing_objects_matched().expect_partial()
    for route, model in models.items():
        np.savez(directory / f"{name}.{route}.npz", **answers(model.flow))


def load_exported(directory: Path, name: str) -> None:
    """Calls a SavedModel of `test_saving` with TensorFlow alone."""
    import tensorflow as tf

    model = tf.saved_model.load(str(directory / f"{name}.exported"))
    data = dict(np.load(directory / f"{name}.data.npz"))
    x = tf.constant(data.pop("x"))
    context = {k: tf.constant(v) for k, v in data.items()}
    for kind in ("methods", "signatures"):

        def call(function, kind=kind, **arguments):
            if kind == "signatures":
                function = model.signatures[function]
            else:
                function = getattr(model, function)
            return function(**arguments, **context)

        draw = {"n": tf.constant(3), "seed": tf.constant(5)}
        z = call("encode", x=x)["z"]
        found = {
            "log_prob": call("log_prob", x=x)["log_prob"],
            "sample": call("sample", **draw, temperature=tf.constant(1.0))["x"],
            "tempered": call("sample", **draw, temperature=tf.constant(0.7))["x"],
            "encode": z,
            "decode": call("decode", z=0.5 * z)["x"],
        }
        np.savez(directory / f"{name}.{kind}.npz", **found)
    foreign = {"tfp_flows", "tensorflow_probability", "tf_keras"} & set(sys.modules)
    assert not foreign, foreign


def back_up(directory: Path, killed: str) -> None:
    """Trains with `BackupAndRestore`, and dies in the second epoch if told to."""
    import os
    import signal

    import keras

    from tests.training.support import train_glow

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (1, 1):
                os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [keras.callbacks.BackupAndRestore(directory / "backup")]
    if killed == "killed":
        callbacks.append(Kill())
    flow, history = train_glow(callbacks)
    np.savez(
        directory / "resumed.npz",
        *(v.numpy() for v in flow.variables),
        epochs=history.epoch,
    )


def distribute(directory: Path) -> None:
    """Trains on one device, and on two with a `MirroredStrategy`."""
    import contextlib

    import tensorflow as tf

    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, devices)

    import keras

    import tfp_flows
    from tests.training.support import (
        compiled,
        contexts,
        image,
        images,
        points,
        train_whole,
        vector,
    )

    def normalised(**options):
        return vector(layers=1, batch_norm=True, context_shape=(3,), **options)

    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    cases = {
        "glow": (image, images()),
        "batch_norm": (normalised, (points(), contexts())),
    }
    results = {}
    with mirrored.scope():
        model = tfp_flows.FlowModel(vector(layers=1))
        try:
            model.compile(jit_compile=True)
        except ValueError as error:
            results["refused"] = str(error)
    for name, (build, data) in cases.items():
        for strategy in (None, mirrored):
            with contextlib.nullcontext() if strategy is None else strategy.scope():
                # Two devices keep no activations, and learn the same.
                flow = build(recompute_gradients=strategy is not None)
                # Glow ends with averages of its weights.
                averages = (
                    {"use_ema": True, "ema_momentum": 0.5} if name == "glow" else {}
                )
                model = compiled(flow, keras.optimizers.SGD(0.005, **averages))
            given = data
            if name == "batch_norm":
                given = (tf.data.Dataset.from_tensor_slices(data).batch(8),)
                if strategy is not None:
                    given = map(strategy.experimental_distribute_dataset, given)
            options = {"batch_size": 8} if name == "glow" else {}
            history = model.fit(*given, epochs=2, shuffle=False, verbose=0, **options)
            # Loading what was just saved changes nothing, on any number of devices.
            path = directory / f"{name}.weights.h5"
            model.save_weights(path)
            model.load_weights(path)
            plain = tfp_flows.FlowModel(build())
            plain.load_weights(path)
            key = f"{name}.{'one' if strategy is None else 'two'}"
            results[f"{key}.loss"] = history.history["loss"]
            results[f"{key}.nll"] = history.history["nll"]
            results[f"{key}.loaded"] = plain.flow.log_prob(data[0], context=data[1])
            # One each, to save time.
            if name == "glow":
                answer = model.predict(data, batch_size=8, verbose=0)
            else:
                answer = model.evaluate(*data, batch_size=8, verbose=0)
            results[f"{key}.answer"] = answer
            for i, v in enumerate(model.flow.variables):
                results[f"{key}.variable_{i}"] = v.numpy()
    np.savez(directory / "distributed.npz", **results)
    start = directory / "one.weights.h5"
    np.savez(directory / "one.npz", **train_whole(None, directory))
    (directory / "last.weights.h5").rename(start)
    np.savez(directory / "mirrored.npz", **train_whole(mirrored, directory, start))


def work(directory: Path, index: str, *workers: str) -> None:
    """Trains as one of several workers."""
    import os

    task = {"type": "worker", "index": int(index)}
    cluster = {"worker": list(workers)}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})

    import tensorflow as tf

    # Before anything else asks TensorFlow for its devices.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    from tests.training.support import compiled, normalised, points, train_whole

    assert strategy.num_replicas_in_sync == len(workers)
    found = train_whole(strategy, directory, directory / "one.weights.h5")

    with strategy.scope():
        model = compiled(normalised())

    def refused(**options):
        try:
            model.fit(points(), verbose=0, **options)
        except ValueError as error:
            return str(error)

    found["shuffled"] = refused()
    found["later"] = refused(shuffle=False, initial_epoch=int(index), epochs=2)
    if index == "1":
        variable = model.flow.trainable_variables[0]
        variable.assign_add(tf.ones(variable.shape, variable.dtype))
    found["different"] = refused(shuffle=False)
    np.savez(directory / f"worker_{index}.npz", **found)


if __name__ == "__main__":
    mode, directory, *rest = sys.argv[1:]
    globals()[mode](Path(directory), *rest)
