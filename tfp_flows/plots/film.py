"""Films of figures, also of a model while it trains."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.plots._figure import to_pixels

__all__ = ["Animation", "Frames", "animate"]


def animate(
    frames: Sequence[Any],
    *,
    fps: float = 10,
    hold: float = 1.0,
    width: int | None = None,
    path: str | os.PathLike | None = None,
) -> Animation:
    """Makes a film of figures.

    Frames of several sizes are padded with white; better give all figures the same
    limits (`warped_grid(limits=...)`, `density(top=...)`).

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> film = plots.animate(np.zeros((3, 40, 60, 3), np.uint8), fps=5, hold=0)
      >>> film.to_html()[:26]
      '<img src="data:image/gif;b'

    Args:
      frames: figures, or pictures `[H, W, 3]` of bytes.
      fps: frames per second, more than 0 and at most 50.
      hold: seconds for which the last frame stays before the film starts again.
      width: pixels to which wider frames are made smaller, for a file that is.
      path: GIF file to write.

    Returns:
      An `Animation`, which plays at the end of a notebook cell.

    Raises:
      TypeError: if a frame is neither a figure nor such a picture, or `fps`, `hold` or
        `width` no number of its kind.
      ValueError: if there are no frames, or on another `fps`, `hold`, `width` or
        ending of `path`.
    """
    check_number("fps", fps, above=0, at_most=50)
    check_number("hold", hold, at_least=0)
    if width is not None:
        width = check_integer("width", width)
    pictures = [_frame(frame) for frame in frames]
    if not pictures:
        raise ValueError("frames must hold at least one frame.")
    size = np.max([picture.shape[:2] for picture in pictures], axis=0)
    pictures = [
        np.pad(
            picture,
            [*((0, n - m) for n, m in zip(size, picture.shape, strict=False)), (0, 0)],
            constant_values=255,
        )
        for picture in pictures
    ]
    if width is not None:
        pictures = [_shrink(picture, width) for picture in pictures]
    animation = Animation(pictures, fps, hold)
    if path is not None:
        animation.save(path)
    return animation


class Animation:
    """A film of frames, as an animated GIF; it plays in a notebook, a stored one too.

    `animate` makes one.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import plots
      >>> plots.animate(np.zeros((3, 40, 60, 3), np.uint8), fps=5)
      Animation(3 frames of 60x40, 5 fps)

    Attributes:
      frames: pictures `[H, W, 3]`, bytes, of one size.
      fps: frames per second.
      gif: the file's bytes.
      alt: a text that says what there is to see; `describe` sets it.

    Args:
      frames: pictures `[H, W, 3]`, bytes, of one size.
      fps: frames per second.
      hold: seconds for which the last frame stays.
    """

    alt = "animation"

    def __init__(self, frames: Sequence[np.ndarray], fps: float, hold: float):
        self.frames, self.fps = list(frames), fps
        pictures = [
            Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
            for frame in self.frames
        ]
        # Viewers count in hundredths of a second.
        durations = [10 * round(100 / fps)] * len(pictures)
        durations[-1] += 10 * round(100 * hold)
        file = io.BytesIO()
        pictures[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
        )
        self.gif = file.getvalue()

    def save(self, path: str | os.PathLike) -> None:
        """Writes the film to a file.

        Args:
          path: name of the file, which ends in `.gif`.

        Raises:
          ValueError: on another ending.
        """
        if Path(path).suffix.lower() != ".gif":
            raise ValueError(f"path must end in .gif, got {os.fspath(path)!r}.")
        Path(path).write_bytes(self.gif)

    def to_html(self) -> str:
        """Returns an `<img>` element that holds the film itself."""
        data = base64.b64encode(self.gif).decode("ascii")
        alt = html.escape(self.alt)
        return f'<img src="data:image/gif;base64,{data}" alt="{alt}">'

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self):
        height, width, _ = self.frames[0].shape
        return (
            f"Animation({len(self.frames)} frames of {width}x{height}, {self.fps} fps)"
        )


class Frames(keras.callbacks.Callback):
    """A Keras callback that draws a frame before training and after epochs of it.

        frames = plots.Frames(lambda: plots.density(model.flow.log_prob, top=0.2))
        model.fit(x, epochs=50, callbacks=[frames])
        frames.animate()

    Example:
      >>> from tfp_flows import plots
      >>> frames = plots.Frames(lambda: plots.curves([1, 2], {"error": [0.3, 0.1]}))
      >>> frames.on_train_begin()
      >>> type(frames.animate()), len(frames.frames)
      (<class 'tfp_flows.plots.film.Animation'>, 1)

    Args:
      draw: gives a figure of the model as it is.
      every: number of epochs from one frame to the next.

    Raises:
      TypeError: if `every` is not an integer.
      ValueError: if `every` is less than 1.
    """

    def __init__(self, draw: Callable[[], Figure], every: int = 1):
        super().__init__()
        self.draw, self.every = draw, check_integer("every", every)
        self.frames: list[np.ndarray] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.frames.append(_frame(self.draw()))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.every == 0:
            self.frames.append(_frame(self.draw()))

    def animate(self, **options: Any) -> Animation:
        """Makes a film of the frames so far.

        Args:
          **options: see the function `animate`.

        Returns:
          An `Animation`.

        Raises:
          TypeError: on an option that is no number of its kind.
          ValueError: if there are no frames, or on an option out of range.
        """
        return animate(self.frames, **options)


def _frame(frame: Any) -> np.ndarray:
    """A figure as a picture `[H, W, 3]` of bytes."""
    if isinstance(frame, Figure):
        return to_pixels(frame)
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise TypeError(
            "frames must be figures or pictures [H, W, 3] of dtype uint8, got "
            f"{frame.dtype} of shape {list(frame.shape)}."
        )
    return frame


def _shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture `[H, W, 3]` at most that wide."""
    scale = width / picture.shape[1]
    if scale >= 1:
        return picture
    size = width, max(round(scale * picture.shape[0]), 1)
    image = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)
