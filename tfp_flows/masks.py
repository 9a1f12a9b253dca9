"""Boolean masks for coupling layers: `True` is kept, `False` is transformed.

A mask has the rank of the event; a dimension of size 1 broadcasts. `~mask` swaps the
two parts. Vectors are `[D]`, images `[H, W, C]`.
"""

from __future__ import annotations

import math

import numpy as np

from tfp_flows.core.arguments import check_integer

__all__ = ["alternating", "channel", "checkerboard", "copy_channel", "half"]


def half(size: int) -> np.ndarray:
    """Keeps the first half of a vector (the larger one if `size` is odd).

    Dinh et al. 2014, section 3.2.

    Args:
      size: number of entries of the vector.

    Returns:
      Boolean array `[size]`.

    Raises:
      ValueError: if there are fewer than two entries to divide.
      TypeError: if `size` is not a whole number.

    Example:
      >>> half(5)
      array([ True,  True,  True, False, False])
    """
    size = check_integer("size", size, at_least=0)
    _require_two(size, "size")
    return np.arange(size) < (size + 1) // 2


def alternating(size: int) -> np.ndarray:
    """Keeps the even positions of a vector: 0, 2, 4, ...

    Dinh et al. 2014, section 5.1 (the even/odd partition of NICE on images).

    Args:
      size: number of entries of the vector.

    Returns:
      Boolean array `[size]`.

    Raises:
      ValueError: if there are fewer than two entries to divide.
      TypeError: if `size` is not a whole number.

    Example:
      >>> alternating(5)
      array([ True, False,  True, False,  True])
    """
    size = check_integer("size", size, at_least=0)
    _require_two(size, "size")
    return np.arange(size) % 2 == 0


def checkerboard(height: int, width: int) -> np.ndarray:
    """Keeps the pixels whose row plus column is even.

    Dinh et al. 2017, section 3.4 and figure 3 (left).

    Args:
      height: number of rows of the image.
      width: number of its columns.

    Returns:
      Boolean array `[height, width, 1]`, the same in every channel.

    Raises:
      ValueError: if there are fewer than two entries to divide.
      TypeError: if one is not a whole number.

    Example:
      >>> checkerboard(2, 3)[..., 0]
      array([[ True, False,  True],
             [False,  True, False]])
    """
    height = check_integer("height", height, at_least=0)
    width = check_integer("width", width, at_least=0)
    _require_two(height * width, "height * width")
    return (np.add.outer(np.arange(height), np.arange(width)) % 2 == 0)[..., None]


def channel(channels: int) -> np.ndarray:
    """Keeps the first half of an image's channels (the larger one if odd).

    Dinh et al. 2017, section 3.4 and figure 3 (right).

    Args:
      channels: number of channels of the image.

    Returns:
      Boolean array `[1, 1, channels]`.

    Raises:
      ValueError: if there are fewer than two entries to divide.
      TypeError: if `channels` is not a whole number.

    Example:
      >>> channel(3)
      array([[[ True,  True, False]]])
    """
    channels = check_integer("channels", channels, at_least=0)
    _require_two(channels, "channels")
    return half(channels)[None, None]


def copy_channel(channels: int, index: int) -> np.ndarray:
    """Keeps one channel of an image and transforms the others.

    Three such layers with index 0, 1 and 2 let every colour of an image depend on
    the two others.

    Args:
      channels: number of channels of the image.
      index: which one is kept, from 0 on.

    Returns:
      Boolean array `[1, 1, channels]`.

    Raises:
      ValueError: if there is only one channel, or none of that index.
      TypeError: if one is not a whole number.

    Example:
      >>> copy_channel(3, 1)
      array([[[False,  True, False]]])
    """
    channels = check_integer("channels", channels, at_least=0)
    index = check_integer("index", index, at_least=-math.inf)
    _require_two(channels, "channels")
    if not 0 <= index < channels:
        raise ValueError(f"index must be in [0, {channels}), got {index}.")
    return (np.arange(channels) == index)[None, None]


def _require_two(size: int, name: str) -> None:
    if size < 2:
        raise ValueError(
            f"{name} must be at least 2, got {size}: a coupling keeps one part of an "
            "event to transform the other, so it needs two or more features."
        )
