"""Lines: training over the epochs, curves with labels, numbers in falling order."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from tfp_flows.core.arguments import check_choice
from tfp_flows.plots._figure import (
    BLUE,
    RED,
    Picture,
    distinct_colors,
    finish,
    side_by_side,
)
from tfp_flows.plots._values import check_numbers

__all__ = ["curves", "history", "spectrum"]

_UNITS = {"loss": "nats", "nll": "nats", "bits_per_dim": "bits per dimension"}
_TITLES = {"nll": "negative log-likelihood", "bits_per_dim": "negative log-likelihood"}


def history(
    history: Mapping[str, Sequence[float]],
    *,
    metrics: Sequence[str] = ("nll",),
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws the curves of training and validation over the epochs.

    Values that are NaN or infinite leave gaps. The axis may cut off the highest tenth
    of a curve, if the rest would be flattened otherwise; an arrow then says how high it
    goes.

    Example:
      >>> from tfp_flows import plots
      >>> picture = plots.history({"nll": [2.0, 1.5], "val_nll": [2.1, 1.7]})
      >>> picture.axes[0].get_ylabel()
      'nats'

    Args:
      history: for each metric a list with a number per epoch, that of the validation
        under `val_` and its name: what `FlowModel.fit(...).history` holds.
      metrics: metrics to show, a panel each. `loss` and `nll` are in nats,
        `bits_per_dim` is in bits per dimension.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      TypeError: if `history` is not a dict.
      ValueError: if `metrics` is empty or a string; if a metric is not in `history`,
        has no epochs, or not as many in training as in validation.
    """
    if not isinstance(history, Mapping):
        raise TypeError(
            "history must be a dict of lists, such as model.fit(...).history, got "
            f"{type(history).__name__}."
        )
    if isinstance(metrics, str) or len(metrics) == 0:
        raise ValueError(f"metrics must be one or more names, got {metrics!r}.")
    curves = {metric: _curves(history, metric) for metric in metrics}

    figure, panels = side_by_side(len(curves), (4.8 * len(curves), 3.2))
    for axes, (metric, both) in zip(panels, curves.items(), strict=True):
        for values, label, color in zip(
            both, ("training", "validation"), (BLUE, RED), strict=False
        ):
            epochs = np.arange(1, len(values) + 1)
            # A line through a single epoch, or one between gaps, would not be seen.
            marked = len(values) <= 20 or np.isnan(values).any()
            marker = "o" if marked else None
            axes.plot(epochs, values, color=color, label=label, marker=marker, ms=4)
        limits = _readable_limits(both)
        axes.set_ylim(limits)
        highest = np.nanmax(both) if limits else 0.0
        if limits and highest > limits[1]:
            # To the right of the last epoch that is cut off.
            last = max(
                np.flatnonzero(values > limits[1]).max(initial=0) for values in both
            )
            text = f" \N{UPWARDS ARROW} {highest:.4g}"
            above = axes.get_xaxis_transform()
            axes.text(last + 2, 0.99, text, color="0.4", va="top", transform=above)
        axes.set_xlim(0.5, len(both[0]) + 0.5)
        axes.set(
            xlabel="epoch",
            ylabel=_UNITS.get(metric, metric),
            title=_TITLES.get(metric, metric),
        )
        ticks = MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_locator(ticks)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return finish(figure, path)


def curves(
    x: Any,
    curves: Mapping[str, Any],
    *,
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws lines with a label each: times against sizes, errors against depths.

    Example:
      >>> from tfp_flows import plots
      >>> picture = plots.curves([1, 2, 4], {"a": [1, 2, 4], "b": [1, 4, 16]}, log="xy")
      >>> picture.axes[0].get_xscale()
      'log'

    Args:
      x: N numbers.
      curves: N numbers for each label; those that are NaN leave gaps.
      xlabel: label of the horizontal axis, with its unit.
      ylabel: label of the vertical axis, with its unit.
      log: the axes that are logarithmic: `""`, `"x"`, `"y"` or `"xy"`.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      ValueError: on another `log`, no curves, or numbers of another shape.
    """
    check_choice("log", log, ("", "x", "y", "xy"))
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"x must be [N], got shape {list(x.shape)}.")
    lines = {k: np.asarray(v, np.float64) for k, v in curves.items()}
    for name, y in lines.items():
        if y.shape != x.shape:
            raise ValueError(
                f"curves must hold {list(x.shape)} numbers, got {list(y.shape)} for "
                f"{name!r}."
            )
    return finish(
        _lines({k: (x, y) for k, y in lines.items()}, xlabel, ylabel, log), path
    )


def spectrum(
    values: Any,
    *,
    ylabel: str = "value",
    log: bool = False,
    path: str | os.PathLike | None = None,
) -> Picture:
    """Draws numbers in falling order, to show how many of them matter.

    Example:
      >>> from tfp_flows import plots
      >>> plots.spectrum([0.1, 3.0, 1.0], ylabel="scale").axes[0].get_xlabel()
      'rank'

    Args:
      values: numbers of any shape (scales of a layer, standard deviations of codes), or
        a dict of several such sets with their labels (a level each).
      ylabel: label of the vertical axis.
      log: whether the vertical axis is logarithmic; the numbers are then positive.
      path: PNG file to write.

    Returns:
      The figure.

    Raises:
      ValueError: if there are no numbers, one is NaN or infinite, or (with `log`) not
        positive.
    """
    sets = values if isinstance(values, Mapping) else {"": values}
    sets = {k: np.sort(check_numbers("values", k, v))[::-1] for k, v in sets.items()}
    if not sets:
        raise ValueError("values must hold at least one set of numbers.")
    if log and min(v[-1] for v in sets.values()) <= 0:
        raise ValueError("values must be positive on a logarithmic axis.")
    lines = {k: (np.arange(1, len(v) + 1), v) for k, v in sets.items()}
    return finish(_lines(lines, "rank", ylabel, "y" if log else ""), path)


def _lines(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    log: str,
) -> Picture:
    if not lines:
        raise ValueError("curves must hold at least one curve.")

    figure, (axes,) = side_by_side(1, (4.8, 3.2))
    for (label, (x, y)), color in zip(
        lines.items(), distinct_colors(len(lines)), strict=True
    ):
        marker = "o" if len(x) <= 20 or np.isnan(y).any() else None
        axes.plot(x, y, color=color, label=label, marker=marker, ms=4)
    axes.set(
        xlabel=xlabel,
        ylabel=ylabel,
        xscale="log" if "x" in log else "linear",
        yscale="log" if "y" in log else "linear",
    )
    if "x" in log:
        # Labels between powers of ten would run into each other.
        axes.xaxis.set_minor_formatter(NullFormatter())
        points = np.unique(np.concatenate([x for x, _ in lines.values()]))
        if len(points) <= 8:
            axes.set_xticks(points, [f"{n:g}" for n in points])
    if "y" in log:
        low, high = axes.get_ylim()
        if high < 100 * low:  # Few powers of ten, if any: numbers between them too.
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if any(lines):
        axes.legend(frameon=False)
    return figure


def _curves(history: Mapping[str, Sequence[float]], metric: str) -> list[np.ndarray]:
    """Numbers per epoch in training and, if there was one, in validation."""
    if metric not in history:
        raise ValueError(
            f"history has no {metric!r}; metrics can be any of "
            f"{[k for k in history if not k.startswith('val_')]}."
        )
    curves = {
        name: np.asarray(history[name], dtype=np.float64)
        for name in (metric, f"val_{metric}")
        if name in history
    }
    length = curves[metric].size
    for name, curve in curves.items():
        if length == 0 or curve.shape != (length,):
            raise ValueError(
                f"history must hold one number per epoch for {name!r}, NaN where there "
                f"is none; got shape {list(curve.shape)} for {max(length, 1)} epoch(s)."
            )
    return [np.where(np.isfinite(curve), curve, np.nan) for curve in curves.values()]


def _readable_limits(curves: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Limits of the vertical axis, or None to leave them to matplotlib."""
    # A flow's first epoch can lie thousands of nats above all others. So the highest
    # tenth of each curve gets at most half of the height, and may leave it at the top.
    rising = [np.sort(curve[~np.isnan(curve)]) for curve in curves]
    rising = [curve for curve in rising if len(curve) > 0]
    if not rising:
        return None
    cut = [math.ceil(len(curve) / 10) if len(curve) > 2 else 0 for curve in rising]
    low = min(curve[0] for curve in rising)
    high = max(curve[-1] for curve in rising)
    rest = max(curve[-1 - n] for curve, n in zip(rising, cut, strict=True))
    if rest == low:
        return None
    high = min(high, 2 * rest - low)
    margin = 0.05 * (high - low)
    return low - margin, high + margin
