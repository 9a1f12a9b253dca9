"""The temperature of a small Glow by held-out digits, one for all and one for each
level, and what it changes in bits per dimension of others.

python examples/temperatures.py
"""

import keras
import numpy as np

import tfp_flows
from tfp_flows import datasets, latent


def main(epochs=(5, 25), width=32):
    keras.utils.set_random_seed(0)
    source, draw = datasets.load("digits"), np.random.default_rng(0)
    parts = (source.arrays(name)[0] for name in ("train", "validation", "test"))
    train, held_out, test = (x + draw.uniform(size=x.shape) for x in parts)
    options = {"levels": 2, "steps": 4, "width": width, "bounds": (0, 17)}
    flow = tfp_flows.flows.glow((8, 8, 1), seed=0, **options)
    model, found, done = tfp_flows.FlowModel(flow), {}, 0
    model.compile(keras.optimizers.Adam(1e-3))
    for until in epochs:
        model.fit(train, batch_size=64, epochs=until, initial_epoch=done, verbose=0)
        done = until
        one = latent.fit_temperature(flow, held_out)
        levels = latent.fit_temperature(flow, held_out, per_level=True)
        bits = [
            np.mean(f.bits_per_dim(test))
            for f in (flow, latent.tempered(flow, one), latent.tempered(flow, levels))
        ]
        found[until] = one, levels, bits
        print(f"{until} epochs: T {one:.3f}, by level {levels.round(3)}")
        print(
            "bits/dim at T 1, T, T by level:", *(f"{b:.3f}" for b in bits), flush=True
        )
    return found


if __name__ == "__main__":
    main()
