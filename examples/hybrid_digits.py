"""One network for the class and the density, at several weights of the density.

python examples/hybrid_digits.py [mnist 5]
"""

import functools
import sys
import time

import keras
import tensorflow_probability as tfp

from tfp_flows import FlowModel, datasets, flows, models

FLOWS = {
    "coupling": functools.partial(flows.real_nvp, layers=4),
    "residual": functools.partial(flows.residual_flow, layers=3),
}


def judge(model, x, y):
    """Calibration error, share that is accepted, and accuracy on that."""
    found = model.predict(x, verbose=0)
    error = tfp.stats.expected_calibration_error(10, found["logits"], y.astype("int32"))
    right, kept = found["logits"].argmax(1) == y, found["accepted"]
    return float(error), kept.mean(), right[kept].mean()


def main(data="digits", epochs=30, limit=10_000, kinds=tuple(FLOWS)):
    source, results = datasets.load(data), {}
    parts = [source.arrays(name, limit) for name in ("train", "validation", "test")]
    train, held_out, test = ((x.reshape(len(x), -1), y) for x, y in parts)
    size = train[0].shape[1]
    weights = {"classifier": 0.0, "1/D": 1 / size, "1": 1.0, "flow alone": None}
    for kind, (name, weight) in ((k, w) for k in kinds for w in weights.items()):
        keras.utils.set_random_seed(0)
        flow = FLOWS[kind]((size,), width=128, bounds=source.bounds, seed=0)
        if weight is None:
            model, given = FlowModel(flow, dequantize=True), 1
        else:
            model, given = models.HybridModel(flow, 10, weight, dequantize=True), 2
        model.compile(keras.optimizers.Adam(2e-3))
        start = time.perf_counter()
        model.fit(*train[:given], batch_size=100, epochs=int(epochs), verbose=0)
        end = f"{time.perf_counter() - start:.0f} s"
        scores = model.evaluate(*test[:given], verbose=0, return_dict=True)
        line = f"{kind}, {name}: {scores['bits_per_dim']:.2f} bits/dim"
        if weight is not None:
            before = judge(model, *test)[0]
            model.calibrate(*held_out, reject=0.05)
            error, kept, right = judge(model, *test)
            line += f", accuracy {scores['accuracy']:.3f}, calibration error "
            line += f"{before:.3f} -> {error:.3f}, {kept:.0%} kept: {right:.3f}"
        print(f"{line}, {end}", flush=True)
        results[kind, name] = scores
    return results


if __name__ == "__main__":
    main(*sys.argv[1:3])
