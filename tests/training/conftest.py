"""Small flows and data, for the tests and for the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfp_flows
from tfp_flows import flows

ROOT = Path(__file__).parents[2]


def vector(**options) -> tfp_flows.Flow:
    """A RealNVP over pairs of numbers."""
    return flows.real_nvp((2,), **{"couplings": 2, "width": 8, "seed": 0, **options})


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


def perturb(flow, scale: float = 0.2, seed: int = 7):
    """Moves a flow away from the special point at which it starts."""
    draw = np.random.default_rng(seed)
    for v in flow.trainable_variables:
        v.assign_add((scale * draw.standard_normal(v.shape)).astype(v.dtype.name))
    return flow


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
    command = [sys.executable, "-m", "tests.training.child", mode]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = [li for li in done.stderr.splitlines() if not li.startswith("WARNING")]
    assert done.returncode == returncode, "\n".join(lines[-40:])


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
