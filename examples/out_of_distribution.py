"""AUROC of scores of a flow: 0.5 is a coin, below it other images look more usual.

`python examples/out_of_distribution.py fashion_mnist mnist nice`: inside, other, flow.
"""

import sys

import keras
import numpy as np

from tfp_flows import FlowModel, datasets, detection, flows


def train(x, levels, count, kind):
    sizes = {"steps": 4, "width": 32} if kind == "glow" else {"width": 256, "depth": 2}
    flow = getattr(flows, kind)(x.shape[1:], bounds=(0, levels), seed=0, **sizes)
    model = FlowModel(flow, dequantize=True)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, count // 64)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x[:count], epochs=max(count // len(x), 1), batch_size=64, verbose=0)
    return flow


def main(name="digits", other=None, kind="glow", train_count=16_000, count=500):
    keras.utils.set_random_seed(0)
    source, draw = datasets.load(name), np.random.default_rng(0)
    held_out, usual = (source.arrays(s, count)[0] for s in ("validation", "test"))
    usual, x = usual[: len(usual) // 10 * 10], source.arrays("train")[0]
    levels, shape = int(source.bounds[1]), usual.shape
    sets = {name: usual, "noise": draw.integers(levels, size=shape)}
    sets["grey"] = np.zeros(shape) + draw.integers(levels, size=(len(usual), 1, 1, 1))
    sets |= {"black": np.zeros(shape), "inverted": levels - 1 - usual}
    if other:
        sets[other] = datasets.load(other).arrays("test", len(usual))[0]
    mutated = detection.mutate(x, 0.2, levels, seed=0)
    flow, background = (train(v, levels, train_count, kind) for v in (x, mutated))
    density, typical = detection.negative_log_likelihood, detection.typicality
    entropy = density(flow, held_out + draw.uniform(size=held_out.shape)).mean()
    x = np.concatenate(list(sets.values()))
    x = x + draw.uniform(size=x.shape)
    scores = {
        "density": density(flow, x),
        "typicality": typical(flow, x, entropy),
        "of ten": typical(flow, x, entropy, group_size=10),
        "ratio": detection.likelihood_ratio(flow, background, x),
        "complexity": detection.complexity_corrected(flow, x),
        "gradient": detection.gradient_norm(flow, x),
        "norm": detection.latent_norm(flow, x),
    }
    parts, table = {s: np.split(v, len(sets)) for s, v in scores.items()}, {}
    for i, kind in enumerate(sets):
        table[kind] = {s: detection.auroc(v[0], v[i]) for s, v in parts.items()}
        bits = parts["density"][i].mean() / (usual[0].size * np.log(2))
        areas = "".join(f", {s} {area:.3f}" for s, area in table[kind].items())
        print(f"{kind}: {bits:.3f} bits per dimension{areas}")
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
