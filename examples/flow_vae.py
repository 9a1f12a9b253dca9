"""Variational autoencoders on MNIST: four posteriors, and a flow as the prior.

python examples/flow_vae.py
"""

import math
import time

import keras
import numpy as np

from tfp_flows import datasets, flows, models

# Latent variables have no data to be normalised by.
SIZE, PLAIN = 16, {"normalize": False, "seed": 0}
GIVEN = {"context_shape": (64,), "normalize_context": False, **PLAIN}
FAST = {"explicit": "sampling", "depth": 0, **GIVEN}
CASES = {
    "Gaussian": dict,
    "planar": lambda: {"posterior": flows.planar((SIZE,), layers=8, **FAST)},
    "Sylvester": lambda: {"posterior": flows.sylvester((SIZE,), columns=8, **FAST)},
    "IAF": lambda: {
        "posterior": flows.iaf((SIZE,), layers=3, width=128, depth=1, **GIVEN)
    },
    "prior": lambda: {"prior": flows.real_nvp((SIZE,), layers=4, width=64, **PLAIN)},
}


def build(shape, width=256, **distributions):
    """Two hidden layers on each side."""
    a, b, c, d = (keras.layers.Dense(width, activation="relu") for _ in range(4))
    encoder = keras.Sequential([keras.layers.Flatten(), a, b])
    pixels = [keras.layers.Dense(math.prod(shape)), keras.layers.Reshape(shape)]
    decoder = keras.Sequential([c, d, *pixels])
    return models.FlowVAE(encoder, decoder, SIZE, **distributions)


def main(data="mnist", epochs=5, evaluated=1000, k=128):
    source, found = datasets.load(data), {}
    scale = np.float32(source.bounds[1] - 1)
    train, test = source.arrays("train")[0], source.arrays("test", evaluated)[0]
    train, test = train / scale, test / scale
    for name, make in CASES.items():
        keras.utils.set_random_seed(0)
        vae = build(source.event_shape, **make())
        rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(train) // 128)
        vae.compile(keras.optimizers.Adam(rate))
        start = time.perf_counter()
        vae.fit(train, batch_size=128, epochs=epochs, verbose=0)
        text = f"{time.perf_counter() - start:.0f} s"
        scores = vae.evaluate(test, batch_size=128, verbose=0, return_dict=True)
        found[name] = scores["bound"], vae.log_likelihood(test, k, seed=0).mean()
        bound, estimate = found[name]
        text = f"kl {scores['kl']:.2f}, log-likelihood {estimate:.2f} nats, {text}"
        print(f"{name}: bound {bound:.2f}, {text}", flush=True)
    return found, vae


if __name__ == "__main__":
    main()
