"""What a figure shows, and the pixels of its file."""

from __future__ import annotations

import base64

import numpy as np
from matplotlib.image import imread


def bytes_of(path):
    """A picture read back, RGB in 0..255."""
    return np.rint(imread(path)[..., :3] * 255).astype(int)


def assert_same_size(figure, path):
    width, height = figure.get_size_inches() * figure.dpi
    assert bytes_of(path).shape == (int(height), int(width), 3)


def heat(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def texts(axes):
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


def shown(figure):
    """Picture, text in its place and alternative text, as a notebook stores them."""
    bundle, metadata = figure._repr_mimebundle_()
    alt = metadata.get("image/png", {}).get("alt")
    return base64.b64decode(bundle["image/png"]), bundle["text/plain"], alt
