"""Digits that a flow draws, guided more and more: how many of them a classifier puts
into the class that was asked for, and how much those of a class vary. Without classes,
attention guides, and the classifier tells how many digits it is sure of.

tfp-flows train digits --flow tarflow --conditional --class-drop 0.1 --epochs 40
python examples/guidance.py runs/digits-tarflow
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from tfp_flows import datasets, latent, training

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
ATTENTION_TEMPERATURE = 4.0


def spread(x, y):
    """The mean variance of pixels within classes."""
    return np.mean([x[y == k].var(0).mean() for k in range(10)])


def main(directory, n=500):
    (x, y), (held_out, labels) = (
        (x.reshape(len(x), -1), y)
        for x, y in (datasets.load("digits").arrays(name) for name in ("train", "test"))
    )
    flow = training.load_model(Path(directory) / "model.keras").flow
    has_classes = flow.context_shape is not None
    classifier = SVC(probability=not has_classes, random_state=0).fit(x, y)
    if has_classes:
        asked = np.arange(n) % 10
        how, meaning = {"context": asked}, "as asked"
    else:
        how = {"n": n, "attention_temperature": ATTENTION_TEMPERATURE}
        meaning = "of which it is sure"

    def share(x, classes):
        if has_classes:
            return classifier.score(x, classes)
        return np.mean(classifier.predict_proba(x).max(-1) > 0.9)

    print(f"of held-out digits, {share(held_out, labels):.3f} {meaning}")
    found = {}
    for weight in WEIGHTS:
        drawn = latent.guided_sample(flow, weight=weight, seed=0, **how).numpy()
        # Pixels are from 0 to 16; noise has been added to them.
        drawn = np.clip(np.floor(drawn), 0, 16).reshape(n, -1)
        classes = asked if has_classes else classifier.predict(drawn)
        hits = share(drawn, classes)
        error = (hits * (1 - hits) / n) ** 0.5
        found[weight] = hits, spread(drawn, classes) / spread(x, y)
        print(
            f"weight {weight}: {hits:.3f} +- {error:.3f} {meaning}, variance "
            f"{found[weight][1]:.2f} of that of data",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
