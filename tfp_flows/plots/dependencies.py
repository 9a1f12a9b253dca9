"""Which number depends on which, in a bijector: who sees whom."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.colors import ListedColormap
from matplotlib.ticker import MaxNLocator
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.arguments import check_choice, check_shape
from tfp_flows.plots._figure import (
    BLUE,
    ORANGE,
    Picture,
    finish,
    side_by_side,
    trim,
)
from tfp_flows.plots._values import check_titles, data_shape

__all__ = ["dependencies"]

# Entries of an event whose matrix can be read.
_LARGEST = 64

# Events at which is tried whether a result changes, and how much of its size counts.
_EVENTS, _CHANGES = 6, 1e-5


def dependencies(
    bijectors: Any,
    *,
    event_shape: Sequence[int] | None = None,
    direction: str = "forward",
    titles: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Shows which entries of the result depend on which entries of the input.

    Row i and column j are coloured if result i changes with input j, orange where both
    are the same entry and blue elsewhere: the pattern of the Jacobian that is not zero.
    It is found by trying: each input is replaced at several random points. All trained
    variables get random values for that time, since networks that start at zero would
    hide what they see. Images are counted row by row.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import bijectors, masks, networks, plots
      >>> one = bijectors.AdditiveCoupling(masks.half(4), networks.MLP(2, [8]))
      >>> picture = plots.dependencies(one)
      >>> np.array(picture.axes[0].images[0].get_array()).clip(max=1)
      array([[1, 0, 0, 0],
             [0, 1, 0, 0],
             [1, 1, 1, 0],
             [1, 1, 0, 1]])

    Args:
      bijectors: a bijector or several, with events of at most 64 entries. A context,
        where one is taken, is zero.
      event_shape: shape of what goes in, for bijectors that do not say.
      direction: `"forward"`, data from noise, or `"inverse"`.
      titles: a title for each.
      path: PNG file to write.

    Returns:
      The figure, with a panel for each bijector.

    Raises:
      TypeError: if one is no bijector.
      ValueError: on another `direction`, an unknown or too large event shape, or a
        wrong number of titles.
    """
    check_choice("direction", direction, ("forward", "inverse"))
    forward = direction == "forward"
    if isinstance(bijectors, tfb.Bijector):
        bijectors = [bijectors]
    shape = None if event_shape is None else check_shape("event_shape", event_shape)
    patterns = [_pattern(b, shape, forward) for b in bijectors]
    check_titles(titles, len(patterns))

    figure, panels = side_by_side(len(patterns), (2.4 * len(patterns) + 0.4, 2.9))
    for i, (axes, pattern) in enumerate(zip(panels, patterns, strict=True)):
        rows, columns = pattern.shape
        same = np.eye(rows, columns, dtype=int) * pattern
        colors = ListedColormap(["#f2f2f2", BLUE, ORANGE])
        axes.imshow(pattern + same, cmap=colors, vmin=0, vmax=2)
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=min(1.2, 16 / max(rows, columns)))
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        names = ("$z_j$", "$x_i$") if forward else ("$x_j$", "$z_i$")
        axes.set(xlabel=f"input {names[0]}", ylabel=f"result {names[1]}")
        axes.set_title("" if titles is None else titles[i], fontsize="medium")
    trim(figure)
    return finish(figure, path)


def _pattern(bijector: Any, shape: tuple[int, ...] | None, forward: bool) -> np.ndarray:
    """`[results, inputs]`: 1 where a result changes with an input, else 0."""
    if not isinstance(bijector, tfb.Bijector):
        raise TypeError(
            f"bijectors must be bijectors, got {type(bijector).__name__}; take the "
            "bijector of a flow, flow.bijector."
        )
    shape = _input_shape(bijector, forward) if shape is None else shape
    size = math.prod(shape)
    if size > _LARGEST:
        raise ValueError(
            f"event_shape must have at most {_LARGEST} entries, got {tuple(shape)}: "
            "take a smaller flow of the same kind."
        )
    draw = np.random.default_rng(0)
    # Each event, and copies of it with one entry replaced.
    events = draw.uniform(0.1, 0.9, (_EVENTS, 1, size)).repeat(size + 1, 1)
    every = np.arange(size)
    events[:, 1 + every, every] = draw.uniform(0.1, 0.9, (_EVENTS, size))
    dtype = bijector.dtype or tf.float32
    values = tf.constant(events.reshape(-1, *shape), dtype)
    context_shape = getattr(bijector, "context_shape", None)
    keywords = (
        {} if context_shape is None else {"context": tf.zeros(context_shape, dtype)}
    )
    with _random(bijector.trainable_variables, draw):
        apply = bijector.forward if forward else bijector.inverse
        results = np.asarray(apply(values, **keywords), np.float64)
    results = results.reshape(_EVENTS, size + 1, -1)
    changes = np.abs(results[:, 1:] - results[:, :1])
    return (changes > _CHANGES * np.abs(results).mean()).any(0).T.astype(int)


def _input_shape(bijector, forward):
    """The event shape that a direction of a bijector takes."""
    shape = data_shape(bijector)
    if shape is None:
        raise ValueError(
            f"event_shape is needed: {bijector.name} does not say what it takes."
        )
    return tuple(bijector.inverse_event_shape(shape)) if forward else shape


@contextlib.contextmanager
def _random(variables: Sequence[tf.Variable], draw: Any) -> Iterator[None]:
    """Random numbers in variables, which have their values again afterwards."""
    before = [v.numpy() for v in variables]
    try:
        for v, value in zip(variables, before, strict=True):
            v.assign(value + 0.3 * draw.standard_normal(value.shape))
        yield
    finally:
        for v, value in zip(variables, before, strict=True):
            v.assign(value)
