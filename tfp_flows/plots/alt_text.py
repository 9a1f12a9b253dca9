"""Alternative texts for pictures."""

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
    """Gives a picture an alternative text, for people who cannot see it.

    A notebook stores the text with the picture. Screen readers read it out, and it is
    shown where the picture cannot be shown.

    Example:
      >>> from tfp_flows import plots
      >>> picture = plots.spectrum([3.0, 1.0])
      >>> plots.describe(picture, "Two numbers, falling from 3 to 1.").alt
      'Two numbers, falling from 3 to 1.'

    Args:
      picture: a figure, also one of matplotlib's own, or an `Animation`.
      alt: the text: what there is to see.

    Returns:
      `picture` itself. A figure of matplotlib's own cannot hold a text: for it, a
      `Picture` with the same pixels.

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
