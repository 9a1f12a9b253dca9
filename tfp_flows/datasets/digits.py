"""scikit-learn's handwritten digits as a TensorFlow Datasets builder.

Importing this module imports tensorflow_datasets and registers the builder there, so
that `tfds.load("digits")` works too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

__all__ = ["Digits"]

_TEST_SIZE = 297


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 greyscale digits of 8x8 pixels with 17 levels, in 1,500 + 297 images.

    The images come with scikit-learn (`sklearn.datasets.load_digits`): nothing is
    downloaded. Every class gives the same share of its images to the test split.

    Features: `image` uint8 `[8, 8, 1]` with values 0 to 16, `label` 0 to 9.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository (the part that was its test set).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="8x8 images of handwritten digits with 17 grey levels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            citation=(
                "@misc{alpaydin1998optical, author={Alpaydin, E. and Kaynak, C.}, "
                "title={Optical Recognition of Handwritten Digits}, year={1998}, "
                "publisher={UCI Machine Learning Repository}}"
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = digits.images.astype(np.uint8)[..., None]
        in_test = _every_nth_of_each_class(digits.target, _TEST_SIZE)
        return {
            "train": self._generate_examples(images, digits.target, ~in_test),
            "test": self._generate_examples(images, digits.target, in_test),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        for i in np.flatnonzero(chosen):
            yield int(i), {"image": images[i], "label": int(labels[i])}


def _every_nth_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Chooses `count` of the labels, evenly spaced once they are sorted.

    No random numbers, which would tie the splits to a version of NumPy.

    Returns:
      Boolean array `[len(labels)]`.
    """
    steps = np.arange(len(labels) + 1) * count // len(labels)
    chosen = np.empty(len(labels), dtype=bool)
    chosen[np.argsort(labels, kind="stable")] = np.diff(steps) > 0
    return chosen
