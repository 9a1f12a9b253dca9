"""Regression with several answers: a conditional flow beside a Gaussian head.

    python benchmarks/conditional_regression.py [--flow neural_spline_flow]

Bishop 1994, "Mixture Density Networks", section 5: x = y + 0.3 sin(2 pi y) + noise, and
y is to be told from x, where up to three values of it fit. Both models see x through
an encoder of their own, of the same architecture, trained jointly with what follows it.
Prints the held-out log-likelihood of both, with standard errors, and what no Gaussian
and no model at all exceeds but by chance: that of the Gaussian with the true
conditional mean and deviation, and that of the true conditional density; writes
`benchmarks/results/conditional_regression_FLOW.png` and `.json`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from matplotlib.figure import Figure

import tfp_flows
from tfp_flows import flows

RESULTS = Path(__file__).parent / "results"
NOISE = 0.05
# Arguments of flows over a single number, which couplings cannot transform.
FLOWS = {
    "planar": {"layers": 8, "width": 32},
    "neural_spline_flow": {"autoregressive": True, "layers": 2, "width": 32},
}


def curve(y):
    return y + 0.3 * np.sin(2 * np.pi * y)


def make_data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`x` and `y`, `[n, 1]`, with y uniform in (0, 1)."""
    draw = np.random.default_rng(seed)
    y = draw.uniform(size=(n, 1))
    x = curve(y) + NOISE * draw.standard_normal((n, 1))
    return x.astype("float32"), y.astype("float32")


LINE = np.linspace(0, 1, 2001)


def likelihood(x, y):
    """Up to a factor, p(x | y), which is p(y | x) as well where y is in (0, 1)."""
    return np.exp(-0.5 * ((x - curve(y)) / NOISE) ** 2)


def true_log_prob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(y | x) of the process that makes the data, `[n]`."""
    inside = ((y > 0) & (y < 1))[:, 0]
    with np.errstate(divide="ignore"):
        ratio = likelihood(x, y)[:, 0] / likelihood(x, LINE).mean(-1)
        return np.where(inside, np.log(ratio), -np.inf)


def best_gaussian_log_prob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log N(y; m(x), s(x)^2) with the true conditional mean and deviation, `[n]`.

    On average over x no Gaussian does better.
    """
    weights = likelihood(x, LINE)
    weights /= weights.sum(-1, keepdims=True)
    mean = weights @ LINE
    variance = weights @ LINE**2 - mean**2
    return -0.5 * ((y[:, 0] - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def encoder(seed: int) -> keras.Sequential:
    """A network from x to features."""
    return keras.Sequential(
        [
            keras.layers.Rescaling(4.0, offset=-2.0),
            *(
                keras.layers.Dense(
                    64,
                    activation="tanh",
                    kernel_initializer=keras.initializers.GlorotNormal(seed + i),
                )
                for i in range(2)
            ),
        ]
    )


class GaussianHead:
    """The mean and the deviation of y from the features of x."""

    def __init__(self, seed: int = 0):
        given = keras.Input((1,))
        start = keras.initializers.GlorotNormal(seed)
        head = keras.layers.Dense(2, kernel_initializer=start)
        self.model = keras.Model(given, head(encoder(seed)(given)))

    def fit(self, x, y, learning_rate, **options):
        self.model.compile(keras.optimizers.Adam(learning_rate), self._loss)
        self.model.fit(x, y, **options)

    @staticmethod
    def _loss(y, out):
        mean, log_scale = out[:, :1], out[:, 1:]
        error = (y - mean) * ops.exp(-log_scale)
        return 0.5 * ops.square(error) + log_scale + 0.5 * math.log(2 * math.pi)

    def log_prob(self, x, y) -> np.ndarray:
        out = self.model(x, training=False)
        return -np.asarray(self._loss(tf.constant(y), out))[:, 0]


class FlowHead:
    """A conditional flow over y, its context the features of x."""

    def __init__(self, name: str = "planar", seed: int = 0):
        flow = getattr(flows, name)(
            (1,),
            normalize=True,
            context_shape=(1,),
            context_encoder=encoder(seed),
            seed=seed,
            **FLOWS[name],
        )
        self.model = tfp_flows.FlowModel(flow)

    def fit(self, x, y, learning_rate, **options):
        self.model.compile(keras.optimizers.Adam(learning_rate))
        self.model.fit(y, x, **options)

    def log_prob(self, x, y) -> np.ndarray:
        return np.asarray(self.model.flow.log_prob(y, context=x))


def report(log_probs: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean and standard error of each, and of the flow's lead over the Gaussian."""
    log_probs = {**log_probs, "lead": log_probs["flow"] - log_probs["gaussian"]}
    return {
        name: {
            "mean": float(values.mean()),
            "standard_error": float(values.std(ddof=1) / math.sqrt(len(values))),
        }
        for name, values in log_probs.items()
    }


def picture(log_prob_of: dict, path: Path) -> None:
    """The conditional densities, a column for each x."""
    xs, ys = np.linspace(-0.1, 1.1, 160), np.linspace(-0.1, 1.1, 160)
    x, y = np.meshgrid(xs, ys)
    given = x.reshape(-1, 1).astype("float32"), y.reshape(-1, 1).astype("float32")
    figure = Figure(figsize=(4 * len(log_prob_of), 3.6), layout="constrained")
    axes = figure.subplots(1, len(log_prob_of), sharey=True)
    for ax, (name, log_prob) in zip(axes, log_prob_of.items(), strict=True):
        density = np.exp(log_prob(*given)).reshape(x.shape)
        ax.pcolormesh(xs, ys, density, cmap="magma", vmin=0, vmax=8)
        ax.set(title=name, xlabel="x")
    axes[0].set_ylabel("y")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def run(
    train: int,
    test: int,
    epochs: int,
    flow: str = "planar",
    seed: int = 0,
    verbose: int = 0,
):
    """Trains both; `(heads, report)`."""
    x, y = make_data(train, seed)
    heads = {"gaussian": GaussianHead(seed), "flow": FlowHead(flow, seed)}
    for head in heads.values():
        keras.utils.set_random_seed(seed)
        rate = keras.optimizers.schedules.CosineDecay(
            3e-3, epochs * math.ceil(train / 128)
        )
        head.fit(x, y, rate, batch_size=128, epochs=epochs, verbose=verbose)
    held_out = make_data(test, seed + 1)
    log_probs = {name: head.log_prob(*held_out) for name, head in heads.items()}
    log_probs["best_gaussian"] = best_gaussian_log_prob(*held_out)
    log_probs["truth"] = true_log_prob(*held_out)
    return heads, report(log_probs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flow", choices=FLOWS, default="planar")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    heads, found = run(**given, verbose=2)
    for name, line in found.items():
        print(f"{name:>13}: {line['mean']:.4f} +- {line['standard_error']:.4f} nats")
    path = RESULTS / f"conditional_regression_{given['flow']}.png"
    picture(
        {
            "truth": true_log_prob,
            "Gaussian head": heads["gaussian"].log_prob,
            "flow": heads["flow"].log_prob,
        },
        path,
    )
    path.with_suffix(".json").write_text(
        json.dumps({"settings": given, **found}, indent=2)
    )


if __name__ == "__main__":
    main()
