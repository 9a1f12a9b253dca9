"""Memory that a process keeps for each model of a search over settings.

    python benchmarks/many_flows.py

builds, trains for three epochs, uses and drops models one after another: ready flows of
each kind, and Keras models of as many layers. For each kind, in a process of its own,
it prints how much the process grew for each model after the third. Writes
`benchmarks/results/many_flows.md`.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "many_flows.md"
FIRST, MODELS = 3, 9
KINDS = {
    "Keras, 8 residual blocks of 2 layers": ("keras", (6,), {}),
    "Keras, 32 residual blocks of 2 layers": ("keras", (6,), {"blocks": 32}),
    "Keras, 16 layers of 1,000": ("keras", (6,), {"blocks": 0, "layers": 16}),
    "nice": ("nice", (6,), {}),
    "real_nvp": ("real_nvp", (6,), {}),
    "maf": ("maf", (6,), {}),
    "iaf": ("iaf", (6,), {}),
    "neural_spline_flow": ("neural_spline_flow", (6,), {}),
    "planar": ("planar", (6,), {}),
    "sylvester": ("sylvester", (6,), {}),
    "residual_flow": ("residual_flow", (6,), {"layers": 4}),
    "flow_plus_plus": ("flow_plus_plus", (6,), {"layers": 4}),
    "glow": ("glow", (8, 8, 1), {"steps": 4, "width": 64}),
}


def megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def keras_model(shape, blocks=8, layers=0):
    import keras

    inputs = x = keras.Input(shape)
    for _ in range(layers):
        x = keras.layers.Dense(1000, "relu")(x)
    for _ in range(blocks):
        h = keras.layers.Dense(256, "relu")(x)
        h = keras.layers.Dense(256, "relu")(h)
        x = keras.layers.Add()([x, keras.layers.Dense(shape[-1])(h)])
    return keras.Model(inputs, x if blocks else keras.layers.Dense(shape[-1])(x))


def grow(kind, shape, options) -> float:
    """Megabytes kept for each model."""
    import numpy as np

    from tfp_flows import FlowModel, flows

    x = np.random.default_rng(0).normal(size=(256, *shape)).astype("float32")
    for i in range(MODELS):
        if i == FIRST:
            start = megabytes()
        if kind == "keras":
            model, data = keras_model(shape, **options), (x, x)
            model.compile("adam", "mse")
        else:
            model, data = FlowModel(getattr(flows, kind)(shape, **options)), (x,)
            model.compile("adam")
        model.fit(*data, epochs=3, batch_size=64, verbose=0)
        model.predict(x, verbose=0)
        del model
        gc.collect()
    return (megabytes() - start) / (MODELS - FIRST)


def main() -> None:
    if len(sys.argv) > 1:
        print(grow(*KINDS[sys.argv[1]]))
        return
    lines = [
        "Memory that a process keeps for each model that was built, trained for three "
        "epochs and dropped, by `python benchmarks/many_flows.py`.",
        "",
        "| models | MB kept for each |",
        "| --- | --- |",
    ]
    for name in KINDS:
        command = [sys.executable, __file__, name]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        lines.append(f"| {name} | {float(output.stdout.split()[-1]):.0f} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
