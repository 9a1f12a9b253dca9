"""Every transformer in one small coupling flow, on two-dimensional data.

    python benchmarks/transformers.py

trains four couplings, each behind a learned matrix, for 800 steps of 256 on the same
data from the same seed, once for each transformer, and writes
`benchmarks/results/transformers.md`. Densities take the direction that is in closed
form, if there is one; samples then the other.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from libraries.machine import processor

import tfp_flows
from tfp_flows import bijectors, datasets, masks, networks
from tfp_flows import transformers as T

RESULTS = Path(__file__).parent / "results"
TOYS = ("moons", "checkerboard")
TRANSFORMERS = {
    "Affine": T.Affine(),
    "RationalQuadratic": T.RationalQuadratic(8),
    "LinearRational": T.LinearRational(8),
    "Cubic": T.Cubic(8),
    "LogisticMixture": T.LogisticMixture(8),
    "Stacked, 2 LogisticMixture(4)": T.Stacked([T.LogisticMixture(4)] * 2),
    "SigmoidNetwork(4)": T.SigmoidNetwork(4),
    "SigmoidNetwork(8)": T.SigmoidNetwork(8),
    "SumOfSquares": T.SumOfSquares(3, 3),
    "Bernstein": T.Bernstein(8),
    'Analytic("cubic_rational")': T.Analytic("cubic_rational", 4),
    'Analytic("sinh")': T.Analytic("sinh", 4),
    'Analytic("cubic")': T.Analytic("cubic", 4),
    'Stacked, Analytic("sinh", 1), RationalQuadratic': T.Stacked(
        [T.Analytic("sinh", 1), T.RationalQuadratic(8)]
    ),
}
TEST = 10_000


def make(transformer: T.Transformer) -> tfp_flows.Flow:
    """Four couplings of two numbers, in the order in which data meet them."""
    if not transformer.has_direct_inverse:
        transformer = T.Inverted(transformer)
    mask = masks.alternating(2)
    chain = []
    for i in range(4):
        network = networks.MLP(transformer.num_parameters, (32, 32), seed=i)
        both = [mask, ~mask]
        chain.append(tfp.bijectors.Invert(bijectors.PLU(2, seed=10 + i)))
        chain.append(bijectors.Coupling(both[i % 2], network, transformer))
    base = tfp.distributions.MultivariateNormalDiag(tf.zeros(2))
    return tfp_flows.Flow(base, bijectors.Chain(chain))


def measure(toy: str, transformer: T.Transformer, steps: int) -> dict[str, float]:
    """KL divergence from the true density, and milliseconds of all cores together."""
    data, batch = datasets.TOYS[toy], 256
    train, test = data.sample(batch * 40, 0), data.sample(TEST, 1)
    keras.utils.set_random_seed(0)
    flow = make(transformer)
    model = tfp_flows.FlowModel(flow)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0))
    model.fit(train[: 2 * batch], batch_size=batch, verbose=0)
    start = time.process_time()
    model.fit(train, batch_size=batch, epochs=max(steps // 40, 1), verbose=0)
    step = (time.process_time() - start) / (max(steps // 40, 1) * 40)
    log_prob = tf.function(flow.log_prob)(test.astype("float32"))
    gap = data.log_prob(test) - np.asarray(log_prob)
    sample = tf.function(lambda: flow.sample(TEST, seed=0))
    sample()
    start = time.process_time()
    sample()
    return {
        "kl": float(gap.mean()),
        "error": float(gap.std() / TEST**0.5),
        "step": 1e3 * step,
        "sample": 1e3 * (time.process_time() - start),
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown."""
    head = ["transformer", "parameters", *(f"KL, {toy}" for toy in TOYS)]
    head += ["step, CPU ms", f"{TEST:,} samples, CPU ms"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, toys in results.items():
        label = f"`{name}`" if " " not in name else name
        cells = [label, str(TRANSFORMERS[name].num_parameters)]
        cells += [f"{r['kl']:.3f} ± {r['error']:.3f}" for r in toys.values()]
        for key in ("step", "sample"):
            cells.append(f"{np.mean([r[key] for r in toys.values()]):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--only", nargs="+", choices=TRANSFORMERS, metavar="NAME")
    given = parser.parse_args(arguments)
    results = {}
    for name in given.only or TRANSFORMERS:
        results[name] = {
            toy: measure(toy, TRANSFORMERS[name], given.steps) for toy in TOYS
        }
        print(name, results[name], flush=True)
    text = table(results)
    print(text)
    if given.only is None and given.steps == parser.get_default("steps"):
        note = (
            "KL divergences from the true density in nats (± standard error); times of "
            f"all cores together, {processor()}, TensorFlow {tf.__version__}.\n"
        )
        (RESULTS / "transformers.md").write_text(f"{text}\n{note}")


if __name__ == "__main__":
    main()
