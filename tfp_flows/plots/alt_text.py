"""Texts for those who do not see a picture."""

from __future__ import annotations

from typing import overload

from matplotlib.figure import Figure

from tfp_flows.plots._figure import Picture, picture_of, to_pixels
from tfp_flows.plots.film import Animation

__all__ = ["describe"]


@overload
def describe(picture: Figure, alt: str) -> Picture: ...
@overload
def describe(picture: Animation, alt: str) -> Animation: ...
def describe(picture: Figure | Animation, alt: str) -> Picture | Animation:
    """Gives a picture a text for those who do not see it.

    A notebook stores it with the picture, screen readers say it, and it stands in the
    picture's place where that cannot be shown.

    Args:
      picture: a figure, also one of matplotlib's own, or an `Animation`.
      alt: what there is to see.

    Returns:
      `picture` itself; for a figure of matplotlib's own, which cannot hold a text, a
      `Picture` of it, pixel for pixel.

    Raises:
      TypeError: if `picture` is neither a figure nor an `Animation`.
      ValueError: if `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what there is to see; it is empty.")
    if not isinstance(picture, (Figure, Animation)):
        raise TypeError(
            f"picture must be a figure or an Animation, got {type(picture).__name__}."
        )
    if not isinstance(picture, (Picture, Animation)):
        picture, _ = picture_of(to_pixels(picture))
    picture.alt = alt
    return picture
