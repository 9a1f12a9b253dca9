"""Scores corrected by how well data compress."""

from __future__ import annotations

import io
import math
import zlib
from typing import Any

import numpy as np

from tfp_flows.core.arguments import check_choice, check_real
from tfp_flows.core.extras import needs
from tfp_flows.detection.scores import negative_log_likelihood
from tfp_flows.distributions import Flow

__all__ = ["complexity", "complexity_corrected"]


def complexity(x: Any, codec: str = "png") -> np.ndarray:
    r"""The length in nats of a lossless code of each event, $8 \log 2$ for a byte.

    Example:
      >>> import numpy as np
      >>> noise = np.random.default_rng(0).integers(256, size=(28, 28, 1))
      >>> (complexity([noise * 0, noise]) / (784 * np.log(2))).round(1)  # bits
      array([0.7, 9. ])

    Args:
      x: data `[N, *event_shape]`: bytes from 0 to 255. Fractions are cut off, so that
        dequantised data are coded without their noise.
      codec: `"png"` for images `[N, H, W, 1 or 3]`, by Pillow; or `"zlib"` for events
        of any shape. Each adds a header of constant length.

    Returns:
      float64 `[N]`, in nats.

    Raises:
      TypeError: if `x` does not hold real numbers.
      ValueError: on another codec, numbers that are not in [0, 256), or a shape that is
        not one of images for `"png"`.
      ImportError: if Pillow is not installed, for `"png"`.
    """
    check_choice("codec", codec, ("png", "zlib"))
    check_real("x", x)
    x = np.floor(np.asarray(x))
    if x.size and not (x.min() >= 0 and x.max() < 256):
        raise ValueError(
            f"x must be in [0, 256), as bytes are, got {x.min():g} to {x.max():g}."
        )
    x = x.astype(np.uint8)
    if codec == "zlib":
        code = _zlib
    else:
        if x.ndim != 4 or x.shape[-1] not in (1, 3):
            raise ValueError(
                f'codec="png" needs images [N, H, W, 1 or 3], got shape {x.shape}; '
                '"zlib" takes all.'
            )
        with needs("data"):
            import PIL.Image  # noqa: F401
        code = _png
    return np.array([8 * math.log(2.0) * len(code(event)) for event in x])


def complexity_corrected(
    flow: Flow,
    x: Any,
    codec: str = "png",
    *,
    context: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    r"""$-\log p(x) - L(x)$ in nats, with $L$ the `complexity` of the data.

    A log-likelihood ratio against the compressor, as a model of all images (Serrà et
    al. 2020, "Input complexity and out-of-distribution detection with likelihood-based
    generative models", equation 2, there in bits).

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((4, 4, 1), width=4, bounds=(0, 256), seed=0)
      >>> complexity_corrected(flow, flow.sample(2, seed=0) % 256).shape
      (2,)

    Args:
      flow: a flow over bytes, with noise in [0, 1) or without.
      x: data `[N, *event_shape]`, in [0, 256).
      codec: see `complexity`.
      context: see `negative_log_likelihood`.
      batch_size: see `negative_log_likelihood`.

    Returns:
      float64 `[N]`.

    Raises:
      ValueError: see `complexity` and `negative_log_likelihood`.
    """
    length = complexity(x, codec)
    options = {"context": context, "batch_size": batch_size}
    return negative_log_likelihood(flow, x, **options) - length


def _zlib(event: np.ndarray) -> bytes:
    return zlib.compress(event.tobytes(), 9)


def _png(event: np.ndarray) -> bytes:
    import PIL.Image

    file = io.BytesIO()
    image = event[..., 0] if event.shape[-1] == 1 else event
    PIL.Image.fromarray(image).save(file, "png", optimize=True)
    return file.getvalue()
