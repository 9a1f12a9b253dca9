"""What is gained by numbers that nobody sees, by wavelets and by max pooling.

    python benchmarks/surjections.py

trains couplings of the two coordinates of each toy, and of these with one and two
further numbers (`distributions.Augmented`), for 1,600 steps of 256; and a RealNVP of
digits as it is, with a further channel, behind a squeeze and behind Haar wavelets, and
of the maxima of 2x2 pixels (`distributions.MaxPooled`), for 30 epochs. The tables go to
`benchmarks/results/surjections.md`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from libraries.machine import processor
from tensorflow_probability import bijectors as tfb

from tfp_flows import FlowModel, bijectors, datasets, distributions, flows
from tfp_flows.training import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
TEST, STEPS, EPOCHS = 10_000, 1_600, 30
# Draws of the further numbers for each density of test data.
DRAWS = 64


def fit(flow, x: np.ndarray, batch: int, epochs: int, **options) -> float:
    """Trains a flow; seconds of a step, but for the first ones."""
    keras.utils.set_random_seed(0)
    steps = epochs * (len(x) // batch)
    model = FlowModel(flow, **options)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), jit_compile=False)
    model.fit(x[: 2 * batch], batch_size=batch, verbose=0)
    start = time.perf_counter()
    model.fit(x, batch_size=batch, epochs=epochs, verbose=0)
    return (time.perf_counter() - start) / steps


def densities(flow, x: np.ndarray) -> np.ndarray:
    """Log-densities in nats; bounds by `DRAWS` draws, which are nearly tight."""
    given = {} if flow.exactness == "exact" else {"samples": DRAWS, "seed": 0}
    log_prob = tf.function(lambda x: flow.log_prob(x, **given))
    parts = np.split(x.astype("float32"), range(500, len(x), 500))
    return np.concatenate([log_prob(part) for part in parts])


def toy_flow(further: int, width: int):
    """Eight affine couplings of two coordinates and of so many numbers more."""
    flow = flows.real_nvp((2 + further,), width=width, normalize=False, seed=0)
    if not further:
        return flow
    return distributions.Augmented(flow, distributions.standard_normal((further,)))


def toys(epochs: int, width: int, names: list[str]) -> str:
    """KL divergences of the toys as Markdown."""
    rows = {0: [], 1: [], 2: []}
    seconds = {further: [] for further in rows}
    for name in names:
        toy = datasets.TOYS[name]
        x, test = toy.sample(10_240, 0).astype("float32"), toy.sample(TEST, 1)
        for further, row in rows.items():
            flow = toy_flow(further, width)
            seconds[further].append(fit(flow, x, 256, epochs))
            gap = toy.log_prob(test) - densities(flow, test)
            row.append(f"{gap.mean():.3f} ± {gap.std() / TEST**0.5:.3f}")
            print(name, further, row[-1], flush=True)
    lines = ["| further numbers | " + " | ".join(names) + " | step, ms |"]
    lines.append("|" + " --- |" * (len(names) + 2))
    for further, row in rows.items():
        mean = 1e3 * np.mean(seconds[further])
        lines.append(f"| {further} | " + " | ".join(row) + f" | {mean:.1f} |")
    return "\n".join(lines) + "\n"


# The first bijector of digits, whose noisy pixels are between 0 and 17.
LOGIT = bijectors.Logit(1e-6, 0.0, 17.0)


def image_flow(shape: tuple[int, ...], size: dict, seed: int = 0, **options):
    return flows.real_nvp(shape, normalize=False, seed=seed, **size, **options)


def as_it_is(size: dict):
    return distributions.Flow(image_flow((8, 8, 1), size), LOGIT)


def further_channel(size: dict):
    noise = distributions.standard_normal((8, 8, 1))
    augmented = distributions.Augmented(image_flow((8, 8, 2), size), noise)
    return distributions.Flow(augmented, LOGIT)


def behind(squeeze: tfb.Bijector, size: dict):
    """Couplings of images of 4x4, which see the pixels of each 2x2 as channels."""
    first = bijectors.Chain([LOGIT, tfb.Invert(squeeze)])
    return distributions.Flow(image_flow((4, 4, 4), size), first)


def max_pooled(size: dict):
    """A flow of the maxima, and one of the gaps below them given the maxima."""
    maxima = image_flow((4, 4, 1), size)
    given = {"context_shape": (4, 4, 1), "normalize_context": False}
    gaps = image_flow((4, 4, 3), size, seed=1, **given)
    shape = tfb.Reshape((4, 4, 1, 3), (4, 4, 3))
    gaps = distributions.Flow(gaps, bijectors.Chain([tfb.Exp(), shape]))
    return distributions.Flow(distributions.MaxPooled(maxima, gaps), LOGIT)


DIGITS: dict[str, Callable] = {
    "as it is": as_it_is,
    "a further channel of noise": further_channel,
    "behind a squeeze": lambda size: behind(bijectors.Squeeze(2), size),
    "behind Haar wavelets": lambda size: behind(bijectors.Haar(), size),
    "of maxima, and of gaps given these": max_pooled,
}


def digits(epochs: int, size: dict) -> str:
    """Nats of held-out digits as Markdown."""
    source = datasets.load("digits")
    x, test = (source.arrays(split)[0].astype("float32") for split in ("train", "test"))
    test = test + np.random.default_rng(0).uniform(size=test.shape).astype("float32")
    lines = ["| RealNVP | nats | parameters | step, ms |", "| --- | --- | --- | --- |"]
    for name, make in DIGITS.items():
        flow = make(size)
        seconds = fit(flow, x, 64, epochs, dequantize=True)
        found = densities(flow, test)
        error = found.std() / math.sqrt(len(found))
        count = sum(math.prod(v.shape) for v in flow.trainable_variables)
        lines.append(
            f"| {name} | {found.mean():.2f} ± {error:.2f} | {count:,} "
            f"| {1e3 * seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written")
    quick = parser.parse_args(arguments).quick
    keep_freed_memory()
    names = list(datasets.TOYS)
    if quick:
        print(toys(1, 8, names[:1]), digits(1, {"width": 4, "depth": 0}))
        return
    of_toys = toys(STEPS // 40, 128, names)
    of_digits = digits(EPOCHS, {"width": 32, "depth": 2})
    note = (
        f"Mean KL divergence from the true density of {TEST:,} test points (± standard "
        f"error), densities with further numbers by {DRAWS} draws; {processor()}.\n"
    )
    (RESULTS / "surjections.md").write_text(f"{of_toys}\n{of_digits}\n{note}")


if __name__ == "__main__":
    main()
