"""Small flows and data, for the tests and for the processes that they start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfp_flows
from tfp_flows import flows

ROOT = Path(__file__).parents[2]


def vector(**options) -> tfp_flows.Flow:
    """A RealNVP over pairs of numbers, which waits for no data."""
    small = {"layers": 2, "width": 8, "normalize": False, "seed": 0}
    if options.get("context_shape") is not None:
        small["normalize_context"] = False
    return flows.real_nvp((2,), **{**small, **options})


def image(**options) -> tfp_flows.Flow:
    """A Glow over 4x4 images of 256 levels, conditional on three labels."""
    small = {"levels": 1, "steps": 1, "width": 4, "num_classes": 3, "seed": 0}
    return flows.glow((4, 4, 1), **{**small, "bounds": (0, 256), **options})


def points(n: int = 24, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (1.0 + 2.0 * draw.standard_normal((n, 2))).astype("float32")


def contexts(n: int = 24, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((n, 3)).astype("float32")


def images(n: int = 24, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Images and their labels."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(0, 256, (n, 4, 4, 1)).astype("float32")
    return x, np.arange(n, dtype="int32") % 3


def compiled(flow, optimizer="adam", **options) -> tfp_flows.FlowModel:
    model = tfp_flows.FlowModel(flow)
    model.compile(optimizer, **options)
    return model


def copies(variables) -> list[np.ndarray]:
    """Values that do not change when the variables do."""
    return [np.copy(v.numpy()) for v in variables]


def values(flow) -> list[np.ndarray]:
    return copies(flow.variables)


def assert_same(before, after):
    assert len(before) == len(after) > 0
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def train_glow(callbacks=()):
    """Four epochs of three batches, always in the same order."""
    data = tf.data.Dataset.from_tensor_slices(images()).batch(8)
    model = compiled(image(), keras.optimizers.Adam(0.02))
    history = model.fit(
        data, epochs=4, shuffle=False, callbacks=list(callbacks), verbose=0
    )
    return model.flow, history


def run_child(mode: str, *arguments: object, returncode: int = 0) -> None:
    """Runs a mode of `child.py` in a new process."""
    run_children([(mode, *arguments)], returncode)


def run_children(modes: Sequence[tuple], returncode: int = 0) -> None:
    """Runs several at once. If one fails, the others do not wait for it."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.child", *map(str, mode)],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mode in modes
    ]
    try:
        for child in children:
            _, errors = child.communicate(timeout=300)
            lines = [li for li in errors.splitlines() if not li.startswith("WARNING")]
            assert child.returncode == returncode, "\n".join(lines[-40:])
    finally:
        for child in children:
            child.kill()
            child.communicate()


def answers(flow, wrap=lambda function: function) -> dict[str, np.ndarray]:
    """What a flow says about its data, drawn and computed with fixed seeds."""
    keywords = {}
    x = points()
    if flow.context_shape is not None:
        x, keywords["context"] = images()
    z = wrap(flow.encode)(x, **keywords)
    found = {
        "log_prob": wrap(flow.log_prob)(x, **keywords),
        "sample": wrap(flow.sample)(3, seed=5, **keywords),
        "tempered": wrap(flow.sample)(3, seed=5, temperature=0.7, **keywords),
        "encode": z,
        "decode": wrap(flow.decode)(0.5 * z, **keywords),
    }
    return {k: np.asarray(v) for k, v in found.items()}


def normalised(**options) -> tfp_flows.Flow:
    """A RealNVP with BatchNorm, of data in any units, in float64."""
    small = {"layers": 1, "depth": 1, "normalize": True, "batch_norm": True}
    return vector(**{**small, "dtype": "float64", **options})


def train_whole(strategy, directory: Path, start: Path | None = None) -> dict:
    """Trains under a strategy, or on one device, and tells all that came of it.

    27 examples in batches of 8 leave a last batch of 3 for which two devices do not
    get equal parts; 9 for validation leave one, so that a device gets none. The bound
    on the gradient's norm holds it back.

    Args:
      strategy: `None` for one device.
      directory: where checkpoints go; the same for all workers.
      start: weights, evaluated at the end; `None` for those that were trained.
    """

    class Note(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            standardize = self.model.flow.bijector.bijectors[0]
            found["shift"] = standardize.shift.numpy().copy()
            found["scale"] = standardize.scale.numpy().copy()

    def last(model):
        return model.fit(data, epochs=1, verbose=0).history["loss"]

    found = {}
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        flow = normalised()
        model = compiled(flow, keras.optimizers.Adam(0.02, global_clipnorm=0.3))
    x, held_out = points(27), points(9, seed=5)
    weight = np.linspace(0.5, 1.5, 27, dtype="float32")
    data = tf.data.Dataset.from_tensor_slices((x, np.empty((27, 0)), weight)).batch(8)
    path = str(directory / "last.weights.h5")
    history = model.fit(
        data,
        epochs=2,
        verbose=0,
        validation_data=tf.data.Dataset.from_tensor_slices(held_out).batch(8),
        callbacks=[
            Note(),
            keras.callbacks.ModelCheckpoint(
                str(directory / "best.weights.h5"),
                save_best_only=True,
                save_weights_only=True,
            ),
            keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
        ],
    )
    found |= {k: np.asarray(v) for k, v in history.history.items()}
    found |= {f"variable_{i}": v for i, v in enumerate(values(flow))}
    found["predict"] = model.predict(held_out, batch_size=8, verbose=0)
    found["went_on"] = last(model)
    model.load_weights(path)
    found["restored"] = last(model)
    model.load_weights(path if start is None else start)
    found["started"] = model.evaluate(held_out, batch_size=8, verbose=0)
    return found


def assert_trained_as_one(found: dict, one: dict) -> None:
    """Compares what `train_whole` found with what it found on one device."""
    # Last batches that do not divide, weights of examples, clipping, validation.
    assert one["loss"][1] < one["loss"][0]
    for key in ("loss", "nll", "val_loss", "val_nll", "went_on"):
        np.testing.assert_allclose(found[key], one[key], 1e-6, err_msg=key)
    np.testing.assert_allclose(found["predict"], one["predict"], 1e-9)
    # The data's units are those of all examples of all workers.
    x = points(27)
    np.testing.assert_allclose(found["shift"], x.mean(0), 1e-6)
    np.testing.assert_allclose(found["scale"], x.std(0), 1e-5)
    # BatchNorm's moving averages, and statistics of the last batch, are among these.
    variables = [key for key in one if key.startswith("variable")]
    assert len(variables) == len(normalised().variables)
    for key in variables:
        np.testing.assert_allclose(found[key], one[key], 1e-9, 1e-9, err_msg=key)
    # The optimizer's state is in a checkpoint: the same steps lead to the same place.
    np.testing.assert_array_equal(found["restored"], found["went_on"])
    # Weights of one device are read under a strategy.
    np.testing.assert_allclose(found["started"], one["started"], 1e-6)
