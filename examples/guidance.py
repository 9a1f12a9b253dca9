"""Digits that a flow draws given their class, guided more and more: how many of them a
classifier puts into the class that was asked for, and how much those of a class vary.

tfp-flows train digits --flow tarflow --conditional --class-drop 0.1 --epochs 40
python examples/guidance.py runs/digits-tarflow
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from tfp_flows import datasets, latent, training

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)


def spread(x, y):
    """The mean variance of pixels within classes."""
    return np.mean([x[y == k].var(0).mean() for k in range(10)])


def main(directory, n=500):
    (x, y), (held_out, labels) = (
        datasets.load("digits").arrays(name) for name in ("train", "test")
    )
    classifier = SVC().fit(x.reshape(len(x), -1), y)
    right = classifier.score(held_out.reshape(len(held_out), -1), labels)
    print(f"the classifier has {right:.3f} of held-out digits right")
    flow = training.load_model(Path(directory) / "model.keras").flow
    asked, found = np.arange(n) % 10, {}
    for weight in WEIGHTS:
        drawn = latent.guided_sample(flow, asked, weight, seed=0).numpy()
        # Pixels are from 0 to 16; noise has been added to them.
        drawn = np.clip(np.floor(drawn), 0, 16)
        hits = classifier.score(drawn.reshape(n, -1), asked)
        error = (hits * (1 - hits) / n) ** 0.5
        found[weight] = hits, spread(drawn, asked) / spread(x, y)
        print(
            f"weight {weight}: {hits:.3f} +- {error:.3f} as asked, variance "
            f"{found[weight][1]:.2f} of that of data",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
