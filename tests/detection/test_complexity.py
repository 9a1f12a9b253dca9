"""Lengths of codes, and densities corrected by them."""

from __future__ import annotations

import math
import sys
import zlib

import numpy as np
import pytest
import tensorflow_probability as tfp

from tests.support import close
from tfp_flows import detection

tfd = tfp.distributions

NOISE = np.random.default_rng(0).integers(256, size=(28, 28, 1), dtype=np.uint8)
BYTE = 8 * math.log(2)


@pytest.mark.parametrize("codec", ["png", "zlib"])
def test_noise_is_complex(codec):
    black, noise = detection.complexity([NOISE * 0, NOISE], codec)
    assert black < 100 * BYTE
    # Random bytes cannot be compressed.
    assert 784 * BYTE < noise < 900 * BYTE


def test_zlib():
    found = detection.complexity(NOISE[None], "zlib")
    close(found, [BYTE * len(zlib.compress(NOISE.tobytes(), 9))])
    assert detection.complexity([[1.0, 2.0]], "zlib").shape == (1,)


def test_png_can_be_read():
    from tfp_flows.detection.complexity import _png

    for channels in (1, 3):
        image = np.random.default_rng(0).integers(256, size=(5, 4, channels))
        image = image.astype(np.uint8)
        import io

        import PIL.Image

        read = np.asarray(PIL.Image.open(io.BytesIO(_png(image))))
        np.testing.assert_array_equal(read.reshape(image.shape), image)


def test_fractions_are_cut_off():
    draw = np.random.default_rng(0).uniform(size=NOISE.shape)
    for codec in ("png", "zlib"):
        whole = detection.complexity(NOISE[None], codec)
        close(detection.complexity((NOISE + draw)[None], codec), whole)


def test_corrected():
    """Under a uniform density, the complexity is all that is left."""
    zeros = np.zeros((28, 28, 1))
    uniform = tfd.Independent(tfd.Uniform(zeros, zeros + 256), 3)
    x = np.stack([NOISE * 0, NOISE])
    found = detection.complexity_corrected(uniform, x)
    close(found, 784 * BYTE - detection.complexity(x))
    assert found[0] > 0 > found[1]


def test_errors():
    with pytest.raises(ValueError, match="codec must be one of 'png', 'zlib'; got 'j"):
        detection.complexity(NOISE[None], "jpeg")
    with pytest.raises(ValueError, match=r"in \[0, 256\), .* got -1 to 256"):
        detection.complexity([[-0.5, 256.0]], "zlib")
    for shape in ((1, 28, 28), (1, 28, 28, 2)):
        with pytest.raises(ValueError, match=r'codec="png" needs images'):
            detection.complexity(np.zeros(shape))


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"tfp_flows\[data\]"):
        detection.complexity(NOISE[None])
    assert detection.complexity(NOISE[None], "zlib").shape == (1,)
