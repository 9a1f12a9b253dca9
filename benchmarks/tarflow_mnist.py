"""TarFlow on MNIST, in the setting of its authors, as far as a processor goes.

    python benchmarks/tarflow_mnist.py --steps 900

trains the flow of the notebook beside Zhai et al. 2024, "Normalizing Flows are Capable
Generative Models": patches of 4, width 128, four blocks of four layers, 3.2 million
parameters, given the class. Pixels in [-1, 1] get Gaussian noise of 0.1, and the rate
of AdamW rises and falls to 0 along a cosine. Theirs takes 100 epochs of batches of 256
at a rate of up to 2e-3. Two cores see one epoch in 25 minutes, which are spent on
batches of 64 at 1e-3: four such steps take two thirds of the time of one of 256.
`benchmarks/results/tarflow_mnist.md` says the log-density of noisy test images and, as
theirs does, how often the class with the highest density is the right one;
`tarflow_mnist.png` shows samples, and below them the same without their noise. The
model is kept as `runs/tarflow_mnist.keras`, or what `--model` says.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from libraries.machine import processor

from tfp_flows import FlowModel, datasets, flows, latent, plots
from tfp_flows.training import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
NOISE, BATCH, RATE = 0.1, 64, 1e-3


def scaled(split: str, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1], `[n, 28, 28, 1]`, and their labels."""
    x, y = datasets.load("mnist").arrays(split)
    return x[:n].astype("float32") / 127.5 - 1.0, y[:n].astype("int32")


def train(model: FlowModel, data: tf.data.Dataset, steps: int) -> float:
    """Trains for some steps, and reports after each hundred.

    Returns:
      Seconds for each.
    """
    warmup = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=steps - warmup,
        warmup_target=RATE,
        warmup_steps=warmup,
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-4, beta_2=0.95), jit_compile=False
    )
    start = time.perf_counter()
    report = min(steps, 100)
    model.fit(data, steps_per_epoch=report, epochs=steps // report, verbose=2)
    return (time.perf_counter() - start) / steps


def bayes(model: FlowModel, x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Nats of noisy images given their class, their error, and how often it is told."""
    noisy = x + NOISE * np.random.default_rng(0).normal(size=x.shape).astype("float32")
    # The flow itself: `predict` would add noise again, other noise for each class.
    of_batch = tf.function(lambda x, k: model.flow.log_prob(x, context=k))
    log_prob = np.empty([len(x), 10])
    for i in range(0, len(x), 250):
        part = noisy[i : i + 250]
        for k in range(10):
            log_prob[i : i + 250, k] = of_batch(part, tf.fill([len(part)], k))
    own = log_prob[np.arange(len(x)), y]
    right = np.mean(log_prob.argmax(-1) == y)
    return own.mean(), own.std() / math.sqrt(len(x)), right


def draw(model: FlowModel, path: Path) -> float:
    """A picture of samples and of the same denoised; seconds that the samples took."""
    labels = tf.range(20) % 10
    start = time.perf_counter()
    y = model.flow.sample(context=labels, seed=0)
    seconds = time.perf_counter() - start
    clean = latent.denoise(model.flow, y, NOISE, context=labels)
    both = np.concatenate([y, clean])
    plots.images(both, columns=10, bounds=(-1, 1), path=path)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--model", type=Path, default="runs/tarflow_mnist.keras")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    arguments = parser.parse_args()
    keep_freed_memory()
    x, y = scaled("train")
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), 0).repeat()
    data = data.batch(BATCH, drop_remainder=True)
    options = {"num_classes": 10, "scale": "exp", "normalize": False, "seed": 0}
    flow = flows.tarflow((28, 28, 1), **options)
    parameters = sum(math.prod(v.shape) for v in flow.trainable_variables)
    model = FlowModel(flow, noise=NOISE)
    seconds = train(model, data, arguments.steps)
    arguments.model.parent.mkdir(parents=True, exist_ok=True)
    model.save(arguments.model)
    nats, error, right = bayes(model, *scaled("test", arguments.test))
    sampling = draw(model, RESULTS / "tarflow_mnist.png")
    count = (right * (1 - right) / arguments.test) ** 0.5
    lines = {
        "parameters": f"{parameters:,}",
        f"steps of {BATCH}": f"{arguments.steps:,}",
        "seconds a step": f"{seconds:.2f}",
        "epochs, of 100": f"{arguments.steps * BATCH / len(x):.2f}",
        "nats of a noisy test image": f"{nats:.1f} ± {error:.1f}",
        "class of the highest density is right": f"{right:.3f} ± {count:.3f}",
        "seconds for the first 20 samples": f"{sampling:.1f}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in lines.items())
    where = f"{arguments.test:,} test images; {processor()}."
    table = f"| | |\n|---|---|\n{table}\n\n{where}\n"
    (RESULTS / "tarflow_mnist.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
