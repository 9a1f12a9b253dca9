"""AUROC of scores of a small Glow for data of other kinds, and how the density fails.

0.5 is a coin; below it, a score takes the other data for the more usual ones.

    python examples/out_of_distribution.py digits
    python examples/out_of_distribution.py fashion_mnist mnist
"""

import sys

import keras
import numpy as np

import tfp_flows
from tfp_flows import detection, flows


def train(x, levels, steps):
    flow = flows.glow(x.shape[1:], steps=4, width=32, bounds=(0, levels), seed=0)
    model = tfp_flows.FlowModel(flow, dequantize=True)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    epochs = max(steps * 64 // len(x), 1)
    model.fit(x[: steps * 64], epochs=epochs, batch_size=64, verbose=0)
    return flow


def main(name="digits", other=None, steps=500, count=500):
    keras.utils.set_random_seed(0)
    source, draw = tfp_flows.datasets.load(name), np.random.default_rng(0)
    x = source.arrays("train")[0]
    held_out, usual = (source.arrays(s, count)[0] for s in ("validation", "test"))
    levels, shape = int(source.bounds[1]), usual.shape
    grey = draw.integers(levels, size=(len(usual), 1, 1, 1))
    sets = {name: usual, "noise": draw.integers(levels, size=shape)}
    sets |= {"grey": np.broadcast_to(grey, shape), "black": np.zeros(shape)}
    sets["inverted"] = levels - 1 - usual
    if other:
        sets[other] = tfp_flows.datasets.load(other).arrays("test", count)[0]
    flow = train(x, levels, steps)
    background = train(detection.mutate(x, 0.2, levels, seed=0), levels, steps)
    held_out = held_out + draw.uniform(size=held_out.shape)
    entropy = detection.negative_log_likelihood(flow, held_out).mean()
    table, mine = {}, None
    for kind, x in sets.items():
        x, tens = x + draw.uniform(size=x.shape), len(x) // 10 * 10
        scores = {
            "density": detection.negative_log_likelihood(flow, x),
            "typicality": detection.typicality(flow, x, entropy),
            "of ten": detection.typicality(flow, x[:tens], entropy, group_size=10),
            "ratio": detection.likelihood_ratio(flow, background, x),
            "complexity": detection.complexity_corrected(flow, x),
            "gradient": detection.gradient_norm(flow, x),
            "norm": detection.latent_norm(flow, x),
        }
        if mine is None:
            mine = scores
            print(f"{'':14}bits/dim" + "".join(f"{s:>11}" for s in scores))
        table[kind] = {s: detection.auroc(mine[s], v) for s, v in scores.items()}
        bits = scores["density"].mean() / (usual[0].size * np.log(2))
        row = "".join(f"{a:11.3f}" for a in table[kind].values())
        print(f"{kind:14}{bits:8.3f}{row}", flush=True)
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
